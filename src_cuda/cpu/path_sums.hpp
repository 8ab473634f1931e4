// Distances along given paths: sums of costs over the cells of each path.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../align.hpp"
#include "../cost_term.hpp"
#include "lanes.hpp"
#include "parallel.hpp"
#include "path_strips.hpp"
#include "scratch.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

// Maximum number of registers in a strip: the sums of all registers fit into the register file, so
// that runs are visited as rarely as possible.
constexpr int kDistanceStrip = 8;

// Number of terms that a lane sums in the data's own type before the sum continues in double. The
// lanes of a strip are then added as well, so that a narrow strip, with fewer lanes, sums fewer.
template <int kWidth>
constexpr std::int64_t kTermsPerDistance = kWidth < 4 ? 16 : 64;

// Number of frames whose strips leave room in the L1 cache for the strip of a centroid.
constexpr std::int64_t kFramesInL1 = 72;

/// Returns one strip's part of the distance along one path of `n_cells` cells. `rows` contains, for
/// each time step, `kWidth` registers of the centroid followed by `kWidth` registers of weights.
template <int kWidth, typename Real>
double strip_distance(const Lanes<Real>* rows, Walk<kWidth, Real> walk, std::int64_t n_cells) {
    double total = 0.0;
    for (std::int64_t begin = 0; begin < n_cells; begin += kTermsPerDistance<kWidth>) {
        const std::int64_t end = std::min(begin + kTermsPerDistance<kWidth>, n_cells);
        Lanes<Real> sums[kWidth] = {};
        for (std::int64_t cell = begin; cell < end; ++cell) {
#pragma GCC unroll 8
            for (int v = 0; v < kWidth; ++v) {
                sums[v] = add_cost(sums[v], rows[kWidth + v], rows[v], walk.frame[v]);
            }
            rows += walk.advance() * 2 * kWidth;
        }
        Lanes<Real> all = sums[0];
        for (int v = 1; v < kWidth; ++v) all += sums[v];
        total += sum(all);
    }
    return total;
}

/// Returns the same for a narrow strip, where a mispredicted branch at the end of a run costs less
/// than the branch-free `Walk`.
template <int kWidth, typename Real>
double narrow_strip_distance(const Lanes<Real>* rows, const Visit<Real>* visits,
                             std::int64_t n_timesteps) {
    double total = 0.0;
    Lanes<Real> sums[kWidth] = {};
    std::int64_t n_terms = 0;
    const auto add_up = [&] {
        Lanes<Real> all = sums[0];
        for (int v = 1; v < kWidth; ++v) all += sums[v];
        for (int v = 0; v < kWidth; ++v) sums[v] = Lanes<Real>{};
        total += sum(all);
        n_terms = 0;
    };
    for (std::int64_t i = 0; i < n_timesteps; ++i, rows += 2 * kWidth) {
        for (const Lanes<Real>* frame = visits[i].first; frame <= visits[i].last; frame += kWidth) {
            for (int v = 0; v < kWidth; ++v) {
                sums[v] = add_cost(sums[v], rows[kWidth + v], rows[v], frame[v]);
            }
            if (++n_terms == kTermsPerDistance<kWidth>) add_up();
        }
    }
    add_up();
    return total;
}

/// Computes the distances of a range of sequences to a range of centroids; owns the packed copies.
template <typename Real>
class DistancesAlong {
 public:
    DistancesAlong(const Problem<Real>& problem, const Run* runs, double* distances, Worker& worker)
        : worker_(worker),
          sequences_(problem.sequences),
          centroids_(problem.centroids),
          runs_(runs),
          distances_(distances),
          visits_(centroids_.n_timesteps + 1) {}

    void compute(std::int64_t first_sequence, std::int64_t last_sequence,
                 std::int64_t first_centroid, std::int64_t last_centroid) {
        first_sequence_ = first_sequence;
        last_sequence_ = last_sequence;
        first_centroid_ = first_centroid;
        last_centroid_ = last_centroid;
        const std::int64_t n_pairs =
            (last_sequence - first_sequence) * (last_centroid - first_centroid);
        compensation_.resize(n_pairs);
        compensation_.fill(0, n_pairs, 0.0);
        for_each_pair([](std::int64_t, std::int64_t, double& total, double&) { total = 0.0; });
        const Strips<kDistanceStrip, Real> strips(centroids_.n_features);
        for (std::int64_t strip = 0; strip < strips.size(); ++strip) {
            strips.visit(strip, [&](auto width, std::int64_t begin) {
                add_strip<decltype(width)::value>(begin);
            });
        }
        for_each_pair([](std::int64_t, std::int64_t, double& total, double& compensation) {
            // After an overflow the compensation is NaN.
            if (compensation == compensation) total += compensation;
        });
    }

