// Costs of all time steps and all frames, in register tiles over packed frames: the part of the
// work that grows with the product of all sizes. A row is a time step of a centroid with its
// weights.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "../cost_term.hpp"
#include "lanes.hpp"
#include "parallel.hpp"
#include "scratch.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

// A tile of rows by frames keeps all its sums in registers and reads each number once for several
// differences.
constexpr int kTileRows = kRegisters == 32 ? 4 : 2;
constexpr int kTileFrames = 6;

// Maximum number of registers of features in a block. It is the number of terms that a lane sums
// before the lanes are added and the sum continues in double: few enough for float32 to be about as
// accurate as NumPy's pairwise sums and for the rows of a tile to stay in the L1 cache, and many
// enough to add lanes rarely.
constexpr std::int64_t kBlockRegisters = 64;

// Maximum number of frames that are packed at once: rows are read from memory once for all of them,
// and the packed frames stay in the L2 cache.
constexpr std::int64_t kChunk = 40 * kTileFrames;

/// Input of a tile: `n_registers` whole registers of features of each row and, if `rest` > 0, a
/// last one with `rest` features. Frames are packed. Rows are not: they are read from memory once,
/// and from the L1 cache for all other tiles.
template <typename Real>
struct Tile {
    const Real* centroids[kTileRows];
    const Real* weights[kTileRows];
    const Lanes<Real>* frames;  // (registers, frames of the tile)
    std::int64_t n_registers;
    int rest;
    const Real* ahead;  // a row to prefetch: the next tiles read it, and it may be in main memory
};

/// Adds the costs of one register of features, of each row and frame, to the sums.
template <int kFrames, typename Real, typename Load>
SKDEJAVID_INLINE void add_costs(const Tile<Real>& tile, std::int64_t v, const Load& load_row,
                                Lanes<Real> (&sums)[kFrames][kTileRows]) {
    const Lanes<Real>* frames = tile.frames + v * kFrames;
#pragma GCC unroll 4
    for (int r = 0; r < kTileRows; ++r) {
        const Lanes<Real> centroid = load_row(tile.centroids[r] + v * kLanes<Real>);
        const Lanes<Real> weight = load_row(tile.weights[r] + v * kLanes<Real>);
#pragma GCC unroll 6
        for (int j = 0; j < kFrames; ++j) {
            sums[j][r] = add_cost(sums[j][r], weight, centroid, frames[j]);
        }
    }
}

/// Writes the costs (kFrames, kTileRows) of a tile. The terms of each sum and their order do not
/// depend on the size of the tile.
template <int kFrames, typename Real>
__attribute__((noinline)) void tile_costs(const Tile<Real>& tile, double* costs) {
    Lanes<Real> sums[kFrames][kTileRows] = {};
    for (std::int64_t v = 0; v < tile.n_registers; ++v) {
        __builtin_prefetch(tile.ahead + v * kLanes<Real>, 0, 2);
        add_costs<kFrames, Real>(tile, v, [](const Real* row) { return load(row); }, sums);
    }
    if (tile.rest > 0) {
        add_costs<kFrames, Real>(
            tile, tile.n_registers, [&](const Real* row) { return load_first(row, tile.rest); },
            sums);
    }
    const Lanes<Real>* cells = &sums[0][0];
    constexpr int kCells = kTileRows * kFrames;
#pragma GCC unroll 6
    for (int k = 0; k + 4 <= kCells; k += 4) {
        sum_four<Real>(cells[k], cells[k + 1], cells[k + 2], cells[k + 3], costs + k);
    }
    for (int k = kCells / 4 * 4; k < kCells; ++k) costs[k] = sum(cells[k]);
}

template <typename Real>
void tile_costs(int n_frames, const Tile<Real>& tile, double* costs) {
    static_assert(kTileFrames == 6, "one case for each number of frames");
    switch (n_frames) {
        case 6:
            return tile_costs<6, Real>(tile, costs);
        case 5:
            return tile_costs<5, Real>(tile, costs);
        case 4:
            return tile_costs<4, Real>(tile, costs);
        case 3:
            return tile_costs<3, Real>(tile, costs);
        case 2:
            return tile_costs<2, Real>(tile, costs);
        default:
            return tile_costs<1, Real>(tile, costs);
    }
}

/// Rows at arbitrary offsets in the arrays of centroids and weights.
template <typename Real>
struct RowView {
    const Real* centroids;
    const Real* weights;
    const std::int64_t* offsets;  // (n_rows,): of each row in both arrays
    std::int64_t n_rows;          // whole tiles: the last row is repeated to fill the last one
    std::int64_t n_features;
};

