// Sums along given paths: the part of the work that grows with the length of paths.
//
// A warp keeps a strip of features (a pack in each lane) of a few rows (time steps) of one centroid
// in registers and visits the runs of these rows in all sequences in turn. The frames of the strip
// are in shared memory, a part at a time, for all warps of the block, while the next part is
// copied. One thread computes each sum, in the order of the sequences, so that results have the
// same bits on every call, and no array of size n_sequences x n_centroids x n_timesteps x
// n_features is needed.
//
// A kernel is a *visitor* class, which `visit_runs` calls: path_sums_kernel.cuh (distances),
// parameter_gradient_kernel.cuh and barycenter_kernel.cuh.
#pragma once

#include "on_device.cuh"

namespace skdejavid {
namespace device {

// Number of warps in a block; all of them read each copied frame.
constexpr int kPathSumWarps = 16;

// Number of frames in a part.
constexpr int kFramesAtOnce = 64;

template <typename Real>
constexpr int kStripSize = kWarp * kPackSize<Real>;

template <typename Real, typename Stored>
constexpr int kStripBytes = kStripSize<Real> * static_cast<int>(sizeof(Stored));

template <typename Real, typename Stored>
constexpr int kPathSumSharedBytes = 2 * kFramesAtOnce * kStripBytes<Real, Stored>;

template <typename Real, typename Stored>
struct PathSumArguments {
    CudaProblem<Real, Stored> problem;
    const Run* runs;             // (n_sequences, n_centroids, n_timesteps)
    const double* coefficients;  // (n_sequences, n_centroids); not used for distances
    bool adds;                   // whether to add to the targets' contents
    Real* first_target;          // (n_rows, parameter_pitch)
    Real* second_target;         // the same shape
    double* parts;               // of distances: (n_sequences, n_units, n_strips)
};

/// Number of units of one centroid. A unit is up to `kUnitRows` of its rows, the work of one warp.
template <int kUnitRows>
__host__ __device__ std::int64_t units_of_centroid(std::int64_t n_timesteps) {
    return (n_timesteps + kUnitRows - 1) / kUnitRows;
}

/// The rows and the strip of a warp.
template <typename Real, typename Stored, int kUnitRows>
struct PathUnit {
    std::int64_t unit;
    std::int64_t centroid;
    std::int64_t first_timestep;
    int n_rows;
    std::int64_t feature;  // first one of this lane's pack
    bool has_features;

    __device__ PathUnit(const CudaProblem<Real, Stored>& problem, int n_warps) {
        const std::int64_t per_centroid = units_of_centroid<kUnitRows>(problem.n_timesteps);
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

    __device__ std::int64_t offset(const CudaProblem<Real, Stored>& problem, int r) const {
        return (centroid * problem.n_timesteps + first_timestep + r) * problem.parameter_pitch +
               feature;
    }
};

/// Returns this lane's pack of row `r` of the unit, or zeros if there is none.
template <typename Real, typename Unit, typename Problem>
__device__ __forceinline__ Pack<Real, kPackSize<Real>> load_row(const Real* rows, const Unit& unit,
                                                                const Problem& problem, int r) {
    if (unit.has_features && r < unit.n_rows) {
        return load_pack<Real, kPackSize<Real>>(rows + unit.offset(problem, r));
    }
    return {};
}

/// Copies a strip of the frames of all sequences to shared memory, a part at a time.
template <typename Real, typename Stored, int kWarps>
class FrameCopier {
    static constexpr int kCopies = kStripBytes<Real, Stored> / kPackBytes;  // per frame
    static constexpr int kPerPack = kPackBytes / static_cast<int>(sizeof(Stored));

 public:
    __device__ explicit FrameCopier(const CudaProblem<Real, Stored>& problem) : problem_(problem) {}

    /// Queues the copies of one part. Must be called for consecutive parts.
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
            const bool exists = feature < problem_.value_pitch;
            copy_async(target + k * kPackBytes,
                       problem_.values + (exists ? row * problem_.value_pitch + feature : 0),
                       exists);
        }
    }

 private:
    const CudaProblem<Real, Stored>& problem_;
    std::int64_t sequence_ = 0;  // of the last copied frame
};

__device__ __forceinline__ int clamped(std::int64_t x, int least, int most) {
    return x < least ? least : x > most ? most : static_cast<int>(x);
}

/// Calls the visitor for the runs of its unit in sequence `s`, as far as they are in the part of
/// the frames that begins at frame `begin` of all sequences.
template <typename Visitor, typename Unit, typename Arguments, typename Frames>
__device__ __forceinline__ void visit_sequence(Visitor& visitor, const Unit& unit,
                                               const Arguments& arguments, const Frames& frames,
                                               std::int64_t s, std::int64_t begin) {
    const std::int64_t pair = s * arguments.problem.n_centroids + unit.centroid;
    if (unit.n_rows == 0 || !visitor.wants(pair)) return;
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    Run run = {0, -1};
    if (lane < unit.n_rows) {
        run = arguments.runs[pair * arguments.problem.n_timesteps + unit.first_timestep + lane];
    }
    const std::int64_t shift = arguments.problem.offsets[s] - begin;
    const int my_begin = clamped(run.first + shift, 0, kFramesAtOnce);
    const int my_end = clamped(run.last + shift, -1, kFramesAtOnce - 1);
#pragma unroll
    for (int r = 0; r < Visitor::kUnitRows; ++r) {
        const int run_begin = __shfl_sync(kAllLanes, my_begin, r);
        const int run_end = __shfl_sync(kAllLanes, my_end, r);
        if (run_begin <= run_end) visitor.visit(r, frames, run_begin, run_end);
    }
}

/// Calls the visitor for every part of every run of its unit, in order.
template <typename Visitor, typename Real, typename Stored>
__device__ void visit_runs(const PathSumArguments<Real, Stored>& arguments) {
    using Unit = typename Visitor::Unit;
    const CudaProblem<Real, Stored>& problem = arguments.problem;
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
        // Copies of all threads have arrived, and no thread reads the previous part any more.
        __syncthreads();
        if (begin + kFramesAtOnce < problem.n_frames) {
            copier.copy(begin + kFramesAtOnce, memory + ((part + 1) & 1) * kBytes);
        }
        end_copies();
        const unsigned char* frames = memory + (part & 1) * kBytes +
                                      lane * kPackSize<Real> * static_cast<int>(sizeof(Stored));
        const auto load_frame = [frames](int j) {
            return load_pack<Stored, kPackSize<Real>>(frames + j * kStripBytes<Real, Stored>);
        };
        const std::int64_t end = begin + kFramesAtOnce;
        for (; s < problem.n_sequences; ++s) {
            const std::int64_t first_frame = problem.offsets[s];
            if (first_frame >= end) break;
            visit_sequence(visitor, unit, arguments, load_frame, s, begin);
            const bool is_last = first_frame + problem.lengths[s] <= end;
            visitor.end_sequence(s, is_last);
            if (!is_last) break;
        }
    }
    visitor.finish();
}

/// Returns the grid of blocks for all units of a visitor and all strips of features.
template <typename Visitor, typename Real, typename Stored>
Grid path_sum_grid(const CudaProblem<Real, Stored>& problem) {
    const std::int64_t n_units =
        problem.n_centroids * units_of_centroid<Visitor::kUnitRows>(problem.n_timesteps);
    return {ceil_div(n_units, Visitor::kWarps), ceil_div(problem.n_features, kStripSize<Real>)};
}

}  // namespace device
}  // namespace skdejavid
