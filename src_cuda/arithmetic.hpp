// Functions of numbers that compilers for hosts and devices name differently.
#pragma once

#include <cmath>

#if defined(__CUDACC__)
#define SKDEJAVID_INLINE __host__ __device__ __forceinline__
#else
#define SKDEJAVID_INLINE inline __attribute__((always_inline))
#endif

namespace skdejavid {
namespace SKDEJAVID_ISA {  // one copy per instruction set, so that the linker cannot mix them

#if defined(__CUDA_ARCH__)
SKDEJAVID_INLINE float square_root(float x) { return ::sqrtf(x); }
SKDEJAVID_INLINE double square_root(double x) { return ::sqrt(x); }
SKDEJAVID_INLINE float exponential(float x) { return ::expf(x); }
SKDEJAVID_INLINE double exponential(double x) { return ::exp(x); }
#else
SKDEJAVID_INLINE float square_root(float x) { return __builtin_sqrtf(x); }
SKDEJAVID_INLINE double square_root(double x) { return __builtin_sqrt(x); }
SKDEJAVID_INLINE float exponential(float x) { return __builtin_expf(x); }
SKDEJAVID_INLINE double exponential(double x) { return __builtin_exp(x); }
#endif

/// a * b + c, rounded once.
SKDEJAVID_INLINE float multiply_add(float a, float b, float c) { return ::fmaf(a, b, c); }
SKDEJAVID_INLINE double multiply_add(double a, double b, double c) { return ::fma(a, b, c); }

#if !defined(__CUDACC__)
/// The same for each number of a register; the product is rounded as well where the instruction set
/// has no fused operation.
template <typename Register>
SKDEJAVID_INLINE Register multiply_add(Register a, Register b, Register c) {
    return a * b + c;
}
#endif

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
