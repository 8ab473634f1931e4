// Costs of all time steps and all frames for few features. The tiles of cost.hpp would leave lanes
// empty, and adding lanes would take most of the time: here a lane is a row.
#pragma once

#include <cstdint>

#include "../cost_term.hpp"
#include "cost.hpp"
#include "lanes.hpp"
#include "parallel.hpp"
#include "scratch.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

// Maximum number of features: a lane sums one term for each, no more of them than in cost.hpp.
constexpr std::int64_t kMostNarrowFeatures = kBlockRegisters;

/// Computes costs with one row in each lane; owns the packed rows.
template <typename Real>
class NarrowPanels {
 public:
    /// Packs rows; their number must be a multiple of `kLanes<Real>`.
    void pack(const RowView<Real>& rows) {
        n_features_ = rows.n_features;
        n_rows_ = rows.n_rows;
        rows_.resize(n_rows_ / kLanes<Real> * 2 * n_features_);
        for (std::int64_t row = 0; row < n_rows_; ++row) {
            const std::int64_t lane = row % kLanes<Real>;
            Lanes<Real>* target = rows_.data() + (row - lane) / kLanes<Real> * 2 * n_features_;
            for (std::int64_t f = 0; f < n_features_; ++f) {
                target[2 * f][lane] = rows.centroids[rows.offsets[row] + f];
                target[2 * f + 1][lane] = rows.weights[rows.offsets[row] + f];
            }
        }
    }

    /// Writes `costs` (n_frames, n_rows).
    void compute(const Real* const* frames, std::int64_t n_frames, double* costs,
                 Worker& worker) const {
        for (std::int64_t row = 0; row < n_rows_; row += kLanes<Real>) {
            worker.checkpoint(static_cast<double>(n_frames * kLanes<Real> * n_features_));
            const Lanes<Real>* block = rows_.data() + row / kLanes<Real> * 2 * n_features_;
            std::int64_t j = 0;
            for (; j + kTileFrames <= n_frames; j += kTileFrames) {
                tile<kTileFrames>(block, frames + j, costs + j * n_rows_ + row);
            }
            for (; j < n_frames; ++j) tile<1>(block, frames + j, costs + j * n_rows_ + row);
        }
    }

 private:
    template <int kFrames>
    void tile(const Lanes<Real>* block, const Real* const* frames, double* costs) const {
        Lanes<Real> sums[kFrames] = {};
        for (std::int64_t f = 0; f < n_features_; ++f) {
            const Lanes<Real> centroid = block[2 * f];
            const Lanes<Real> weight = block[2 * f + 1];
#pragma GCC unroll 6
            for (int j = 0; j < kFrames; ++j) {
                sums[j] = add_cost(sums[j], weight, centroid, frames[j][f]);
            }
        }
#pragma GCC unroll 6
        for (int j = 0; j < kFrames; ++j) store_doubles(sums[j], costs + j * n_rows_);
    }

    std::int64_t n_features_ = 0;
    std::int64_t n_rows_ = 0;
    Scratch<Lanes<Real>> rows_;  // for each register of rows (n_features, centroid and weight)
};

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