/// Computes costs of up to kChunk frames; owns the packed frames.
template <typename Real>
class CostPanels {
 public:
    /// Writes `costs` (n_frames, n_rows).
    void compute(const RowView<Real>& rows, const Real* const* frames, std::int64_t n_frames,
                 double* costs, Worker& worker) {
        n_tiles_ = (n_frames + kTileFrames - 1) / kTileFrames;
        for (std::int64_t tile = 0; tile <= n_tiles_; ++tile) {
            begins_[tile] = static_cast<int>(tile * n_frames / n_tiles_);
        }
        const std::int64_t n_registers = (rows.n_features + kLanes<Real> - 1) / kLanes<Real>;
        const std::int64_t n_blocks = (n_registers + kBlockRegisters - 1) / kBlockRegisters;
        for (std::int64_t block = 0; block < n_blocks; ++block) {
            const std::int64_t begin = block * n_registers / n_blocks * kLanes<Real>;
            const std::int64_t end = (block + 1) * n_registers / n_blocks * kLanes<Real>;
            add_block(rows, frames, begin, std::min(end, rows.n_features), costs, worker);
        }
    }

 private:
    typedef double RowCosts __attribute__((vector_size(kTileRows * sizeof(double))));

    /// Adds the costs of the features from `begin` to `end`, or writes them if they are the first.
    void add_block(const RowView<Real>& rows, const Real* const* frames, std::int64_t begin,
                   std::int64_t end, double* costs, Worker& worker) {
        Tile<Real> tile;
        tile.n_registers = (end - begin) / kLanes<Real>;
        tile.rest = static_cast<int>((end - begin) % kLanes<Real>);
        const std::int64_t n_registers = tile.n_registers + (tile.rest > 0);
        frames_.resize(begins_[n_tiles_] * n_registers);
        pack_frames(frames, begin, end - begin, n_registers);
        const Real* next[2 * kTileRows];
        for (std::int64_t row = 0; row < rows.n_rows; row += kTileRows) {
            const std::int64_t next_row = std::min(row + kTileRows, rows.n_rows - kTileRows);
            for (int r = 0; r < kTileRows; ++r) {
                tile.centroids[r] = rows.centroids + rows.offsets[row + r] + begin;
                tile.weights[r] = rows.weights + rows.offsets[row + r] + begin;
                next[2 * r] = rows.centroids + rows.offsets[next_row + r] + begin;
                next[2 * r + 1] = rows.weights + rows.offsets[next_row + r] + begin;
            }
            worker.checkpoint(static_cast<double>(begins_[n_tiles_] * kTileRows * (end - begin)));
            for (std::int64_t t = 0; t < n_tiles_; ++t) {
                const int n_frames = begins_[t + 1] - begins_[t];
                tile.frames = frames_.data() + begins_[t] * n_registers;
                tile.ahead = next[t % (2 * kTileRows)];
                double tile_sums[kTileFrames][kTileRows];
                tile_costs<Real>(n_frames, tile, tile_sums[0]);
                double* target = costs + begins_[t] * rows.n_rows + row;
                for (int j = 0; j < n_frames; ++j, target += rows.n_rows) {
                    RowCosts sums, before = {};
                    std::memcpy(&sums, tile_sums[j], sizeof sums);
                    if (begin > 0) std::memcpy(&before, target, sizeof before);
                    sums += before;
                    std::memcpy(target, &sums, sizeof sums);
                }
            }
        }
    }

    void pack_frames(const Real* const* frames, std::int64_t begin, std::int64_t n,
                     std::int64_t n_registers) {
        const int last = begins_[n_tiles_] - 1;
        for (std::int64_t t = 0; t < n_tiles_; ++t) {
            const int n_frames = begins_[t + 1] - begins_[t];
            Lanes<Real>* target = frames_.data() + begins_[t] * n_registers;
            for (int j = begins_[t]; j < begins_[t + 1]; ++j, ++target) {
                pack(frames[j] + begin, n, target, n_frames, frames[std::min(j + 2, last)] + begin);
            }
        }
    }

    // Tiles have nearly equal sizes: a tile of one frame has too few independent sums to hide the
    // latency of additions.
    std::int64_t n_tiles_ = 0;
    int begins_[kChunk / kTileFrames + 1];  // first frame of each tile
    Scratch<Lanes<Real>> frames_;           // for each tile (registers, frames of the tile)
};

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
