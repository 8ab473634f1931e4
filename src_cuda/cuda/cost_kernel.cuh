// Costs of all rows (time steps of centroids) and all frames, computed like a matrix product: the
// part of the work that grows with the product of all sizes.
//
// A block computes a tile of rows x frames. Features are divided into stages, two of which are in
// shared memory: one is computed with while the next is copied. A thread keeps the sums of its
// cells in registers. For each term it issues a subtraction and a fused multiply-add (whose operand
// has an absolute-value modifier) and little else: for 64 cells and 4 features these are 512
// instructions and 24 loads of 16 bytes.
#pragma once

#include "on_device.cuh"

namespace skdejavid {
namespace device {

template <typename Real, typename Stored>
struct CostTile {
    // Cells of a thread: the largest square whose sums fit into its registers.
    static constexpr int kThreadRows = sizeof(Real) == 4 ? 8 : 4;
    static constexpr int kThreadFrames = kThreadRows;
    // Threads of a block, arranged in a rectangle.
    static constexpr int kDown = 8;
    static constexpr int kAcross = 16;
    static constexpr int kThreads = kDown * kAcross;
    static constexpr int kRows = kDown * kThreadRows;
    static constexpr int kFrames = kAcross * kThreadFrames;

    // Features of a stage: four packs of each row and frame.
    static constexpr int kPack = kPackSize<Real>;
    static constexpr int kPacks = 4;
    static constexpr int kDepth = kPacks * kPack;
    static constexpr int kRowBytes = kDepth * static_cast<int>(sizeof(Real));
    static constexpr int kFrameBytes = kDepth * static_cast<int>(sizeof(Stored));
    static constexpr int kFrameCopies = kFrameBytes / kPackBytes;
    static constexpr int kStageBytes = 2 * kRows * kRowBytes + kFrames * kFrameBytes;
    static constexpr int kTotalBytes = kRows * kFrames * static_cast<int>(sizeof(Real));
};

/// Returns the number of terms that are summed in registers before the sum is added to a total.
/// Sums and total then have about the same number of terms. The error grows with the root of that
/// number and stays below twice that of NumPy's pairwise sums.
inline std::int64_t terms_per_sum(std::int64_t n_features) {
    constexpr std::int64_t kLeast = 64;
    std::int64_t n = kLeast;
    while (n * n < n_features) n *= 2;
    return n;
}

template <typename Real, typename Stored>
struct CostArguments {
    CudaProblem<Real, Stored> problem;
    std::int64_t n_rows;
    std::int64_t stages_per_sum;
    Real* costs;  // (n_frames, n_rows)
};

/// One thread's part of a block's tile.
template <typename Real, typename Stored>
class CostBlock {
    using Tile = CostTile<Real, Stored>;

 public:
    __device__ CostBlock(const CostArguments<Real, Stored>& arguments, std::int64_t first_row,
                         std::int64_t first_frame)
        : arguments_(arguments),
          problem_(arguments.problem),
          memory_(shared_memory()),
          first_row_(first_row),
          first_frame_(first_frame) {
        // The bits of a lane's number alternate between row and frame: neighboring lanes share rows
        // or frames, and loads of both are merged across lanes.
        const int thread = static_cast<int>(threadIdx.x);
        const int lane = thread % kWarp;
        const int warp = thread / kWarp;
        across_ = 4 * warp + ((lane & 1) | ((lane >> 1) & 2));
        down_ = ((lane >> 1) & 1) | ((lane >> 2) & 2) | ((lane >> 2) & 4);
        find_frames();
    }

    __device__ __forceinline__ void compute() {
        const std::int64_t n_stages = (problem_.n_features + Tile::kDepth - 1) / Tile::kDepth;
        Real sums[Tile::kThreadRows][Tile::kThreadFrames] = {};
        bool has_totals = false;
        copy_stage(0);
        end_copies();
        for (std::int64_t stage = 0; stage < n_stages; ++stage) {
            wait_for_copies();
            // Copies of all threads have arrived, and no thread reads the previous stage any more.
            __syncthreads();
            if (stage + 1 < n_stages) copy_stage(stage + 1);
            end_copies();
            add_stage(memory_ + (stage & 1) * Tile::kStageBytes, sums);
            if ((stage + 1) % arguments_.stages_per_sum == 0 && stage + 1 < n_stages) {
                add_to_totals(sums, has_totals);
                has_totals = true;
            }
        }
        if (has_totals) add_totals(sums);
        write(sums);
    }

