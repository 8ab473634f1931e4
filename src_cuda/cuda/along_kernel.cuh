// Value, gradient and barycenters along given paths: the part of the work that grows with the
// length of paths.
//
// A warp has a strip of features (a pack in each lane) of a few rows of one centroid in registers
// and visits the runs of these rows in all sequences, one after the other. Their frames are in
// shared memory, some at a time, for all warps of the block; the next ones are copied meanwhile.
// Each sum is one thread's, in the order of the sequences: the same bits on every run, and no array
// of the size of sequences x centroids x time steps x features.
#pragma once

#include "on_device.cuh"

namespace skdejavid {
namespace device {

// Warps of a block: more of them read each frame that is copied. Barycenters are sums in double, of
// which fewer threads' fit into the registers.
constexpr int kAlongWarps = 16;

// Frames that are in shared memory at once.
constexpr int kFramesAtOnce = 64;

template <typename Real>
constexpr int kStripSize = kWarp * kPackSize<Real>;

template <typename Real, typename Stored>
constexpr int kStripBytes = kStripSize<Real> * static_cast<int>(sizeof(Stored));

template <typename Real, typename Stored>
constexpr int kAlongSharedBytes = 2 * kFramesAtOnce * kStripBytes<Real, Stored>;

template <typename Real, typename Stored>
struct AlongArguments {
    DeviceProblem<Real, Stored> problem;
    const Run* runs;             // (n_sequences, n_centroids, n_timesteps)
    const double* coefficients;  // (n_sequences, n_centroids); not used for values
    bool adds;                   // to what is in the targets
    Real* first_target;          // (n_rows, parameter_pitch)
    Real* second_target;         // the same
    double* parts;               // of values: (n_sequences, n_units, n_strips)
};

/// Rows of one centroid that a warp takes, and how many such units all centroids are.
template <int kUnitRows>
struct Units {
    static __host__ __device__ std::int64_t of_centroid(std::int64_t n_timesteps) {
        return (n_timesteps + kUnitRows - 1) / kUnitRows;
    }
};

/// A warp's rows and strip.
template <typename Real, typename Stored, int kUnitRows>
struct AlongUnit {
    std::int64_t unit;
    std::int64_t centroid;
    std::int64_t first_timestep;
    int n_rows;
    std::int64_t feature;  // of this lane's pack
    bool has_features;

    __device__ AlongUnit(const DeviceProblem<Real, Stored>& problem, int n_warps) {
        const std::int64_t per_centroid = Units<kUnitRows>::of_centroid(problem.n_timesteps);
        const int warp = static_cast<int>(threadIdx.x) / kWarp;
        const int lane = static_cast<int>(threadIdx.x) % kWarp;
        unit = std::int64_t{blockIdx.x} * n_warps + warp;
        centroid = unit / per_centroid;
        first_timestep = unit % per_centroid * kUnitRows;
        const std::int64_t rest = problem.n_timesteps - first_timestep;
        n_rows = centroid < problem.n_centroids
                     ? static_cast<int>(rest < kUnitRows ? rest : kUnitRows)
                     : 0;
        feature = std::int64_t{blockIdx.y} * kStripSize<Real> + lane * kPackSize<Real>;
        has_features = n_rows > 0 && feature < problem.parameter_pitch;
    }

    __device__ std::int64_t offset(const DeviceProblem<Real, Stored>& problem, int r) const {
        return (centroid * problem.n_timesteps + first_timestep + r) * problem.parameter_pitch +
               feature;
    }
};

/// A lane's pack of one row, or zeros.
template <typename Real, typename Unit, typename Problem>
__device__ __forceinline__ Pack<Real, kPackSize<Real>> load_row(const Real* rows, const Unit& unit,
                                                                const Problem& problem, int r) {
    if (unit.has_features && r < unit.n_rows) {
        return load_pack<Real, kPackSize<Real>>(rows + unit.offset(problem, r));
    }
    return {};
}

/// The part of distances that a unit's rows and a strip of features add.
template <typename Real, typename Stored>
class ValueVisitor {
 public:
    static constexpr int kUnitRows = 8;
    static constexpr int kWarps = kAlongWarps;
    using Unit = AlongUnit<Real, Stored, kUnitRows>;

