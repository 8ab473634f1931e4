// Entry points of the CUDA backend for ctypes. Each returns null or an error message.
#include <exception>
#include <string>

#include "align_cuda_double.cu"
#include "align_cuda_float.cu"
#include "align_cuda_half.cu"
#include "cuda_emulation.hpp"

namespace {

using skdejavid::CudaAdamStep;
using skdejavid::CudaBackend;
using skdejavid::CudaProblem;
using skdejavid::Queue;
using skdejavid::Run;

std::string message;

template <typename Work>
const char* guarded(const Work& work) {
    try {
        work();
        return nullptr;
    } catch (const std::exception& error) {
        message = error.what();
        return message.c_str();
    }
}

const Queue kQueue = {0, nullptr};

}  // namespace

extern "C" void set_order(unsigned order) { cuda_emulation::set_order(order); }

#define ENTRY_POINTS(name, Real, Stored)                                                           \
    extern "C" std::size_t align_bytes_##name(const CudaProblem<Real, Stored>* problem,            \
                                              bool with_runs) {                                    \
        return CudaBackend<Real, Stored>::align_bytes(*problem, with_runs);                        \
    }                                                                                              \
    extern "C" const char* align_##name(const CudaProblem<Real, Stored>* problem, bool diagonal,   \
                                        double* distances, Run* runs, void* workspace) {           \
        return guarded([=] {                                                                       \
            CudaBackend<Real, Stored>::align(*problem, kQueue, diagonal, distances, runs,          \
                                             workspace);                                           \
        });                                                                                        \
    }                                                                                              \
    extern "C" std::size_t along_bytes_##name(const CudaProblem<Real, Stored>* problem) {          \
        return CudaBackend<Real, Stored>::along_bytes(*problem);                                   \
    }                                                                                              \
    extern "C" const char* distances_along_##name(const CudaProblem<Real, Stored>* problem,        \
                                                  const Run* runs, double* distances,              \
                                                  void* workspace) {                               \
        return guarded([=] {                                                                       \
            CudaBackend<Real, Stored>::distances_along(*problem, kQueue, runs, distances,          \
                                                       workspace);                                 \
        });                                                                                        \
    }                                                                                              \
    extern "C" const char* parameter_gradients_##name(                                             \
        const CudaProblem<Real, Stored>* problem, const Run* runs, const double* grads, bool adds, \
        Real* by_centroids, Real* by_weights) {                                                    \
        return guarded([=] {                                                                       \
            CudaBackend<Real, Stored>::parameter_gradients(*problem, kQueue, runs, grads, adds,    \
                                                           by_centroids, by_weights);              \
        });                                                                                        \
    }                                                                                              \
    extern "C" const char* sequence_gradients_##name(const CudaProblem<Real, Stored>* problem,     \
                                                     const Run* runs, const double* grads,         \
                                                     Real* by_frames) {                            \
        return guarded([=] {                                                                       \
            CudaBackend<Real, Stored>::sequence_gradients(*problem, kQueue, runs, grads,           \
                                                          by_frames);                              \
        });                                                                                        \
    }                                                                                              \
    extern "C" const char* barycenters_##name(const CudaProblem<Real, Stored>* problem,            \
                                              const Run* runs, const double* sample_weights,       \
                                              Real* means) {                                       \
        return guarded([=] {                                                                       \
            CudaBackend<Real, Stored>::barycenters(*problem, kQueue, runs, sample_weights, means); \
        });                                                                                        \
    }

ENTRY_POINTS(float32, float, float)
ENTRY_POINTS(float16, float, skdejavid::Half)
ENTRY_POINTS(float64, double, double)

#define ADAM(name, Real)                                                      \
    extern "C" const char* adam_step_##name(const CudaAdamStep<Real>* step) { \
        return guarded([=] { skdejavid::cuda_adam<Real>(*step, kQueue); });   \
    }

ADAM(float32, float)
ADAM(float64, double)
