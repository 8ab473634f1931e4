// Registers of numbers, as wide as the instruction set provides. Arithmetic is written with GCC's
// vector types (which Clang has too), once for all instruction sets; operations that they lack are
// implemented here for each.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__AVX2__) || defined(__SSE2__)
#include <immintrin.h>
#endif

#include "../arithmetic.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

#if defined(__AVX512F__)
constexpr int kRegisterBytes = 64;
constexpr int kRegisters = 32;
#elif defined(__AVX2__)
constexpr int kRegisterBytes = 32;
constexpr int kRegisters = 16;
#elif defined(__aarch64__)
constexpr int kRegisterBytes = 16;
constexpr int kRegisters = 32;
#else
constexpr int kRegisterBytes = 16;
constexpr int kRegisters = 16;
#endif

template <typename Real>
constexpr int kLanes = kRegisterBytes / static_cast<int>(sizeof(Real));

template <typename Real>
struct LanesOf;
template <>
struct LanesOf<float> {
    typedef float type __attribute__((vector_size(kRegisterBytes)));
};
template <>
struct LanesOf<double> {
    typedef double type __attribute__((vector_size(kRegisterBytes)));
};

template <typename Real>
using Lanes = typename LanesOf<Real>::type;

template <typename Real>
SKDEJAVID_INLINE Lanes<Real> load(const Real* source) {
    Lanes<Real> lanes;
    std::memcpy(&lanes, source, sizeof lanes);
    return lanes;
}

/// Loads `count` < kLanes numbers, followed by zeros; reads no memory after them.
SKDEJAVID_INLINE Lanes<float> load_first(const float* source, int count) {
#if defined(__AVX512F__)
    return (Lanes<float>)_mm512_maskz_loadu_ps((1u << count) - 1u, source);
#elif defined(__AVX2__)
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i wanted = _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane);
    return (Lanes<float>)_mm256_maskload_ps(source, wanted);
#else
    Lanes<float> lanes = {};
    for (int k = 0; k < count; ++k) lanes[k] = source[k];
    return lanes;
#endif
}

SKDEJAVID_INLINE Lanes<double> load_first(const double* source, int count) {
#if defined(__AVX512F__)
    return (Lanes<double>)_mm512_maskz_loadu_pd((1u << count) - 1u, source);
#elif defined(__AVX2__)
    const __m256i lane = _mm256_setr_epi64x(0, 1, 2, 3);
    const __m256i wanted = _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), lane);
    return (Lanes<double>)_mm256_maskload_pd(source, wanted);
#else
    Lanes<double> lanes = {};
    for (int k = 0; k < count; ++k) lanes[k] = source[k];
    return lanes;
#endif
}

/// Copies `n` features to every `stride`-th register from `target` on, padded with zeros.
/// Prefetches from `next`, which a later call copies and which may be in main memory.
template <typename Real>
SKDEJAVID_INLINE void pack(const Real* source, std::int64_t n, Lanes<Real>* target, int stride,
                           const Real* next) {
    const std::int64_t n_whole = n / kLanes<Real>;
    for (std::int64_t v = 0; v < n_whole; ++v) {
        __builtin_prefetch(next + v * kLanes<Real>);
        target[v * stride] = load(source + v * kLanes<Real>);
    }
    const int rest = static_cast<int>(n % kLanes<Real>);
    if (rest > 0) target[n_whole * stride] = load_first(source + n_whole * kLanes<Real>, rest);
}

/// Stores the numbers of any vector as doubles.
template <typename Vector>
SKDEJAVID_INLINE void store_doubles(Vector v, double* target) {
    constexpr int n = sizeof v / sizeof v[0];
    if constexpr (n == 16) {  // twice as many doubles as fit into a register
        store_doubles(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7), target);
        store_doubles(__builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15), target + 8);
    } else {
        typedef double Doubles __attribute__((vector_size(n * sizeof(double))));
        const Doubles doubles = __builtin_convertvector(v, Doubles);
        std::memcpy(target, &doubles, sizeof doubles);
    }
}

