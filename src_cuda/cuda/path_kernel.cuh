// Cheapest paths from costs: the paper's Algorithm 1 along antidiagonals, and the backtrack.
//
// A warp aligns one sequence with as many centroids as fit into it, one time step per lane. In step
// t, the lane of time step i is at frame t - i, so that the previous step has computed the total
// that it needs from the lane of time step i - 1. The costs of a frame are adjacent in memory and
// loaded for all lanes at once; each lane stores its cost in shared memory until it reaches the
// frame. Centroids with more time steps than a warp has lanes are processed in strips of time
// steps; a strip passes the totals of its last time step to the next strip.
//
// Totals and moves stay on the chip, and only distances and runs are written to memory. (Moves of
// long sequences or centroids, two bits per cell, need a workspace.)
#pragma once

#include "on_device.cuh"

namespace skdejavid {
namespace device {

/// Moves into 32 consecutive cells of one time step, one bit per frame.
struct Moves {
    std::uint32_t along_centroid;
    std::uint32_t diagonal;
};

template <typename Real>
struct PathArguments {
    const Real* costs;  // (n_frames, n_centroids * n_timesteps)
    const std::int64_t* lengths;
    const std::int64_t* offsets;
    std::int64_t n_sequences;
    std::int64_t n_centroids;
    std::int64_t n_timesteps;
    int lanes;  // per centroid, a power of 2
    bool diagonal;
    double* distances;
    Run* runs;     // null if not wanted
    Moves* moves;  // workspace; null if moves fit into shared memory
    // Workspace (n_centroids, n_frames) for the totals of a strip's last time step; null if there
    // is only one strip.
    double* above;
};

constexpr int kPathWarps = 4;  // per block

// Number of steps between the load of a cost and its use.
constexpr int kStepsAhead = 8;

// Maximum length of sequences, in words of 32 frames, whose moves fit into shared memory.
constexpr std::int64_t kSharedWords = 8;

inline std::int64_t count_strips(std::int64_t n_timesteps) { return ceil_div(n_timesteps, kWarp); }

/// Returns the number of lanes of a centroid: its time steps, rounded up to a power of 2.
inline int lanes_of_centroid(std::int64_t n_timesteps) {
    int lanes = 1;
    while (lanes < n_timesteps && lanes < kWarp) lanes *= 2;
    return lanes;
}

/// Returns the number of warps that align a sequence with all centroids.
inline std::int64_t warps_of_sequence(std::int64_t n_centroids, int lanes) {
    return ceil_div(n_centroids, kWarp / lanes);
}

template <typename Real>
class PathWarp {
 public:
    __device__ PathWarp(const PathArguments<Real>& arguments, std::int64_t s, std::int64_t group)
        : arguments_(arguments),
          lane_(static_cast<int>(threadIdx.x) % kWarp),
          timestep_in_strip_(lane_ % arguments.lanes),
          sequence_(s),
          centroid_(group * (kWarp / arguments.lanes) + lane_ / arguments.lanes),
          n_frames_(arguments.lengths[s]),
          first_frame_(arguments.offsets[s]),
          n_words_((n_frames_ + 31) / 32) {
        const int warp = static_cast<int>(threadIdx.x) / kWarp;
        waiting_ = reinterpret_cast<Real*>(shared_memory()) + warp * (kWarp * kWarp) + lane_;
        if (arguments.moves == nullptr) {
            auto* shared = reinterpret_cast<Moves*>(reinterpret_cast<Real*>(shared_memory()) +
                                                    kPathWarps * (kWarp * kWarp));
            moves_ = shared + warp * kSharedWords * kWarp;
        } else {
            const std::int64_t n_strips = (arguments.n_timesteps + kWarp - 1) / kWarp;
            const std::int64_t per_sequence = kWarp / arguments.lanes;
            const std::int64_t n_groups = (arguments.n_centroids + per_sequence - 1) / per_sequence;
            // An upper bound for the number of words of all previous sequences.
            const std::int64_t words_before = first_frame_ / 32 + s;
            moves_ =
                arguments.moves + (words_before * n_groups + group * n_words_) * n_strips * kWarp;
        }
    }

    __device__ __forceinline__ void align() {
        double total = 0.0;
        for (std::int64_t strip = 0; strip * kWarp < arguments_.n_timesteps; ++strip) {
            total = align_strip(strip);
            // Other lanes read the moves and totals that each lane has written.
            __syncwarp();
        }
        if (!has_centroid()) return;
        const std::int64_t pair = sequence_ * arguments_.n_centroids + centroid_;
        if (timestep_in_strip_ == (arguments_.n_timesteps - 1) % kWarp) {
            arguments_.distances[pair] = total;
        }
        if (arguments_.runs != nullptr && timestep_in_strip_ == 0) {
            walk_back(arguments_.runs + pair * arguments_.n_timesteps);
        }
    }