 private:
    /// Finds the rows of `values` that this thread copies, the same ones in every stage.
    __device__ __forceinline__ void find_frames() {
#pragma unroll
        for (int k = 0; k < kFramesCopied; ++k) {
            const std::int64_t frame = first_frame_ + copied_frame(k);
            if (frame < problem_.n_frames) {
                const std::int64_t s = find_sequence(problem_.offsets, problem_.n_sequences, frame);
                rows_[k] =
                    static_cast<std::uint32_t>(problem_.starts[s] + (frame - problem_.offsets[s]));
            } else {
                rows_[k] = kNoRow;
            }
        }
    }

    static constexpr std::uint32_t kNoRow = 0xffffffffu;
    static constexpr int kFramesCopied = Tile::kFrames * Tile::kFrameCopies / Tile::kThreads;
    static constexpr int kRowsCopied = Tile::kRows * Tile::kPacks / Tile::kThreads;
    static constexpr int kPacksCopied = Tile::kPacks / Tile::kFrameCopies;  // per copy

    __device__ __forceinline__ int copied_frame(int k) const {
        return (static_cast<int>(threadIdx.x) + k * Tile::kThreads) / Tile::kFrameCopies;
    }

    /// Returns the position of a pack in shared memory. The four packs of a row are permuted, so
    /// that lanes that read the same pack of neighboring rows use different banks.
    __device__ __forceinline__ static int row_position(int row, int pack) {
        return row * (Tile::kPacks * kPackBytes) + ((pack ^ ((row >> 1) & 3)) * kPackBytes);
    }

    /// Returns the same for a frame, whose packs have fewer bytes if it is stored in half
    /// precision.
    __device__ __forceinline__ static int frame_position(int frame, int pack) {
        if constexpr (sizeof(Stored) == sizeof(Real)) return row_position(frame, pack);
        return frame * Tile::kFrameBytes + pack * Tile::kPack * static_cast<int>(sizeof(Stored));
    }

    __device__ __forceinline__ void copy_stage(std::int64_t stage) {
        unsigned char* target = memory_ + (stage & 1) * Tile::kStageBytes;
        const std::int64_t begin = stage * Tile::kDepth;
        const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
        for (int k = 0; k < kRowsCopied; ++k) {
            const int row = (thread + k * Tile::kThreads) / Tile::kPacks;
            const int pack = thread % Tile::kPacks;
            const std::int64_t feature = begin + pack * Tile::kPack;
            const bool exists =
                first_row_ + row < arguments_.n_rows && feature < problem_.parameter_pitch;
            const std::int64_t source =
                exists ? (first_row_ + row) * problem_.parameter_pitch + feature : 0;
            copy_async(target + row_position(row, pack), problem_.centroids + source, exists);
            copy_async(target + Tile::kRows * Tile::kRowBytes + row_position(row, pack),
                       problem_.weights + source, exists);
        }
        target += 2 * Tile::kRows * Tile::kRowBytes;
#pragma unroll
        for (int k = 0; k < kFramesCopied; ++k) {
            const int copy = thread % Tile::kFrameCopies;
            const std::int64_t feature =
                begin + copy * (kPackBytes / static_cast<int>(sizeof(Stored)));
            const bool exists = rows_[k] != kNoRow && feature < problem_.value_pitch;
            const std::int64_t source =
                exists ? std::int64_t{rows_[k]} * problem_.value_pitch + feature : 0;
            copy_async(target + frame_position(copied_frame(k), copy * kPacksCopied),
                       problem_.values + source, exists);
        }
    }

    __device__ __forceinline__ void add_stage(
        const unsigned char* stage, Real (&sums)[Tile::kThreadRows][Tile::kThreadFrames]) const {
        const unsigned char* weights = stage + Tile::kRows * Tile::kRowBytes;
        const unsigned char* frames = weights + Tile::kRows * Tile::kRowBytes;
#pragma unroll 1
        for (int pack = 0; pack < Tile::kPacks; ++pack) {
            Pack<Real, Tile::kPack> centroid[Tile::kThreadRows], weight[Tile::kThreadRows];
            // A thread's rows, and its frames, are multiples of 8 apart: their packs are permuted
            // alike.
            const int first_row = row_position(down_, pack);
            const int first_frame = frame_position(across_, pack);
#pragma unroll
            for (int r = 0; r < Tile::kThreadRows; ++r) {
                const int at = first_row + r * Tile::kDown * Tile::kRowBytes;
                centroid[r] = load_pack<Real, Tile::kPack>(stage + at);
                weight[r] = load_pack<Real, Tile::kPack>(weights + at);
            }
#pragma unroll
            for (int n = 0; n < Tile::kThreadFrames; ++n) {
                const auto frame = load_pack<Stored, Tile::kPack>(
                    frames + first_frame + n * Tile::kAcross * Tile::kFrameBytes);
#pragma unroll
                for (int r = 0; r < Tile::kThreadRows; ++r) {
#pragma unroll
                    for (int v = 0; v < Tile::kPack; ++v) {
                        sums[r][n] = add_cost(sums[r][n], weight[r].numbers[v],
                                              centroid[r].numbers[v], to_real(frame.numbers[v]));
                    }
                }
            }
        }
    }

