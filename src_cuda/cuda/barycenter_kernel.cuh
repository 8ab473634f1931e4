// Barycenters along given paths.
#pragma once

#include "path_runs.cuh"

namespace skdejavid {
namespace device {

/// Computes means of the frames that are matched to a unit's rows, as means of their offsets from
/// the centroid: frames equal to the centroid leave it exactly unchanged.
template <typename Real, typename Stored>
class BarycenterVisitor {
 public:
    static constexpr int kUnitRows = 4;
    static constexpr int kWarps = 8;  // fewer than for other sums: these are in double
    using Unit = PathUnit<Real, Stored, kUnitRows>;

    __device__ BarycenterVisitor(const PathSumArguments<Real, Stored>& arguments, const Unit& unit)
        : arguments_(arguments), unit_(unit) {
#pragma unroll
        for (int r = 0; r < kUnitRows; ++r) {
            centroid_[r] = load_row(arguments.problem.centroids, unit, arguments.problem, r);
        }
    }

    __device__ __forceinline__ bool wants(std::int64_t pair) {
        sample_weight_ = arguments_.coefficients[pair];
        return sample_weight_ != 0.0;
    }

    template <typename Frames>
    __device__ __forceinline__ void visit(int r, const Frames& frames, int begin, int end) {
        for (int j = begin; j <= end; ++j) {
            const auto frame = frames(j);
#pragma unroll
            for (int v = 0; v < kPackSize<Real>; ++v) {
                const double shift = static_cast<double>(to_real(frame.numbers[v])) -
                                     static_cast<double>(centroid_[r].numbers[v]);
                shifts_[r][v] += sample_weight_ * shift;
            }
            n_matched_[r] += sample_weight_;
        }
    }

    __device__ __forceinline__ void end_sequence(std::int64_t, bool) {}

    __device__ __forceinline__ void finish() {
        if (!unit_.has_features) return;
#pragma unroll
        for (int r = 0; r < kUnitRows; ++r) {
            if (r >= unit_.n_rows) continue;
            Pack<Real, kPackSize<Real>> mean;
#pragma unroll
            for (int v = 0; v < kPackSize<Real>; ++v) {
                mean.numbers[v] = static_cast<Real>(static_cast<double>(centroid_[r].numbers[v]) +
                                                    shifts_[r][v] / n_matched_[r]);
            }
            *reinterpret_cast<Pack<Real, kPackSize<Real>>*>(
                arguments_.first_target + unit_.offset(arguments_.problem, r)) = mean;
        }
    }

 private:
    const PathSumArguments<Real, Stored>& arguments_;
    const Unit& unit_;
    double sample_weight_ = 0.0;
    Pack<Real, kPackSize<Real>> centroid_[kUnitRows];
    double shifts_[kUnitRows][kPackSize<Real>] = {};
    double n_matched_[kUnitRows] = {};
};

template <typename Real, typename Stored>
__global__ void __launch_bounds__(BarycenterVisitor<Real, Stored>::kWarps* kWarp)
    barycenter_kernel(const __grid_constant__ PathSumArguments<Real, Stored> arguments) {
    visit_runs<BarycenterVisitor<Real, Stored>>(arguments);
}

template <typename Real, typename Stored>
void start_barycenters(const CudaProblem<Real, Stored>& problem, Queue queue, const Run* runs,
                       const double* sample_weights, Real* means) {
    using Visitor = BarycenterVisitor<Real, Stored>;
    const PathSumArguments<Real, Stored> arguments = {problem, runs,    sample_weights, false,
                                                      means,   nullptr, nullptr};
    start(&barycenter_kernel<Real, Stored>, path_sum_grid<Visitor>(problem),
          Visitor::kWarps * kWarp, kPathSumSharedBytes<Real, Stored>, queue,
          "the CUDA kernel of barycenters", arguments);
}

}  // namespace device
}  // namespace skdejavid
