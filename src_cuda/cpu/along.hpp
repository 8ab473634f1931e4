// Value and gradient along given paths: the part of the work that grows with the length of paths.
//
// Features are cut into strips of a few registers. A strip of all centroids and of the sequences at
// hand stays in the L2 cache while every run of every pair is visited; without strips, centroids
// would be read from memory anew for every sequence.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "../align.hpp"
#include "lanes.hpp"
#include "parallel.hpp"
#include "scratch.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

// Registers in a strip, at most: as many as leave room for all sums, so that runs are visited
// seldom. The gradient has twice as many sums.
constexpr int kDistanceStrip = 8;
constexpr int kGradientStrip = kRegisters == 32 ? 8 : 4;

// Sums of so many terms are kept in the data's own type; then they go on in double. In a distance
// all lanes are added up as well, a gradient is as many sums as there are lanes.
constexpr std::int64_t kTermsPerDistance = 64;
constexpr std::int64_t kTermsPerGradient = 256;

template <int kWidth>
struct Width {
    static constexpr int value = kWidth;
};

/// Calls `visit(Width<width>)` for a width between 1 and kMost.
template <int kMost, typename Visit>
SKDEJAVID_INLINE void with_width(std::int64_t width, const Visit& visit) {
    if constexpr (kMost > 1) {
        if (width < kMost) return with_width<kMost - 1>(width, visit);
    }
    visit(Width<kMost>{});
}

/// How features are cut into strips of nearly equal width, of at most kMost registers.
template <int kMost, typename Real>
class Strips {
 public:
    explicit Strips(std::int64_t n_features)
        : n_features_(n_features),
          n_registers_((n_features + kLanes<Real> - 1) / kLanes<Real>),
          size_((n_registers_ + kMost - 1) / kMost) {}

    std::int64_t size() const { return size_; }

    /// Calls `visit(Width, begin, rest)` for one strip.
    template <typename Visit>
    SKDEJAVID_INLINE void visit(std::int64_t strip, const Visit& visit) const {
        const std::int64_t first = strip * n_registers_ / size_;
        const std::int64_t last = (strip + 1) * n_registers_ / size_;
        const bool is_cut = last * kLanes<Real> > n_features_;
        const int rest = is_cut ? static_cast<int>(n_features_ % kLanes<Real>) : 0;
        with_width<kMost>(last - first,
                          [&](auto width) { visit(width, first * kLanes<Real>, rest); });
    }

 private:
    std::int64_t n_features_;
    std::int64_t n_registers_;
    std::int64_t size_;
};

/// Consecutive frames that are matched to one centroid frame.
template <typename Real>
struct Visit {
    const Real* first;
    const Real* last;
    Real coefficient;
};

/// Goes through the frames of several visits, one after the other. Where a run ends is as good as
/// random, so there is no branch to be guessed; an entry behind the last visit is read.
template <typename Real>
struct Walk {
    const Visit<Real>* visit;
    std::int64_t stride;  // from one frame to the next
    const Real* frame;

    Walk(const Visit<Real>* visits, std::int64_t stride_of_frames)
        : visit(visits), stride(stride_of_frames), frame(visits->first) {}

    /// Returns 1 where a new visit begins, else 0.
    SKDEJAVID_INLINE std::int64_t advance() {
        const std::int64_t is_last = frame == visit->last;
        visit += is_last;
        const auto within = reinterpret_cast<std::uintptr_t>(frame + stride);
        const auto anew = reinterpret_cast<std::uintptr_t>(visit->first);
        const std::uintptr_t mask = -static_cast<std::uintptr_t>(is_last);
        frame = reinterpret_cast<const Real*>((within & ~mask) | (anew & mask));
        return is_last;
    }
};

/// What one strip adds to the distance along one path of `n_cells` cells. `rows` holds `kWidth`
/// registers of centroid and as many of weights for each time step.
template <int kWidth, typename Real>
double strip_distance(const Lanes<Real>* rows, Walk<Real> walk, std::int64_t n_cells) {
    double total = 0.0;
    for (std::int64_t begin = 0; begin < n_cells; begin += kTermsPerDistance) {
        const std::int64_t end = std::min(begin + kTermsPerDistance, n_cells);
        Lanes<Real> sums[kWidth] = {};
        for (std::int64_t cell = begin; cell < end; ++cell) {
            const Lanes<Real>* frame = reinterpret_cast<const Lanes<Real>*>(walk.frame);
#pragma GCC unroll 8
            for (int v = 0; v < kWidth; ++v) {
                sums[v] += rows[kWidth + v] * magnitude<Real>(rows[v] - frame[v]);
            }
            rows += walk.advance() * 2 * kWidth;
        }
        Lanes<Real> all = sums[0];
        for (int v = 1; v < kWidth; ++v) all += sums[v];
        total += sum(all);
    }
    return total;
}

