// The cost of many centroid frames against many sequence frames: the part of the work that grows
// with the product of all sizes, in register tiles over packed panels.
#pragma once

#include <algorithm>
#include <cstdint>

#include "lanes.hpp"
#include "scratch.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

// A tile of centroid frames ("rows") by sequence frames keeps all its sums in registers, and so
// reads each number once for several differences.
constexpr int kTileRows = kRegisters == 32 ? 4 : 2;
constexpr int kTileFrames = 6;

// Features per block. A lane adds up at most 32 terms before all lanes are added up and the sum
// goes on in double, which keeps float32 as accurate as NumPy's pairwise sums; and what a tile
// reads stays in the L1 cache. float64 blocks are longer because there its own sum is what rounds.
template <typename Real>
constexpr std::int64_t kBlockRegisters = sizeof(Real) == 4 ? 32 : 128;
template <typename Real>
constexpr std::int64_t kBlock = kBlockRegisters<Real> * kLanes<Real>;

// So many frames are packed at once: the more, the less the packing of rows costs.
constexpr std::int64_t kChunk = 16 * kTileFrames;

/// Copies `n` features to every `stride`-th register from `target` on, filled up with zeros.
template <typename Real>
SKDEJAVID_INLINE void pack(const Real* source, std::int64_t n, Lanes<Real>* target, int stride) {
    std::int64_t f = 0;
    for (; f + kLanes<Real> <= n; f += kLanes<Real>, target += stride) *target = load(source + f);
    if (f < n) *target = load_first(source + f, static_cast<int>(n - f));
}

/// Writes to `costs[r][j]` the cost of row r and frame j. `rows` holds, for each register of
/// features, the centroid and the weight of each row, and `frames` each frame. Whatever the size of
/// the tile, the sum of each of its cells has the same terms in the same order.
template <int kFrames, typename Real>
__attribute__((noinline)) void tile_costs(const Lanes<Real>* rows, const Lanes<Real>* frames,
                                          std::int64_t n_registers, double (*costs)[kTileFrames]) {
    Lanes<Real> sums[kTileRows][kFrames] = {};
    for (std::int64_t v = 0; v < n_registers; ++v) {
#pragma GCC unroll 4
        for (int r = 0; r < kTileRows; ++r) {
            const Lanes<Real> centroid = rows[2 * r];
            const Lanes<Real> weight = rows[2 * r + 1];
#pragma GCC unroll 6
            for (int j = 0; j < kFrames; ++j) {
                sums[r][j] += weight * magnitude<Real>(centroid - frames[j]);
            }
        }
        rows += 2 * kTileRows;
        frames += kFrames;
    }
    const Lanes<Real>* cells = &sums[0][0];
    double totals[kTileRows * kFrames];
    constexpr int kCells = kTileRows * kFrames;
#pragma GCC unroll 6
    for (int k = 0; k + 4 <= kCells; k += 4) {
        sum_four<Real>(cells[k], cells[k + 1], cells[k + 2], cells[k + 3], totals + k);
    }
    for (int k = kCells / 4 * 4; k < kCells; ++k) totals[k] = sum(cells[k]);
    for (int r = 0; r < kTileRows; ++r) {
        for (int j = 0; j < kFrames; ++j) costs[r][j] = totals[r * kFrames + j];
    }
}

template <typename Real>
void tile_costs(int n_frames, const Lanes<Real>* rows, const Lanes<Real>* frames,
                std::int64_t n_registers, double (*costs)[kTileFrames]) {
    static_assert(kTileFrames == 6, "one case for each number of frames");
    switch (n_frames) {
        case 6:
            return tile_costs<6, Real>(rows, frames, n_registers, costs);
        case 5:
            return tile_costs<5, Real>(rows, frames, n_registers, costs);
        case 4:
            return tile_costs<4, Real>(rows, frames, n_registers, costs);
        case 3:
            return tile_costs<3, Real>(rows, frames, n_registers, costs);
        case 2:
            return tile_costs<2, Real>(rows, frames, n_registers, costs);
        default:
            return tile_costs<1, Real>(rows, frames, n_registers, costs);
    }
}

/// Computes costs of up to kChunk frames; holds what is packed.
template <typename Real>
class CostPanels {
 public:
    CostPanels()
        : rows_(2 * kTileRows * kBlockRegisters<Real>), frames_(kChunk * kBlockRegisters<Real>) {}

