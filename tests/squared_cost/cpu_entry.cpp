// Entry points of the CPU backend for ctypes, for the instruction set INSTRUCTION_SET.
#include "align.hpp"

namespace skdejavid {
namespace INSTRUCTION_SET {
template <typename Real>
const Backend<Real>& backend();
}
}  // namespace skdejavid

using skdejavid::Problem;
using skdejavid::Run;

#define ENTRY_POINTS(name, Real)                                                                   \
    extern "C" void align_##name(const Problem<Real>* problem, bool diagonal, double* distances,   \
                                 Run* runs) {                                                      \
        skdejavid::INSTRUCTION_SET::backend<Real>().align(*problem, diagonal, distances, runs);    \
    }                                                                                              \
    extern "C" void distances_along_##name(const Problem<Real>* problem, const Run* runs,          \
                                           double* distances) {                                    \
        skdejavid::INSTRUCTION_SET::backend<Real>().distances_along(*problem, runs, distances);    \
    }                                                                                              \
    extern "C" void parameter_gradients_##name(const Problem<Real>* problem, const Run* runs,      \
                                               const double* grads, Real* by_centroids,            \
                                               Real* by_weights) {                                 \
        skdejavid::INSTRUCTION_SET::backend<Real>().parameter_gradients(*problem, runs, grads,     \
                                                                        by_centroids, by_weights); \
    }                                                                                              \
    extern "C" void sequence_gradients_##name(const Problem<Real>* problem, const Run* runs,       \
                                              const double* grads, Real* by_frames) {              \
        skdejavid::INSTRUCTION_SET::backend<Real>().sequence_gradients(*problem, runs, grads,      \
                                                                       by_frames);                 \
    }

ENTRY_POINTS(float32, float)
ENTRY_POINTS(float64, double)