/// Returns the sum of all lanes, added by halves.
template <typename Vector>
SKDEJAVID_INLINE auto sum(Vector v) {
    constexpr int n = sizeof v / sizeof v[0];
    if constexpr (n == 16) {
        return sum(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                   __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
    } else if constexpr (n == 8) {
        return sum(__builtin_shufflevector(v, v, 0, 1, 2, 3) +
                   __builtin_shufflevector(v, v, 4, 5, 6, 7));
    } else if constexpr (n == 4) {
        return (v[0] + v[2]) + (v[1] + v[3]);
    } else {
        return v[0] + v[1];
    }
}

/// Writes the sums of four registers, each with the same bits as `sum`, in about the time of two.
template <typename Real>
SKDEJAVID_INLINE void sum_four(const Lanes<Real>& a, const Lanes<Real>& b, const Lanes<Real>& c,
                               const Lanes<Real>& d, double* sums) {
    // Each step adds the two halves of each of two registers and stores both results in one.
    if constexpr (kLanes<Real> == 16) {
        const auto halves = [](auto x, auto y) {
            return __builtin_shufflevector(x, y, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22,
                                           23) +
                   __builtin_shufflevector(x, y, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28,
                                           29, 30, 31);
        };
        const auto ab = halves(a, b);
        const auto cd = halves(c, d);
        auto abcd = __builtin_shufflevector(ab, cd, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24,
                                            25, 26, 27) +
                    __builtin_shufflevector(ab, cd, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28,
                                            29, 30, 31);
        abcd += __builtin_shufflevector(abcd, abcd, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15,
                                        12, 13);
        abcd += __builtin_shufflevector(abcd, abcd, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12,
                                        15, 14);
        store_doubles(__builtin_shufflevector(abcd, abcd, 0, 4, 8, 12), sums);
    } else if constexpr (kLanes<Real> == 8) {
        const auto halves = [](auto x, auto y) {
            return __builtin_shufflevector(x, y, 0, 1, 2, 3, 8, 9, 10, 11) +
                   __builtin_shufflevector(x, y, 4, 5, 6, 7, 12, 13, 14, 15);
        };
        const auto ab = halves(a, b);
        const auto cd = halves(c, d);
        auto acbd = __builtin_shufflevector(ab, cd, 0, 1, 8, 9, 4, 5, 12, 13) +
                    __builtin_shufflevector(ab, cd, 2, 3, 10, 11, 6, 7, 14, 15);
        acbd += __builtin_shufflevector(acbd, acbd, 1, 0, 3, 2, 5, 4, 7, 6);
        store_doubles(__builtin_shufflevector(acbd, acbd, 0, 4, 2, 6), sums);
    } else if constexpr (kLanes<Real> == 4) {
        const auto halves = [](auto x, auto y) {
            return __builtin_shufflevector(x, y, 0, 1, 4, 5) +
                   __builtin_shufflevector(x, y, 2, 3, 6, 7);
        };
        const auto ab = halves(a, b);
        const auto cd = halves(c, d);
        store_doubles(__builtin_shufflevector(ab, cd, 0, 2, 4, 6) +
                          __builtin_shufflevector(ab, cd, 1, 3, 5, 7),
                      sums);
    } else {
        store_doubles(__builtin_shufflevector(a, b, 0, 2) + __builtin_shufflevector(a, b, 1, 3),
                      sums);
        store_doubles(__builtin_shufflevector(c, d, 0, 2) + __builtin_shufflevector(c, d, 1, 3),
                      sums + 2);
    }
}

/// Returns an integer whose bit k is set where a[k] < b[k].
SKDEJAVID_INLINE unsigned less(Lanes<double> a, Lanes<double> b) {
#if defined(__AVX512F__)
    return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_LT_OQ);
#elif defined(__AVX2__)
    return _mm256_movemask_pd(_mm256_cmp_pd((__m256d)a, (__m256d)b, _CMP_LT_OQ));
#elif defined(__SSE2__)
    return _mm_movemask_pd(_mm_cmplt_pd((__m128d)a, (__m128d)b));
#else
    unsigned bits = 0;
    for (int k = 0; k < kLanes<double>; ++k) bits |= unsigned{a[k] < b[k]} << k;
    return bits;
#endif
}

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
