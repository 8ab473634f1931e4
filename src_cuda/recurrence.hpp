// Rules of the time-weighted alignment that must not differ between host and device.
// The paper's symbols in the words used here: docs/method.md.
#pragma once

#if defined(__CUDACC__)
#define SKDEJAVID_INLINE __host__ __device__ __forceinline__
#else
#define SKDEJAVID_INLINE inline __attribute__((always_inline))
#endif

namespace skdejavid {
namespace SKDEJAVID_ISA {  // one copy per instruction set, so that the linker cannot mix them

/// The derivative of |x|; 0 at 0, as torch has it.
template <typename Real>
SKDEJAVID_INLINE Real sign(Real x) {
    return Real(x > Real(0)) - Real(x < Real(0));
}

/// The smaller of two totals; the second one among equals. Numbers, or registers of them.
///
/// The one tie rule: a cell (i, j) is reached from the diagonal (i - 1, j - 1), where that is
/// allowed, if it is no worse than the others; from (i - 1, j), along the centroid, only if that is
/// strictly the smallest; else along the sequence, from (i, j - 1).
template <typename Total>
SKDEJAVID_INLINE Total cheaper(Total strictly, Total otherwise) {
    return strictly < otherwise ? strictly : otherwise;
}

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
