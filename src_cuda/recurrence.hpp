// The mathematics of the time-weighted alignment, written once for host and device.
// The paper's symbols in the words used here: docs/method.md.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define SKDEJAVID_INLINE __host__ __device__ __forceinline__
#elif defined(_MSC_VER)
#define SKDEJAVID_INLINE __forceinline
#else
#define SKDEJAVID_INLINE inline __attribute__((always_inline))
#endif

namespace skdejavid {
namespace SKDEJAVID_ISA {  // one copy per instruction set, so that the linker cannot mix them

/// One term of the cost.
template <typename Real>
SKDEJAVID_INLINE Real weighted_difference(Real weight, Real centroid, Real frame) {
    return weight * std::fabs(centroid - frame);
}

/// The derivative of |x|; 0 at 0, as torch has it.
template <typename Real>
SKDEJAVID_INLINE Real sign(Real x) {
    return Real(x > Real(0)) - Real(x < Real(0));
}

/// The predecessor of a cell (i, j) on the cheapest path; i is a centroid frame, j a sequence
/// frame.
enum class Move : std::uint8_t {
    along_sequence,  // from (i, j - 1)
    along_centroid,  // from (i - 1, j)
    diagonal,        // from (i - 1, j - 1)
};

/// Where the cheapest path to a cell comes from and what it costs up to there.
struct Step {
    double total;
    Move move;
};

/// The one tie rule: a diagonal move, where allowed, wins every tie; a move along the sequence wins
/// over a move along the centroid. So (i - 1, j) is taken only if it is strictly the smallest.
SKDEJAVID_INLINE Step cheapest_step(double along_sequence, double along_centroid, double diagonal,
                                    bool diagonal_allowed) {
    Step step = along_centroid < along_sequence ? Step{along_centroid, Move::along_centroid}
                                                : Step{along_sequence, Move::along_sequence};
    if (diagonal_allowed && diagonal <= step.total) step = Step{diagonal, Move::diagonal};
    return step;
}

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