    __device__ ValueVisitor(const AlongArguments<Real, Stored>& arguments, const Unit& unit)
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
        for (int v = 0; v < kPackSize<Real>; ++v) some_ += sums[v];
    }

    /// So many frames of one sequence were visited; `is_last` if there are no more of it.
    __device__ __forceinline__ void end_sequence(std::int64_t s, bool is_last) {
        total_ += static_cast<double>(some_);
        some_ = Real(0);
        if (!is_last) return;
        double all = total_;
        for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
            all += __shfl_xor_sync(kAllLanes, all, lanes);
        }
        total_ = 0.0;
        const std::int64_t n_units = arguments_.problem.n_centroids *
                                     Units<kUnitRows>::of_centroid(arguments_.problem.n_timesteps);
        if (threadIdx.x % kWarp == 0 && unit_.n_rows > 0) {
            arguments_.parts[(s * n_units + unit_.unit) * gridDim.y + blockIdx.y] = all;
        }
    }

    __device__ __forceinline__ void finish() {}

 private:
    const AlongArguments<Real, Stored>& arguments_;
    const Unit& unit_;
    Pack<Real, kPackSize<Real>> centroid_[kUnitRows];
    Pack<Real, kPackSize<Real>> weight_[kUnitRows];
    Real some_ = Real(0);
    double total_ = 0.0;
};

/// dL/dC and dL/dU of a unit's rows: sums over sequences of grad_distance times the sums over the
/// frames of a run of the sign and the magnitude of centroid - frame.
template <typename Real, typename Stored>
class GradientVisitor {
 public:
    static constexpr int kUnitRows = 4;
    static constexpr int kWarps = kAlongWarps;
    using Unit = AlongUnit<Real, Stored, kUnitRows>;

    __device__ GradientVisitor(const AlongArguments<Real, Stored>& arguments, const Unit& unit)
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
            deviations_[r].numbers[v] = multiply_add(grad_, deviations[v], deviations_[r].numbers[v]);
        }
    }

    /// Sums of so many sequences are kept in registers; then they are added to the targets.
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

    const AlongArguments<Real, Stored>& arguments_;
    const Unit& unit_;
    bool adds_;
    Real grad_ = Real(0);
    Pack<Real, kPackSize<Real>> centroid_[kUnitRows];
    Pack<Real, kPackSize<Real>> slopes_[kUnitRows] = {};
    Pack<Real, kPackSize<Real>> deviations_[kUnitRows] = {};
};

/// Means of the frames that are matched to a unit's rows, as offsets from the centroid: a frame
/// that equals it exactly leaves it exactly where it is.
template <typename Real, typename Stored>
class BarycenterVisitor {
 public:
    static constexpr int kUnitRows = 4;
    static constexpr int kWarps = 8;
    using Unit = AlongUnit<Real, Stored, kUnitRows>;

    __device__ BarycenterVisitor(const AlongArguments<Real, Stored>& arguments, const Unit& unit)
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
    const AlongArguments<Real, Stored>& arguments_;
    const Unit& unit_;
    double sample_weight_ = 0.0;
    Pack<Real, kPackSize<Real>> centroid_[kUnitRows];
    double shifts_[kUnitRows][kPackSize<Real>] = {};
    double n_matched_[kUnitRows] = {};
};

/// Copies frames of all sequences, some at a time, to shared memory.
template <typename Real, typename Stored, int kWarps>
class FrameCopier {
    static constexpr int kCopies = kStripBytes<Real, Stored> / kPackBytes;  // of a frame
    static constexpr int kPerPack = kPackBytes / static_cast<int>(sizeof(Stored));

 public:
    __device__ explicit FrameCopier(const DeviceProblem<Real, Stored>& problem)
        : problem_(problem) {}

    /// Must be called for one part of the frames after the other.
    __device__ void copy(std::int64_t first_frame, unsigned char* target) {
        const std::int64_t begin = std::int64_t{blockIdx.y} * kStripSize<Real>;
        for (int k = static_cast<int>(threadIdx.x); k < kFramesAtOnce * kCopies;
             k += kWarps * kWarp) {
            const std::int64_t frame = first_frame + k / kCopies;
            if (frame >= problem_.n_frames) break;
            while (frame >= problem_.offsets[sequence_] + problem_.lengths[sequence_]) {
                ++sequence_;
            }
            const std::int64_t row =
                problem_.starts[sequence_] + (frame - problem_.offsets[sequence_]);
            const std::int64_t feature = begin + k % kCopies * kPerPack;
            const bool is_there = feature < problem_.value_pitch;
            copy_later(target + k * kPackBytes,
                       problem_.values + (is_there ? row * problem_.value_pitch + feature : 0),
                       is_there);
        }
    }