 private:
    __device__ __forceinline__ bool has_centroid() const {
        return centroid_ < arguments_.n_centroids;
    }

    /// Computes one strip of time steps and returns this lane's total at the last frame.
    __device__ __forceinline__ double align_strip(std::int64_t strip) {
        const std::int64_t n_rows = arguments_.n_centroids * arguments_.n_timesteps;
        const std::int64_t timestep = strip * kWarp + timestep_in_strip_;
        const bool is_row = has_centroid() && timestep < arguments_.n_timesteps;
        // Lanes without a time step have no frames; the costs that they load are not used.
        const int n_frames = static_cast<int>(n_frames_);
        const int my_frames = is_row ? n_frames : 0;
        const Real* costs = arguments_.costs + first_frame_ * n_rows +
                            (is_row ? centroid_ * arguments_.n_timesteps + timestep : 0);
        double* above = arguments_.above == nullptr || !is_row
                            ? nullptr
                            : arguments_.above + centroid_ * n_all_frames() + first_frame_;
        const int frames_above =
            above != nullptr && timestep_in_strip_ == 0 && strip > 0 ? n_frames : 0;
        const bool writes_above = above != nullptr && timestep_in_strip_ == kWarp - 1 &&
                                  timestep + 1 < arguments_.n_timesteps;
        Moves* words = moves_ + strip * n_words_ * kWarp + lane_;

        Real costs_ahead[kStepsAhead];
        double above_ahead[kStepsAhead];
#pragma unroll
        for (int k = 0; k < kStepsAhead; ++k, costs += n_rows) {
            costs_ahead[k] = k < n_frames ? *costs : Real(0);
            above_ahead[k] = k < frames_above ? above[k] : kInfinity;
        }
        double total = kInfinity;
        double corner = kInfinity;
        Moves moves = {0, 0};
        // The last steps of the last turn may be beyond the last frame of all lanes.
        const int n_turns = (n_frames + arguments_.lanes - 2) / kStepsAhead + 1;
        for (int turn = 0; turn < n_turns; ++turn) {
#pragma unroll
            for (int k = 0; k < kStepsAhead; ++k, costs += n_rows) {
                const int t = turn * kStepsAhead + k;
                waiting_[t % kWarp * kWarp] = costs_ahead[k];
                double along_centroid = __shfl_up_sync(kAllLanes, total, 1, arguments_.lanes);
                if (timestep_in_strip_ == 0) along_centroid = above_ahead[k];
                if (t + kStepsAhead < n_frames) costs_ahead[k] = *costs;
                if (t + kStepsAhead < frames_above) above_ahead[k] = above[t + kStepsAhead];
                const int j = t - timestep_in_strip_;
                if (j >= 0 && j < my_frames) {
                    const double along_sequence = j == 0 ? kInfinity : total;
                    const Predecessors<double> predecessors{along_centroid, along_sequence, corner,
                                                            arguments_.diagonal};
                    total = timestep == 0 && j == 0 ? 0.0 : predecessors.cheapest();
                    total += static_cast<double>(waiting_[j % kWarp * kWarp]);
                    if (writes_above) above[j] = total;
                    record(predecessors, j, moves);
                    if (j % 32 == 31 || j == n_frames - 1) {
                        if (arguments_.runs != nullptr) words[j / 32 * kWarp] = moves;
                        moves = {0, 0};
                    }
                }
                corner = along_centroid;
            }
        }
        return total;
    }

    __device__ __forceinline__ static void record(const Predecessors<double>& predecessors, int j,
                                                  Moves& moves) {
        const auto less = [](double a, double b) { return static_cast<unsigned>(a < b); };
        moves.along_centroid |= (predecessors.comes_along_centroid(less) & 1u) << (j % 32);
        moves.diagonal |= (predecessors.comes_diagonally(less) & 1u) << (j % 32);
    }

    __device__ __forceinline__ Moves moves_of(std::int64_t timestep, std::int64_t word) const {
        return moves_[(timestep / kWarp * n_words_ + word) * kWarp + lane_ + timestep % kWarp];
    }