 private:
    /// Visits all pairs, a few sequences at a time: their strips stay in the L1 cache for all
    /// centroids, and each strip of a centroid is read once for all of them.
    template <typename Visitor>
    void for_each_pair(const Visitor& visit) {
        std::int64_t last = first_sequence_;
        for (std::int64_t first = first_sequence_; first < last_sequence_; first = last) {
            std::int64_t n_frames = 0;
            do {
                n_frames += sequences_.lengths[last++];
            } while (last < last_sequence_ && n_frames + sequences_.lengths[last] <= kFramesInL1);
            for (std::int64_t c = first_centroid_; c < last_centroid_; ++c) {
                for (std::int64_t s = first; s < last; ++s) {
                    const std::int64_t pair =
                        (s - first_sequence_) * (last_centroid_ - first_centroid_) + c -
                        first_centroid_;
                    visit(s, c, distances_[s * centroids_.n_centroids + c], compensation_[pair]);
                }
            }
        }
    }

    template <int kWidth>
    void add_strip(std::int64_t begin) {
        pack_rows<kWidth>(begin);
        frames_.template pack_strip<kWidth>(sequences_, first_sequence_, last_sequence_, begin);
        for_each_pair([&](std::int64_t s, std::int64_t c, double& total, double& compensation) {
            const std::int64_t n_cells = list_visits<kWidth>(s, c);
            worker_.checkpoint(static_cast<double>(n_cells * kWidth * kLanes<Real>));
            const std::int64_t row = (c - first_centroid_) * centroids_.n_timesteps;
            const Lanes<Real>* rows = rows_.data() + row * 2 * kWidth;
            double term;
            if constexpr (kWidth < 3) {
                term = narrow_strip_distance<kWidth, Real>(rows, visits_.data(),
                                                           centroids_.n_timesteps);
            } else {
                term =
                    strip_distance<kWidth, Real>(rows, Walk<kWidth, Real>(visits_.data()), n_cells);
            }
            const double sum = total + term;
            const double added = sum - total;
            compensation += (total - (sum - added)) + (term - added);  // Knuth's two-sum
            total = sum;
        });
    }

    /// Lists one visit for each time step and returns the number of cells of the path.
    template <int kWidth>
    std::int64_t list_visits(std::int64_t s, std::int64_t c) {
        const std::int64_t n_timesteps = centroids_.n_timesteps;
        const Run* runs = runs_ + (s * centroids_.n_centroids + c) * n_timesteps;
        std::int64_t n_cells = 0;
        for (std::int64_t i = 0; i < n_timesteps; ++i) {
            visits_[i] = frames_.template visit<kWidth>(s, runs[i], Real(0));
            n_cells += runs[i].last - runs[i].first + 1;
        }
        visits_[n_timesteps] = visits_[0];
        return n_cells;
    }

    template <int kWidth>
    void pack_rows(std::int64_t begin) {
        const std::int64_t n =
            std::min<std::int64_t>(kWidth * kLanes<Real>, centroids_.n_features - begin);
        const std::int64_t n_rows = (last_centroid_ - first_centroid_) * centroids_.n_timesteps;
        rows_.resize(n_rows * 2 * kWidth);
        const std::int64_t offset = centroids_.offset(first_centroid_, 0) + begin;
        for (std::int64_t row = 0; row < n_rows; ++row) {
            const std::int64_t source = offset + row * centroids_.n_features;
            Lanes<Real>* target = rows_.data() + row * 2 * kWidth;
            const std::int64_t next =
                offset + std::min(row + 4, n_rows - 1) * centroids_.n_features;
            pack(centroids_.values + source, n, target, 1, centroids_.values + next);
            pack(centroids_.weights + source, n, target + kWidth, 1, centroids_.weights + next);
        }
    }

    Worker& worker_;
    const SequenceView<Real>& sequences_;
    const CentroidView<Real>& centroids_;
    const Run* const runs_;
    double* const distances_;

    std::int64_t first_sequence_ = 0;
    std::int64_t last_sequence_ = 0;
    std::int64_t first_centroid_ = 0;
    std::int64_t last_centroid_ = 0;
    Scratch<Visit<Real>> visits_;
    // Rounding errors of each pair's sum, which has one term per strip.
    Scratch<double> compensation_;
    Scratch<Lanes<Real>> rows_;  // (n_centroids, n_timesteps, centroid and weights, width)
    PackedFrames<Real> frames_;
};

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