 private:
    const DeviceProblem<Real, Stored>& problem_;
    std::int64_t sequence_ = 0;  // of the frame copied last
};

__device__ __forceinline__ int clamped(std::int64_t x, int least, int most) {
    return x < least ? least : x > most ? most : static_cast<int>(x);
}

/// Shows the visitor every part of every run of its unit, in order.
template <typename Visitor, typename Real, typename Stored>
__device__ void visit_runs(const AlongArguments<Real, Stored>& arguments) {
    using Unit = typename Visitor::Unit;
    const DeviceProblem<Real, Stored>& problem = arguments.problem;
    const Unit unit(problem, Visitor::kWarps);
    Visitor visitor(arguments, unit);
    FrameCopier<Real, Stored, Visitor::kWarps> copier(problem);
    unsigned char* memory = shared_memory();
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    constexpr int kBytes = kFramesAtOnce * kStripBytes<Real, Stored>;

    std::int64_t s = 0;
    copier.copy(0, memory);
    end_copies();
    for (std::int64_t begin = 0, part = 0; begin < problem.n_frames;
         begin += kFramesAtOnce, ++part) {
        wait_for_copies();
        // All copies are there, and nobody reads the part before this one any more.
        __syncthreads();
        if (begin + kFramesAtOnce < problem.n_frames) {
            copier.copy(begin + kFramesAtOnce, memory + ((part + 1) & 1) * kBytes);
        }
        end_copies();
        const unsigned char* frames = memory + (part & 1) * kBytes +
                                      lane * kPackSize<Real> * static_cast<int>(sizeof(Stored));
        const auto frame = [frames](int j) {
            return load_pack<Stored, kPackSize<Real>>(frames + j * kStripBytes<Real, Stored>);
        };
        const std::int64_t end = begin + kFramesAtOnce;
        for (; s < problem.n_sequences; ++s) {
            const std::int64_t first_frame = problem.offsets[s];
            if (first_frame >= end) break;
            const std::int64_t n_frames = problem.lengths[s];
            const std::int64_t pair = s * problem.n_centroids + unit.centroid;
            if (unit.n_rows > 0 && visitor.wants(pair)) {
                Run run = {0, -1};
                if (lane < unit.n_rows) {
                    run = arguments.runs[pair * problem.n_timesteps + unit.first_timestep + lane];
                }
                // In this part, counted from its first frame.
                const std::int64_t shift = first_frame - begin;
                const int my_begin = clamped(run.first + shift, 0, kFramesAtOnce);
                const int my_end = clamped(run.last + shift, -1, kFramesAtOnce - 1);
#pragma unroll
                for (int r = 0; r < Visitor::kUnitRows; ++r) {
                    const int run_begin = __shfl_sync(kAllLanes, my_begin, r);
                    const int run_end = __shfl_sync(kAllLanes, my_end, r);
                    if (run_begin <= run_end) visitor.visit(r, frame, run_begin, run_end);
                }
            }
            const bool is_last = first_frame + n_frames <= end;
            visitor.end_sequence(s, is_last);
            if (!is_last) break;
        }
    }
    visitor.finish();
}

template <typename Real, typename Stored>
__global__ void __launch_bounds__(ValueVisitor<Real, Stored>::kWarps* kWarp)
    value_kernel(const __grid_constant__ AlongArguments<Real, Stored> arguments) {
    visit_runs<ValueVisitor<Real, Stored>>(arguments);
}

template <typename Real, typename Stored>
__global__ void __launch_bounds__(GradientVisitor<Real, Stored>::kWarps* kWarp)
    gradient_kernel(const __grid_constant__ AlongArguments<Real, Stored> arguments) {
    visit_runs<GradientVisitor<Real, Stored>>(arguments);
}