    /// Calls `add(row, frame, cost)` for each row and frame, once for each block of features.
    template <typename Add>
    void for_each_cost(const Real* weights, const Real* centroids, std::int64_t n_rows,
                       const Real* const* frames, std::int64_t n_frames, std::int64_t n_features,
                       const Add& add) {
        for (std::int64_t begin = 0; begin < n_features; begin += kBlock<Real>) {
            const std::int64_t n = std::min(kBlock<Real>, n_features - begin);
            const std::int64_t n_registers = (n + kLanes<Real> - 1) / kLanes<Real>;
            pack_frames(frames, n_frames, begin, n, n_registers);
            for (std::int64_t row = 0; row < n_rows; row += kTileRows) {
                const int rows = static_cast<int>(std::min<std::int64_t>(kTileRows, n_rows - row));
                const std::int64_t offset = row * n_features + begin;
                pack_rows(weights + offset, centroids + offset, rows, n_features, n);
                const std::int64_t n_tiles = count_tiles(n_frames);
                for (std::int64_t tile = 0; tile < n_tiles; ++tile) {
                    const std::int64_t first = first_of_tile(tile, n_frames);
                    const int size = static_cast<int>(first_of_tile(tile + 1, n_frames) - first);
                    double costs[kTileRows][kTileFrames];
                    if (row + 2 * kTileRows <= n_rows) {
                        const std::int64_t next = offset + kTileRows * n_features;
                        prefetch_rows(weights + next, centroids + next, n_features, n, tile,
                                      n_tiles);
                    }
                    tile_costs<Real>(size, rows_.data(), frames_.data() + first * n_registers,
                                     n_registers, costs);
                    for (int r = 0; r < rows; ++r) {
                        for (int j = 0; j < size; ++j) add(row + r, first + j, costs[r][j]);
                    }
                }
            }
        }
    }

 private:
    static std::int64_t count_tiles(std::int64_t n_frames) {
        return (n_frames + kTileFrames - 1) / kTileFrames;
    }

    /// Tiles are of nearly equal size: one of a single frame would wait for its own sums.
    static std::int64_t first_of_tile(std::int64_t tile, std::int64_t n_frames) {
        return tile * n_frames / count_tiles(n_frames);
    }

    void pack_frames(const Real* const* frames, std::int64_t n_frames, std::int64_t begin,
                     std::int64_t n, std::int64_t n_registers) {
        for (std::int64_t tile = 0; tile < count_tiles(n_frames); ++tile) {
            const std::int64_t first = first_of_tile(tile, n_frames);
            const std::int64_t size = first_of_tile(tile + 1, n_frames) - first;
            for (std::int64_t j = 0; j < size; ++j) {
                pack(frames[first + j] + begin, n, frames_.data() + first * n_registers + j,
                     static_cast<int>(size));
            }
        }
    }

    /// Asks for part `part` of `n_parts` of the rows that are packed next, which may be far away.
    static void prefetch_rows(const Real* weights, const Real* centroids, std::int64_t n_features,
                              std::int64_t n, std::int64_t part, std::int64_t n_parts) {
        constexpr std::int64_t kCacheLine = 64 / sizeof(Real);
        const std::int64_t end = (part + 1) * n / n_parts;
        for (int r = 0; r < kTileRows; ++r) {
            for (std::int64_t f = part * n / n_parts; f < end; f += kCacheLine) {
                __builtin_prefetch(weights + r * n_features + f);
                __builtin_prefetch(centroids + r * n_features + f);
            }
        }
    }

    /// Rows that are missing in the last tile keep whatever was there: nobody asks for their costs.
    void pack_rows(const Real* weights, const Real* centroids, int n_rows, std::int64_t n_features,
                   std::int64_t n) {
        for (int r = 0; r < n_rows; ++r) {
            pack(centroids + r * n_features, n, rows_.data() + 2 * r, 2 * kTileRows);
            pack(weights + r * n_features, n, rows_.data() + 2 * r + 1, 2 * kTileRows);
        }
    }

    Scratch<Lanes<Real>> rows_;    // (kBlockRegisters, kTileRows, centroid and weight)
    Scratch<Lanes<Real>> frames_;  // for each tile (registers of the block, frames of the tile)
};

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