    /// Writes the runs of a path. The lane of the centroid's first time step calls it.
    __device__ __forceinline__ void walk_back(Run* runs) const {
        const auto entry = [this](std::int64_t i, std::int64_t j) {
            // Bits after j are ignored in the first word; the others are searched whole.
            std::uint32_t wanted = kAllLanes >> (31 - j % 32);
            for (std::int64_t word = j / 32; word >= 0; --word) {
                const Moves moves = moves_of(i, word);
                const std::uint32_t found = (moves.along_centroid | moves.diagonal) & wanted;
                if (found != 0) return word * 32 + (31 - __clz(static_cast<int>(found)));
                wanted = kAllLanes;
            }
            return std::int64_t{0};
        };
        const auto is_diagonal = [this](std::int64_t i, std::int64_t j) {
            return ((moves_of(i, j / 32).diagonal >> (j % 32)) & 1u) != 0;
        };
        const auto write = [runs](std::int64_t i, std::int64_t first, std::int64_t last) {
            runs[i] = {static_cast<std::int32_t>(first), static_cast<std::int32_t>(last)};
        };
        backtrack(arguments_.n_timesteps, n_frames_, entry, is_diagonal, write);
    }

    __device__ std::int64_t n_all_frames() const {
        const std::int64_t last = arguments_.n_sequences - 1;
        return arguments_.offsets[last] + arguments_.lengths[last];
    }

    const PathArguments<Real>& arguments_;
    const int lane_;
    const int timestep_in_strip_;
    const std::int64_t sequence_;
    const std::int64_t centroid_;
    const std::int64_t n_frames_;
    const std::int64_t first_frame_;
    const std::int64_t n_words_;
    Real* waiting_;  // (32 frames, 32 lanes) in shared memory; each lane uses its own column only
    Moves* moves_;   // (n_strips, n_words, 32 lanes)
};

template <typename Real>
__global__ void __launch_bounds__(kPathWarps* kWarp, 4)
    path_kernel(const __grid_constant__ PathArguments<Real> arguments) {
    const std::int64_t per_sequence =
        (arguments.n_centroids + kWarp / arguments.lanes - 1) / (kWarp / arguments.lanes);
    const std::int64_t warp =
        std::int64_t{blockIdx.x} * kPathWarps + static_cast<int>(threadIdx.x) / kWarp;
    if (warp >= arguments.n_sequences * per_sequence) return;
    PathWarp<Real>(arguments, warp / per_sequence, warp % per_sequence).align();
}

/// The workspace of the recurrence: costs, totals between strips and moves, in this order.
template <typename Real>
struct PathWorkspace {
    std::size_t costs_bytes;
    std::size_t above_bytes;
    std::size_t moves_bytes;

    template <typename Stored>
    PathWorkspace(const CudaProblem<Real, Stored>& problem, bool with_runs) {
        const std::int64_t n_strips = count_strips(problem.n_timesteps);
        const bool fits = n_strips == 1 && ceil_div(problem.longest, 32) <= kSharedWords;
        const std::int64_t n_words = problem.n_frames / 32 + problem.n_sequences;
        const std::int64_t n_warps =
            warps_of_sequence(problem.n_centroids, lanes_of_centroid(problem.n_timesteps));
        costs_bytes = rounded(problem.n_frames * problem.n_rows() * sizeof(Real));
        above_bytes =
            n_strips == 1 ? 0 : rounded(problem.n_frames * problem.n_centroids * sizeof(double));
        moves_bytes =
            with_runs && !fits ? rounded(n_words * n_warps * n_strips * kWarp * sizeof(Moves)) : 0;
    }

    std::size_t n_bytes() const { return costs_bytes + above_bytes + moves_bytes; }

 private:
    static std::size_t rounded(std::size_t n_bytes) { return (n_bytes + 255) / 256 * 256; }
};

template <typename Real, typename Stored>
void start_paths(const CudaProblem<Real, Stored>& problem, Queue queue, bool diagonal,
                 double* distances, Run* runs, unsigned char* memory,
                 const PathWorkspace<Real>& workspace) {
    const int lanes = lanes_of_centroid(problem.n_timesteps);
    unsigned char* above = memory + workspace.costs_bytes;
    unsigned char* moves = above + workspace.above_bytes;
    const PathArguments<Real> arguments = {
        reinterpret_cast<const Real*>(memory),
        problem.lengths,
        problem.offsets,
        problem.n_sequences,
        problem.n_centroids,
        problem.n_timesteps,
        lanes,
        diagonal,
        distances,
        runs,
        workspace.moves_bytes > 0 ? reinterpret_cast<Moves*>(moves) : nullptr,
        workspace.above_bytes > 0 ? reinterpret_cast<double*>(above) : nullptr};
    const std::int64_t n_warps =
        problem.n_sequences * warps_of_sequence(problem.n_centroids, lanes);
    constexpr std::size_t kSharedBytes =
        kPathWarps * kWarp * (kWarp * sizeof(Real) + kSharedWords * sizeof(Moves));
    start(&path_kernel<Real>, {ceil_div(n_warps, kPathWarps), 1}, kPathWarps * kWarp, kSharedBytes,
          queue, "the CUDA kernel of paths", arguments);
}

}  // namespace device
}  // namespace skdejavid