template <typename Real, typename Stored>
__global__ void __launch_bounds__(BarycenterVisitor<Real, Stored>::kWarps* kWarp)
    barycenter_kernel(const __grid_constant__ AlongArguments<Real, Stored> arguments) {
    visit_runs<BarycenterVisitor<Real, Stored>>(arguments);
}

struct SumArguments {
    const double* parts;  // (n_pairs, n_parts)
    std::int64_t n_pairs;
    std::int64_t n_parts;
    double* sums;  // (n_pairs,)
};

constexpr int kSumThreads = 128;

/// Adds up the parts of each pair, in order, and what each addition has rounded off.
template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    sum_kernel(const __grid_constant__ SumArguments arguments) {
    const std::int64_t pair = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
    if (pair >= arguments.n_pairs) return;
    double sum = 0.0;
    double lost = 0.0;
    for (std::int64_t k = 0; k < arguments.n_parts; ++k) {
        const double part = arguments.parts[pair * arguments.n_parts + k];
        const double next = sum + part;  // no part is negative
        lost += sum < part ? (part - next) + sum : (sum - next) + part;
        sum = next;
    }
    // Beyond the largest number there is nothing to correct, and `lost` is no number.
    arguments.sums[pair] = sum < kInfinity ? sum + lost : sum;
}

/// Blocks for all units of a visitor and all strips of features.
template <typename Visitor, typename Real, typename Stored>
Grid along_grid(const DeviceProblem<Real, Stored>& problem) {
    const std::int64_t n_units =
        problem.n_centroids * Units<Visitor::kUnitRows>::of_centroid(problem.n_timesteps);
    return {ceil_div(n_units, Visitor::kWarps), ceil_div(problem.n_features, kStripSize<Real>)};
}

template <typename Real, typename Stored>
std::int64_t parts_of_value(const DeviceProblem<Real, Stored>& problem) {
    using Visitor = ValueVisitor<Real, Stored>;
    return Units<Visitor::kUnitRows>::of_centroid(problem.n_timesteps) *
           along_grid<Visitor>(problem).y;
}

template <typename Real, typename Stored>
void start_values(const DeviceProblem<Real, Stored>& problem, Queue queue, const Run* runs,
                  double* distances, double* parts) {
    using Visitor = ValueVisitor<Real, Stored>;
    const AlongArguments<Real, Stored> arguments = {problem, runs,    nullptr, false,
                                                    nullptr, nullptr, parts};
    start(&value_kernel<Real, Stored>, along_grid<Visitor>(problem), Visitor::kWarps * kWarp,
          kAlongSharedBytes<Real, Stored>, queue, "the CUDA kernel of distances along paths",
          arguments);
    const SumArguments sums = {parts, problem.n_pairs(), parts_of_value(problem), distances};
    start(&sum_kernel<kSumThreads>, {ceil_div(problem.n_pairs(), kSumThreads), 1}, kSumThreads, 0,
          queue, "the CUDA kernel of sums", sums);
}

template <typename Real, typename Stored>
void start_gradients(const DeviceProblem<Real, Stored>& problem, Queue queue, const Run* runs,
                     const double* grad_distances, bool adds, Real* grad_centroids,
                     Real* grad_weights) {
    using Visitor = GradientVisitor<Real, Stored>;
    const AlongArguments<Real, Stored> arguments = {
        problem, runs, grad_distances, adds, grad_centroids, grad_weights, nullptr};
    start(&gradient_kernel<Real, Stored>, along_grid<Visitor>(problem), Visitor::kWarps * kWarp,
          kAlongSharedBytes<Real, Stored>, queue, "the CUDA kernel of gradients", arguments);
}

template <typename Real, typename Stored>
void start_barycenters(const DeviceProblem<Real, Stored>& problem, Queue queue, const Run* runs,
                       const double* sample_weights, Real* means) {
    using Visitor = BarycenterVisitor<Real, Stored>;
    const AlongArguments<Real, Stored> arguments = {problem, runs,    sample_weights, false,
                                                    means,   nullptr, nullptr};
    start(&barycenter_kernel<Real, Stored>, along_grid<Visitor>(problem), Visitor::kWarps * kWarp,
          kAlongSharedBytes<Real, Stored>, queue, "the CUDA kernel of barycenters", arguments);
}

}  // namespace device
}  // namespace skdejavid
