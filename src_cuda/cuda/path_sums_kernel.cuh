// Distances along given paths.
#pragma once

#include "path_runs.cuh"

namespace skdejavid {
namespace device {

/// Computes the part of distances that a unit's rows and a strip of features contribute.
template <typename Real, typename Stored>
class ValueVisitor {
 public:
    static constexpr int kUnitRows = 8;
    static constexpr int kWarps = kPathSumWarps;
    using Unit = PathUnit<Real, Stored, kUnitRows>;

    __device__ ValueVisitor(const PathSumArguments<Real, Stored>& arguments, const Unit& unit)
        : arguments_(arguments), unit_(unit) {
#pragma unroll
        for (int r = 0; r < kUnitRows; ++r) {
            centroid_[r] = load_row(arguments.problem.centroids, unit, arguments.problem, r);
            weight_[r] = load_row(arguments.problem.weights, unit, arguments.problem, r);
        }
    }

    __device__ __forceinline__ bool wants(std::int64_t) { return true; }

    template <typename Frames>
    __device__ __forceinline__ void visit(int r, const Frames& frames, int begin, int end) {
        Real sums[kPackSize<Real>] = {};
        for (int j = begin; j <= end; ++j) {
            const auto frame = frames(j);
#pragma unroll
            for (int v = 0; v < kPackSize<Real>; ++v) {
                sums[v] = add_cost(sums[v], weight_[r].numbers[v], centroid_[r].numbers[v],
                                   to_real(frame.numbers[v]));
            }
        }
#pragma unroll
        for (int v = 0; v < kPackSize<Real>; ++v) part_ += sums[v];
    }

    /// Ends the visits of a sequence's frames in the current part; `is_last` if it has no more
    /// frames. Sums of a part continue in double.
    __device__ __forceinline__ void end_sequence(std::int64_t s, bool is_last) {
        total_ += static_cast<double>(part_);
        part_ = Real(0);
        if (!is_last) return;
        double all = total_;
        for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
            all += __shfl_xor_sync(kAllLanes, all, lanes);
        }
        total_ = 0.0;
        const std::int64_t n_units = arguments_.problem.n_centroids *
                                     units_of_centroid<kUnitRows>(arguments_.problem.n_timesteps);
        if (threadIdx.x % kWarp == 0 && unit_.n_rows > 0) {
            arguments_.parts[(s * n_units + unit_.unit) * gridDim.y + blockIdx.y] = all;
        }
    }

    __device__ __forceinline__ void finish() {}

 private:
    const PathSumArguments<Real, Stored>& arguments_;
    const Unit& unit_;
    Pack<Real, kPackSize<Real>> centroid_[kUnitRows];
    Pack<Real, kPackSize<Real>> weight_[kUnitRows];
    Real part_ = Real(0);  // sum over one part of the frames
    double total_ = 0.0;   // sum over one sequence
};

template <typename Real, typename Stored>
__global__ void __launch_bounds__(ValueVisitor<Real, Stored>::kWarps* kWarp)
    value_kernel(const __grid_constant__ PathSumArguments<Real, Stored> arguments) {
    visit_runs<ValueVisitor<Real, Stored>>(arguments);
}

struct SumArguments {
    const double* parts;  // (n_pairs, n_parts)
    std::int64_t n_pairs;
    std::int64_t n_parts;
    double* sums;  // (n_pairs,)
};

constexpr int kSumThreads = 128;

/// Adds the parts of each pair, in order and with Neumaier's compensation of rounding errors.
template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    sum_kernel(const __grid_constant__ SumArguments arguments) {
    const std::int64_t pair = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
    if (pair >= arguments.n_pairs) return;
    double sum = 0.0;
    double compensation = 0.0;
    for (std::int64_t k = 0; k < arguments.n_parts; ++k) {
        const double part = arguments.parts[pair * arguments.n_parts + k];
        const double next = sum + part;  // no part is negative
        compensation += sum < part ? (part - next) + sum : (sum - next) + part;
        sum = next;
    }
    // After an overflow the compensation is NaN.
    arguments.sums[pair] = sum < kInfinity ? sum + compensation : sum;
}

template <typename Real, typename Stored>
std::int64_t parts_of_value(const CudaProblem<Real, Stored>& problem) {
    using Visitor = ValueVisitor<Real, Stored>;
    return units_of_centroid<Visitor::kUnitRows>(problem.n_timesteps) *
           path_sum_grid<Visitor>(problem).y;
}

template <typename Real, typename Stored>
void start_values(const CudaProblem<Real, Stored>& problem, Queue queue, const Run* runs,
                  double* distances, double* parts) {
    using Visitor = ValueVisitor<Real, Stored>;
    const PathSumArguments<Real, Stored> arguments = {problem, runs,    nullptr, false,
                                                      nullptr, nullptr, parts};
    start(&value_kernel<Real, Stored>, path_sum_grid<Visitor>(problem), Visitor::kWarps * kWarp,
          kPathSumSharedBytes<Real, Stored>, queue, "the CUDA kernel of distances along paths",
          arguments);
    const SumArguments sums = {parts, problem.n_pairs(), parts_of_value(problem), distances};
    start(&sum_kernel<kSumThreads>, {ceil_div(problem.n_pairs(), kSumThreads), 1}, kSumThreads, 0,
          queue, "the CUDA kernel of sums", sums);
}

}  // namespace device
}  // namespace skdejavid
