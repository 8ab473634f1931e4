// Entry points of the CUDA backend. Each align_cuda_<type>.cu instantiates them for one type, so
// that the types compile in parallel.
#pragma once

#include "adam_kernel.cuh"
#include "align_cuda.hpp"
#include "barycenter_kernel.cuh"
#include "cost_kernel.cuh"
#include "frame_gradient_kernel.cuh"
#include "parameter_gradient_kernel.cuh"
#include "path_kernel.cuh"
#include "path_sums_kernel.cuh"

namespace skdejavid {

template <typename Real, typename Stored>
std::size_t CudaBackend<Real, Stored>::align_bytes(const CudaProblem<Real, Stored>& problem,
                                                   bool with_runs) {
    return device::PathWorkspace<Real>(problem, with_runs).n_bytes();
}

template <typename Real, typename Stored>
void CudaBackend<Real, Stored>::align(const CudaProblem<Real, Stored>& problem, Queue queue,
                                      bool diagonal, double* distances, Run* runs,
                                      void* workspace) {
    auto* memory = static_cast<unsigned char*>(workspace);
    device::start_costs(problem, queue, reinterpret_cast<Real*>(memory));
    device::start_paths(problem, queue, diagonal, distances, runs, memory,
                        device::PathWorkspace<Real>(problem, runs != nullptr));
}

template <typename Real, typename Stored>
std::size_t CudaBackend<Real, Stored>::along_bytes(const CudaProblem<Real, Stored>& problem) {
    return static_cast<std::size_t>(problem.n_pairs() * device::parts_of_value(problem)) *
           sizeof(double);
}

template <typename Real, typename Stored>
void CudaBackend<Real, Stored>::distances_along(const CudaProblem<Real, Stored>& problem,
                                                Queue queue, const Run* runs, double* distances,
                                                void* workspace) {
    device::start_values(problem, queue, runs, distances, static_cast<double*>(workspace));
}

template <typename Real, typename Stored>
void CudaBackend<Real, Stored>::parameter_gradients(const CudaProblem<Real, Stored>& problem,
                                                    Queue queue, const Run* runs,
                                                    const double* grad_distances, bool adds,
                                                    Real* grad_centroids, Real* grad_weights) {
    device::start_gradients(problem, queue, runs, grad_distances, adds, grad_centroids,
                            grad_weights);
}

template <typename Real, typename Stored>
void CudaBackend<Real, Stored>::sequence_gradients(const CudaProblem<Real, Stored>& problem,
                                                   Queue queue, const Run* runs,
                                                   const double* grad_distances,
                                                   Real* grad_frames) {
    device::start_frame_gradients(problem, queue, runs, grad_distances, grad_frames);
}

template <typename Real, typename Stored>
void CudaBackend<Real, Stored>::barycenters(const CudaProblem<Real, Stored>& problem, Queue queue,
                                            const Run* runs, const double* sample_weights,
                                            Real* means) {
    device::start_barycenters(problem, queue, runs, sample_weights, means);
}

template <typename Real>
void cuda_adam(const CudaAdamStep<Real>& step, Queue queue) {
    device::start_adam(step, queue);
}

}  // namespace skdejavid