/// Computes the distances of a range of sequences to a range of centroids; holds what is packed.
template <typename Real>
class AlongPaths {
 public:
    AlongPaths(const Problem<Real>& problem, const Run* runs, double* distances, Worker& worker)
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
        lost_.resize(n_pairs);
        lost_.fill(0, n_pairs, 0.0);
        for_each_pair([](std::int64_t, std::int64_t, double& total, double&) { total = 0.0; });
        const Strips<kDistanceStrip, Real> strips(centroids_.n_features);
        for (std::int64_t strip = 0; strip < strips.size(); ++strip) {
            strips.visit(strip, [&](auto width, std::int64_t begin, int) {
                add_strip<decltype(width)::value>(begin);
            });
        }
        for_each_pair([](std::int64_t, std::int64_t, double& total, double& correction) {
            // After an overflow the correction is not a number.
            if (correction == correction) total += correction;
        });
    }

 private:
    template <typename Visitor>
    void for_each_pair(const Visitor& visit) {
        double* correction = lost_.data();
        for (std::int64_t s = first_sequence_; s < last_sequence_; ++s) {
            for (std::int64_t c = first_centroid_; c < last_centroid_; ++c) {
                visit(s, c, distances_[s * centroids_.n_centroids + c], *correction++);
            }
        }
    }

    template <int kWidth>
    void add_strip(std::int64_t begin) {
        const std::int64_t n =
            std::min<std::int64_t>(kWidth * kLanes<Real>, centroids_.n_features - begin);
        pack_rows<kWidth>(begin, n);
        pack_frames<kWidth>(begin, n);
        const Lanes<Real>* frames = frames_.data();
        std::int64_t sequence = first_sequence_;
        for_each_pair([&](std::int64_t s, std::int64_t c, double& total, double& correction) {
            if (s > sequence) frames += sequences_.lengths[sequence++] * kWidth;
            const std::int64_t n_cells = list_visits<kWidth>(s, c, frames);
            worker_.checkpoint(static_cast<double>(n_cells * kWidth * kLanes<Real>));
            const std::int64_t row = (c - first_centroid_) * centroids_.n_timesteps;
            const double term = strip_distance<kWidth, Real>(
                rows_.data() + row * 2 * kWidth, {visits_.data(), kWidth * kLanes<Real>}, n_cells);
            const double sum = total + term;
            const double added = sum - total;
            correction += (total - (sum - added)) + (term - added);
            total = sum;
        });
    }

    /// One visit for each time step; returns the number of cells of the path.
    template <int kWidth>
    std::int64_t list_visits(std::int64_t s, std::int64_t c, const Lanes<Real>* packed_frames) {
        const std::int64_t n_timesteps = centroids_.n_timesteps;
        const Run* runs = runs_ + (s * centroids_.n_centroids + c) * n_timesteps;
        const Real* frames = reinterpret_cast<const Real*>(packed_frames);
        std::int64_t n_cells = 0;
        for (std::int64_t i = 0; i < n_timesteps; ++i) {
            visits_[i].first = frames + runs[i].first * kWidth * kLanes<Real>;
            visits_[i].last = frames + runs[i].last * kWidth * kLanes<Real>;
            n_cells += runs[i].last - runs[i].first + 1;
        }
        visits_[n_timesteps].first = frames;
        return n_cells;
    }

    template <int kWidth>
    void pack_rows(std::int64_t begin, std::int64_t n) {
        const std::int64_t n_rows = (last_centroid_ - first_centroid_) * centroids_.n_timesteps;
        rows_.resize(n_rows * 2 * kWidth);
        const std::int64_t offset = centroids_.offset(first_centroid_, 0) + begin;
        for (std::int64_t row = 0; row < n_rows; ++row) {
            const std::int64_t source = offset + row * centroids_.n_features;
            Lanes<Real>* target = rows_.data() + row * 2 * kWidth;
            pack(centroids_.values + source, n, target, 1);
            pack(centroids_.weights + source, n, target + kWidth, 1);
        }
    }

    template <int kWidth>
    void pack_frames(std::int64_t begin, std::int64_t n) {
        std::int64_t n_frames = 0;
        for (std::int64_t s = first_sequence_; s < last_sequence_; ++s) {
            n_frames += sequences_.lengths[s];
        }
        frames_.resize(n_frames * kWidth);
        Lanes<Real>* target = frames_.data();
        for (std::int64_t s = first_sequence_; s < last_sequence_; ++s) {
            const Real* source = sequences_.frames(s) + begin;
            for (std::int64_t j = 0; j < sequences_.lengths[s]; ++j, target += kWidth) {
                pack(source + j * sequences_.n_features, n, target, 1);
            }
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
    Scratch<double> lost_;         // by rounding, of each pair: there are many strips to add up
    Scratch<Lanes<Real>> rows_;    // (n_centroids, n_timesteps, centroid and weights, width)
    Scratch<Lanes<Real>> frames_;  // (n_frames, width)
};

/// Calls `visit(coefficient, frames, run)` for every sequence, in their order, whose coefficient
/// with the centroid is not 0. The fixed order makes sums over sequences reproducible.
template <typename Real, typename Visitor>
void for_each_run(const Problem<Real>& problem, const Run* runs, const double* coefficients,
                  std::int64_t centroid, std::int64_t timestep, const Visitor& visit) {
    for (std::int64_t s = 0; s < problem.sequences.n_sequences; ++s) {
        const std::int64_t pair = s * problem.centroids.n_centroids + centroid;
        if (coefficients[pair] == 0.0) continue;
        visit(coefficients[pair], problem.sequences.frames(s),
              runs[pair * problem.centroids.n_timesteps + timestep]);
    }
}

/// Adds the numbers of some registers to as many doubles.
template <int kWidth, typename Real>
SKDEJAVID_INLINE void add_doubles(const Lanes<Real>* terms, double* totals) {
    alignas(kRegisterBytes) Real numbers[kWidth * kLanes<Real>];
    std::memcpy(numbers, terms, sizeof numbers);
    for (int k = 0; k < kWidth * kLanes<Real>; ++k) totals[k] += numbers[k];
}

/// One strip of dL/dC and dL/dU of one centroid frame: sums over the cells matched to it, in their
/// order.
template <int kWidth, typename Real>
void strip_gradients(const Real* centroid, const Real* weights, Walk<Real> walk,
                     std::int64_t n_cells, int rest, Real* grad_centroid, Real* grad_weights) {
    constexpr int kSize = kWidth * kLanes<Real>;
    const auto read = [rest](const Real* source, int v) {
        const Real* const at = source + v * kLanes<Real>;
        return v == kWidth - 1 && rest > 0 ? load_first(at, rest) : load(at);
    };
    Lanes<Real> values[kWidth];
#pragma GCC unroll 8
    for (int v = 0; v < kWidth; ++v) values[v] = read(centroid, v);
    alignas(kRegisterBytes) double total_signs[kSize] = {};
    alignas(kRegisterBytes) double total_differences[kSize] = {};
    for (std::int64_t begin = 0; begin < n_cells; begin += kTermsPerGradient) {
        const std::int64_t end = std::min(begin + kTermsPerGradient, n_cells);
        Lanes<Real> signs[kWidth] = {};
        Lanes<Real> differences[kWidth] = {};
        for (std::int64_t cell = begin; cell < end; ++cell) {
            const Lanes<Real> grad = Lanes<Real>{} + walk.visit->coefficient;
#pragma GCC unroll 8
            for (int v = 0; v < kWidth; ++v) {
                const Lanes<Real> difference = values[v] - read(walk.frame, v);
                const Lanes<Real> signed_grad = flipped_where_negative<Real>(grad, difference);
                differences[v] += signed_grad * difference;
                // The derivative of the magnitude is 0 at 0.
                signs[v] = added_where_not_zero<Real>(signs[v], signed_grad, difference);
            }
            walk.advance();
        }
        add_doubles<kWidth, Real>(signs, total_signs);
        add_doubles<kWidth, Real>(differences, total_differences);
    }
    const int size = rest > 0 ? (kWidth - 1) * kLanes<Real> + rest : kSize;
    for (int k = 0; k < size; ++k) {
        grad_centroid[k] = static_cast<Real>(weights[k] * total_signs[k]);
        grad_weights[k] = static_cast<Real>(total_differences[k]);
    }
}

/// Fills in one strip of the gradients of all frames of one centroid.
template <int kWidth, typename Real>
void fill_gradients(const Problem<Real>& problem, const Run* runs, const double* grad_distances,
                    std::int64_t centroid, std::int64_t begin, int rest,
                    Scratch<Visit<Real>>& visits, Worker& worker, Real* grad_centroids,
                    Real* grad_weights) {
    const CentroidView<Real>& centroids = problem.centroids;
    const std::int64_t n_features = centroids.n_features;
    for (std::int64_t i = 0; i < centroids.n_timesteps; ++i) {
        std::int64_t n_visits = 0;
        std::int64_t n_cells = 0;
        const auto list = [&](double grad_distance, const Real* frames, Run run) {
            const Real* first = frames + run.first * n_features + begin;
            const std::int64_t length = run.last - run.first + 1;
            visits[n_visits++] = {first, first + (length - 1) * n_features,
                                  static_cast<Real>(grad_distance)};
            n_cells += length;
        };
        for_each_run(problem, runs, grad_distances, centroid, i, list);
        visits[n_visits] = visits[0];
        worker.checkpoint(static_cast<double>(n_cells * kWidth * kLanes<Real>));
        const std::int64_t offset = centroids.offset(centroid, i) + begin;
        strip_gradients<kWidth, Real>(centroids.values + offset, centroids.weights + offset,
                                      {visits.data(), n_features}, n_cells, rest,
                                      grad_centroids + offset, grad_weights + offset);
    }
}

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
