// Derivatives of distances along given paths by centroids and weights.
#pragma once

#include "path_runs.cuh"

namespace skdejavid {
namespace device {

/// Computes the gradients of a unit's rows: sums over sequences of grad_distance times the run's
/// sums of slope and deviation (see cost_term.hpp).
template <typename Real, typename Stored>
class GradientVisitor {
 public:
    static constexpr int kUnitRows = 4;
    static constexpr int kWarps = kPathSumWarps;
    using Unit = PathUnit<Real, Stored, kUnitRows>;

    __device__ GradientVisitor(const PathSumArguments<Real, Stored>& arguments, const Unit& unit)
        : arguments_(arguments), unit_(unit), adds_(arguments.adds) {
#pragma unroll
        for (int r = 0; r < kUnitRows; ++r) {
            centroid_[r] = load_row(arguments.problem.centroids, unit, arguments.problem, r);
        }
    }

    __device__ __forceinline__ bool wants(std::int64_t pair) {
        grad_ = static_cast<Real>(arguments_.coefficients[pair]);
        return grad_ != Real(0);
    }

    template <typename Frames>
    __device__ __forceinline__ void visit(int r, const Frames& frames, int begin, int end) {
        Real slopes[kPackSize<Real>] = {};
        Real deviations[kPackSize<Real>] = {};
        for (int j = begin; j <= end; ++j) {
            const auto frame = frames(j);
#pragma unroll
            for (int v = 0; v < kPackSize<Real>; ++v) {
                add_derivatives(centroid_[r].numbers[v], to_real(frame.numbers[v]), slopes[v],
                                deviations[v]);
            }
        }
#pragma unroll
        for (int v = 0; v < kPackSize<Real>; ++v) {
            slopes_[r].numbers[v] = multiply_add(grad_, slopes[v], slopes_[r].numbers[v]);
            deviations_[r].numbers[v] =
                multiply_add(grad_, deviations[v], deviations_[r].numbers[v]);
        }
    }

    /// Adds the sums to the targets after a fixed number of sequences, so that float32 sums do not
    /// become long.
    __device__ __forceinline__ void end_sequence(std::int64_t s, bool is_last) {
        constexpr std::int64_t kSequencesPerSum = 64;
        if (is_last && (s + 1) % kSequencesPerSum == 0 && s + 1 < arguments_.problem.n_sequences) {
            add_to_targets();
        }
    }

    __device__ __forceinline__ void finish() { add_to_targets(); }

 private:
    __device__ __forceinline__ void add_to_targets() {
#pragma unroll
        for (int r = 0; r < kUnitRows; ++r) {
            if (unit_.has_features && r < unit_.n_rows) {
                const std::int64_t offset = unit_.offset(arguments_.problem, r);
                const auto weight =
                    load_row(arguments_.problem.weights, unit_, arguments_.problem, r);
#pragma unroll
                for (int v = 0; v < kPackSize<Real>; ++v) {
                    slopes_[r].numbers[v] *= weight.numbers[v];
                }
                add(arguments_.first_target + offset, slopes_[r]);
                add(arguments_.second_target + offset, deviations_[r]);
            }
            slopes_[r] = {};
            deviations_[r] = {};
        }
        adds_ = true;
    }

    __device__ __forceinline__ void add(Real* target, Pack<Real, kPackSize<Real>> sums) const {
        auto* pack = reinterpret_cast<Pack<Real, kPackSize<Real>>*>(target);
        if (adds_) {
            const auto before = *pack;
#pragma unroll
            for (int v = 0; v < kPackSize<Real>; ++v) sums.numbers[v] += before.numbers[v];
        }
        *pack = sums;
    }

    const PathSumArguments<Real, Stored>& arguments_;
    const Unit& unit_;
    bool adds_;
    Real grad_ = Real(0);
    Pack<Real, kPackSize<Real>> centroid_[kUnitRows];
    Pack<Real, kPackSize<Real>> slopes_[kUnitRows] = {};
    Pack<Real, kPackSize<Real>> deviations_[kUnitRows] = {};
};

template <typename Real, typename Stored>
__global__ void __launch_bounds__(GradientVisitor<Real, Stored>::kWarps* kWarp)
    gradient_kernel(const __grid_constant__ PathSumArguments<Real, Stored> arguments) {
    visit_runs<GradientVisitor<Real, Stored>>(arguments);
}

template <typename Real, typename Stored>
void start_gradients(const CudaProblem<Real, Stored>& problem, Queue queue, const Run* runs,
                     const double* grad_distances, bool adds, Real* grad_centroids,
                     Real* grad_weights) {
    using Visitor = GradientVisitor<Real, Stored>;
    const PathSumArguments<Real, Stored> arguments = {
        problem, runs, grad_distances, adds, grad_centroids, grad_weights, nullptr};
    start(&gradient_kernel<Real, Stored>, path_sum_grid<Visitor>(problem), Visitor::kWarps * kWarp,
          kPathSumSharedBytes<Real, Stored>, queue, "the CUDA kernel of gradients", arguments);
}

}  // namespace device
}  // namespace skdejavid