    /// Returns this thread's totals, which no other thread reads or writes.
    __device__ __forceinline__ Real* totals() const {
        return reinterpret_cast<Real*>(memory_ + 2 * Tile::kStageBytes) + threadIdx.x;
    }

    __device__ __forceinline__ void add_to_totals(
        Real (&sums)[Tile::kThreadRows][Tile::kThreadFrames], bool has_totals) const {
        if (has_totals) add_totals(sums);
        Real* total = totals();
#pragma unroll
        for (int r = 0; r < Tile::kThreadRows; ++r) {
#pragma unroll
            for (int n = 0; n < Tile::kThreadFrames; ++n, total += Tile::kThreads) {
                *total = sums[r][n];
                sums[r][n] = Real(0);
            }
        }
    }

    __device__ __forceinline__ void add_totals(
        Real (&sums)[Tile::kThreadRows][Tile::kThreadFrames]) const {
        const Real* total = totals();
#pragma unroll
        for (int r = 0; r < Tile::kThreadRows; ++r) {
#pragma unroll
            for (int n = 0; n < Tile::kThreadFrames; ++n, total += Tile::kThreads) {
                sums[r][n] += *total;
            }
        }
    }

    __device__ __forceinline__ void write(
        const Real (&sums)[Tile::kThreadRows][Tile::kThreadFrames]) const {
        const std::int64_t n_rows = arguments_.n_rows;
#pragma unroll
        for (int n = 0; n < Tile::kThreadFrames; ++n) {
            const std::int64_t frame = first_frame_ + n * Tile::kAcross + across_;
            if (frame >= problem_.n_frames) continue;
#pragma unroll
            for (int r = 0; r < Tile::kThreadRows; ++r) {
                const std::int64_t row = first_row_ + r * Tile::kDown + down_;
                if (row < n_rows) arguments_.costs[frame * n_rows + row] = sums[r][n];
            }
        }
    }

    const CostArguments<Real, Stored>& arguments_;
    const CudaProblem<Real, Stored>& problem_;
    unsigned char* const memory_;  // two stages (centroids, weights, frames), then totals
    const std::int64_t first_row_;
    const std::int64_t first_frame_;
    int across_;  // this thread's column and row in its block
    int down_;
    std::uint32_t rows_[kFramesCopied];  // rows of `values`; 64 bits would take four more registers
};

template <typename Real, typename Stored>
__global__ void __launch_bounds__(CostTile<Real, Stored>::kThreads, 3)
    cost_kernel(const __grid_constant__ CostArguments<Real, Stored> arguments) {
    using Tile = CostTile<Real, Stored>;
    CostBlock<Real, Stored>(arguments, std::int64_t{blockIdx.y} * Tile::kRows,
                            std::int64_t{blockIdx.x} * Tile::kFrames)
        .compute();
}

template <typename Real, typename Stored>
void start_costs(const CudaProblem<Real, Stored>& problem, Queue queue, Real* costs) {
    using Tile = CostTile<Real, Stored>;
    const CostArguments<Real, Stored> arguments = {
        problem, problem.n_rows(), terms_per_sum(problem.n_features) / Tile::kDepth, costs};
    const bool has_totals = problem.n_features > arguments.stages_per_sum * Tile::kDepth;
    start(&cost_kernel<Real, Stored>,
          {ceil_div(problem.n_frames, Tile::kFrames), ceil_div(problem.n_rows(), Tile::kRows)},
          Tile::kThreads, 2 * Tile::kStageBytes + (has_totals ? Tile::kTotalBytes : 0), queue,
          "the CUDA kernel of costs", arguments);
}

}  // namespace device
}  // namespace skdejavid
