// Derivatives of distances along given paths by the frames of the sequences, with which encoders
// are trained together with centroids and weights.
#pragma once

#include "on_device.cuh"

namespace skdejavid {
namespace device {

constexpr int kFrameGradientWarps = 8;  // per block, one frame each

template <typename Real, typename Stored>
struct FrameGradientArguments {
    CudaProblem<Real, Stored> problem;
    const Run* runs;
    const double* grad_distances;
    Real* grad_frames;  // (n_frames, parameter_pitch)
};

/// Adds to `sums` what the time step at `offset` contributes to the gradient of a pack of a frame.
template <typename Real, typename Stored>
__device__ __forceinline__ void add_row_gradient(const CudaProblem<Real, Stored>& problem,
                                                 std::int64_t offset, double grad,
                                                 const Pack<Stored, kPackSize<Real>>& frame,
                                                 double (&sums)[kPackSize<Real>]) {
    constexpr int kPack = kPackSize<Real>;
    const auto centroid = load_pack<Real, kPack>(problem.centroids + offset);
    const auto weight = load_pack<Real, kPack>(problem.weights + offset);
#pragma unroll
    for (int v = 0; v < kPack; ++v) {
        const Real derivative =
            derivative_by_frame(weight.numbers[v], centroid.numbers[v], to_real(frame.numbers[v]));
        sums[v] += grad * static_cast<double>(derivative);
    }
}

/// A warp computes one strip of features of one frame, a pack in each lane. It searches the rows of
/// all centroids, 32 at once, for those that are matched to the frame.
template <typename Real, typename Stored>
__global__ void __launch_bounds__(kFrameGradientWarps* kWarp, 4)
    frame_gradient_kernel(const __grid_constant__ FrameGradientArguments<Real, Stored> arguments) {
    constexpr int kPack = kPackSize<Real>;
    const CudaProblem<Real, Stored>& problem = arguments.problem;
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const std::int64_t frame =
        std::int64_t{blockIdx.x} * kFrameGradientWarps + static_cast<int>(threadIdx.x) / kWarp;
    if (frame >= problem.n_frames) return;
    const std::int64_t s = find_sequence(problem.offsets, problem.n_sequences, frame);
    const std::int64_t j = frame - problem.offsets[s];
    const std::int64_t feature = std::int64_t{blockIdx.y} * kWarp * kPack + lane * kPack;
    const bool has_features = feature < problem.parameter_pitch;

    Pack<Stored, kPack> numbers = {};
    if (has_features && feature < problem.value_pitch) {
        const std::int64_t row = problem.starts[s] + j;
        numbers = load_pack<Stored, kPack>(problem.values + row * problem.value_pitch + feature);
    }
    double sums[kPack] = {};
    const std::int64_t n_rows = problem.n_centroids * problem.n_timesteps;
    const Run* runs = arguments.runs + s * n_rows;
    const double* grads = arguments.grad_distances + s * problem.n_centroids;
    for (std::int64_t begin = 0; begin < n_rows; begin += kWarp) {
        bool is_matched = false;
        if (begin + lane < n_rows) {
            const Run run = runs[begin + lane];
            is_matched = run.first <= j && j <= run.last;
        }
        unsigned matched = __ballot_sync(kAllLanes, is_matched);
        while (matched != 0) {
            const std::int64_t row = begin + (31 - __clz(static_cast<int>(matched & -matched)));
            matched &= matched - 1;
            const double grad = grads[row / problem.n_timesteps];
            if (grad == 0.0 || !has_features) continue;
            const std::int64_t offset = row * problem.parameter_pitch + feature;
            add_row_gradient(problem, offset, grad, numbers, sums);
        }
    }
    if (!has_features) return;
    Pack<Real, kPack> gradient;
#pragma unroll
    for (int v = 0; v < kPack; ++v) gradient.numbers[v] = static_cast<Real>(sums[v]);
    *reinterpret_cast<Pack<Real, kPack>*>(arguments.grad_frames + frame * problem.parameter_pitch +
                                          feature) = gradient;
}

template <typename Real, typename Stored>
void start_frame_gradients(const CudaProblem<Real, Stored>& problem, Queue queue, const Run* runs,
                           const double* grad_distances, Real* grad_frames) {
    const FrameGradientArguments<Real, Stored> arguments = {problem, runs, grad_distances,
                                                            grad_frames};
    start(&frame_gradient_kernel<Real, Stored>,
          {ceil_div(problem.n_frames, kFrameGradientWarps),
           ceil_div(problem.n_features, kWarp * kPackSize<Real>)},
          kFrameGradientWarps * kWarp, 0, queue, "the CUDA kernel of gradients by frames",
          arguments);
}

}  // namespace device
}  // namespace skdejavid
