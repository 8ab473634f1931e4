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
#include "../cost_term.hpp"
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
// In a narrow strip fewer lanes share the terms.
template <int kWidth>
constexpr std::int64_t kTermsPerDistance = kWidth < 4 ? 16 : 64;
constexpr std::int64_t kTermsPerGradient = 256;

template <int kWidth>
struct Width {
    static constexpr int value = kWidth;
};

/// Calls `visit(Width<width>)` for a width between 1 and kMost.
template <int kMost, typename Visitor>
SKDEJAVID_INLINE void with_width(std::int64_t width, const Visitor& visit) {
    if constexpr (kMost > 1) {
        if (width < kMost) return with_width<kMost - 1>(width, visit);
    }
    visit(Width<kMost>{});
}

// So many frames' strips leave room in the L1 cache for that of a centroid; and so many are packed
// for gradients, which bounds the memory.
constexpr std::int64_t kFramesInL1 = 72;
constexpr std::int64_t kFramesPacked = 1664;

/// How features are cut into strips of nearly equal width, of at most kMost registers.
template <int kMost, typename Real>
class Strips {
 public:
    explicit Strips(std::int64_t n_features)
        : n_registers_((n_features + kLanes<Real> - 1) / kLanes<Real>),
          size_((n_registers_ + kMost - 1) / kMost) {}

    std::int64_t size() const { return size_; }

    /// Calls `visit(Width, begin)` for one strip, with its first feature.
    template <typename Visitor>
    SKDEJAVID_INLINE void visit(std::int64_t strip, const Visitor& visit) const {
        const std::int64_t first = strip * n_registers_ / size_;
        const std::int64_t last = (strip + 1) * n_registers_ / size_;
        with_width<kMost>(last - first, [&](auto width) { visit(width, first * kLanes<Real>); });
    }

 private:
    std::int64_t n_registers_;
    std::int64_t size_;
};

/// Consecutive packed frames that are matched to one centroid frame.
template <typename Real>
struct Visit {
    const Lanes<Real>* first;
    const Lanes<Real>* last;
    Real coefficient;
};

/// Goes through the frames of several visits, one after the other. Where a run ends is as good as
/// random, so there is no branch to be guessed; an entry behind the last visit is read.
template <int kWidth, typename Real>
struct Walk {
    const Visit<Real>* visit;
    const Lanes<Real>* frame;

    explicit Walk(const Visit<Real>* visits) : visit(visits), frame(visits->first) {}

    /// Returns 1 where a new visit begins, else 0.
    SKDEJAVID_INLINE std::int64_t advance() {
        const std::int64_t is_last = frame == visit->last;
        visit += is_last;
        const auto within = reinterpret_cast<std::uintptr_t>(frame + kWidth);
        const auto anew = reinterpret_cast<std::uintptr_t>(visit->first);
        const std::uintptr_t mask = -static_cast<std::uintptr_t>(is_last);
        frame = reinterpret_cast<const Lanes<Real>*>((within & ~mask) | (anew & mask));
        return is_last;
    }
};

/// One strip of the frames of consecutive sequences, side by side.
template <typename Real>
class PackedFrames {
 public:
    template <int kWidth>
    void pack_strip(const SequenceView<Real>& sequences, std::int64_t first_sequence,
                    std::int64_t last_sequence, std::int64_t begin) {
        first_sequence_ = first_sequence;
        starts_.resize(last_sequence - first_sequence);
        std::int64_t n_frames = 0;
        for (std::int64_t s = first_sequence; s < last_sequence; ++s) {
            starts_[s - first_sequence] = n_frames * kWidth;
            n_frames += sequences.lengths[s];
        }
        frames_.resize(n_frames * kWidth);
        const std::int64_t n =
            std::min<std::int64_t>(kWidth * kLanes<Real>, sequences.n_features - begin);
        Lanes<Real>* target = frames_.data();
        for (std::int64_t s = first_sequence; s < last_sequence; ++s) {
            const Real* source = sequences.frames(s) + begin;
            const std::int64_t length = sequences.lengths[s];
            for (std::int64_t j = 0; j < length; ++j, target += kWidth) {
                pack(source + j * sequences.n_features, n, target, 1,
                     source + std::min(j + 4, length - 1) * sequences.n_features);
            }
        }
    }

    template <int kWidth>
    SKDEJAVID_INLINE Visit<Real> visit(std::int64_t sequence, Run run, Real coefficient) const {
        const Lanes<Real>* frames = frames_.data() + starts_[sequence - first_sequence_];
        return {frames + std::int64_t{run.first} * kWidth, frames + std::int64_t{run.last} * kWidth,
                coefficient};
    }

 private:
    std::int64_t first_sequence_ = 0;
    Scratch<std::int64_t> starts_;  // of each sequence in `frames_`
    Scratch<Lanes<Real>> frames_;   // (n_frames, width)
};

/// What one strip adds to the distance along one path of `n_cells` cells. `rows` holds `kWidth`
/// registers of centroid and as many of weights for each time step.
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

/// The same for a strip so narrow that a wrong guess costs less than having none to make.
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

/// Computes the distances of a range of sequences to a range of centroids; holds what is packed.
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
        lost_.resize(n_pairs);
        lost_.fill(0, n_pairs, 0.0);
        for_each_pair([](std::int64_t, std::int64_t, double& total, double&) { total = 0.0; });
        const Strips<kDistanceStrip, Real> strips(centroids_.n_features);
        for (std::int64_t strip = 0; strip < strips.size(); ++strip) {
            strips.visit(strip, [&](auto width, std::int64_t begin) {
                add_strip<decltype(width)::value>(begin);
            });
        }
        for_each_pair([](std::int64_t, std::int64_t, double& total, double& correction) {
            // After an overflow the correction is not a number.
            if (correction == correction) total += correction;
        });
    }

 private:
    /// A few sequences at a time, so that their strips stay in the L1 cache for all centroids and
    /// each strip of a centroid is read for all of them.
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
                    visit(s, c, distances_[s * centroids_.n_centroids + c], lost_[pair]);
                }
            }
        }
    }

    template <int kWidth>
    void add_strip(std::int64_t begin) {
        pack_rows<kWidth>(begin);
        frames_.template pack_strip<kWidth>(sequences_, first_sequence_, last_sequence_, begin);
        for_each_pair([&](std::int64_t s, std::int64_t c, double& total, double& correction) {
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
            correction += (total - (sum - added)) + (term - added);
            total = sum;
        });
    }

    /// One visit for each time step; returns the number of cells of the path.
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
    Scratch<double> lost_;       // by rounding, of each pair: there are many strips to add up
    Scratch<Lanes<Real>> rows_;  // (n_centroids, n_timesteps, centroid and weights, width)
    PackedFrames<Real> frames_;
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

/// One strip of the sums, over cells matched to one centroid frame, of grad_distance times the sign
/// and the magnitude of centroid - frame. Long sums go on in double.
template <int kWidth, typename Real>
struct StripGradients {
    Lanes<Real> slopes[kWidth];
    Lanes<Real> deviations[kWidth];

    void sum(const Lanes<Real>* centroid, Walk<kWidth, Real> walk, std::int64_t n_cells) {
        add_cells(centroid, walk, std::min(n_cells, kTermsPerGradient));
        if (n_cells <= kTermsPerGradient) return;
        constexpr int kSize = kWidth * kLanes<Real>;
        alignas(kRegisterBytes) double totals[2][kSize] = {};
        add_to(totals);
        for (std::int64_t done = kTermsPerGradient; done < n_cells; done += kTermsPerGradient) {
            add_cells(centroid, walk, std::min(n_cells - done, kTermsPerGradient));
            add_to(totals);
        }
        alignas(kRegisterBytes) Real numbers[2][kSize];
        for (int k = 0; k < kSize; ++k) numbers[0][k] = static_cast<Real>(totals[0][k]);
        for (int k = 0; k < kSize; ++k) numbers[1][k] = static_cast<Real>(totals[1][k]);
        std::memcpy(slopes, numbers[0], sizeof slopes);
        std::memcpy(deviations, numbers[1], sizeof deviations);
    }

 private:
    void add_cells(const Lanes<Real>* centroid, Walk<kWidth, Real>& walk, std::int64_t n_cells) {
        Lanes<Real> values[kWidth];
        for (int v = 0; v < kWidth; ++v) values[v] = centroid[v];
        Lanes<Real> sums[2][kWidth] = {};
        for (std::int64_t cell = 0; cell < n_cells; ++cell) {
            const Lanes<Real> grad = walk.visit->coefficient - Lanes<Real>{};
#pragma GCC unroll 8
            for (int v = 0; v < kWidth; ++v) {
                add_derivatives(grad, values[v], walk.frame[v], sums[0][v], sums[1][v]);
            }
            walk.advance();
        }
        std::memcpy(slopes, sums[0], sizeof slopes);
        std::memcpy(deviations, sums[1], sizeof deviations);
    }

    void add_to(double (*totals)[kWidth * kLanes<Real>]) const {
        alignas(kRegisterBytes) Real numbers[2][kWidth * kLanes<Real>];
        std::memcpy(numbers[0], slopes, sizeof slopes);
        std::memcpy(numbers[1], deviations, sizeof deviations);
        for (int k = 0; k < kWidth * kLanes<Real>; ++k) totals[0][k] += numbers[0][k];
        for (int k = 0; k < kWidth * kLanes<Real>; ++k) totals[1][k] += numbers[1][k];
    }
};

/// Computes strips of dL/dC and dL/dU; holds what is packed.
template <typename Real>
class ParameterGradients {
 public:
    ParameterGradients(const Problem<Real>& problem, const Run* runs, const double* grad_distances,
                       Real* grad_centroids, Real* grad_weights, Worker& worker)
        : worker_(worker),
          sequences_(problem.sequences),
          centroids_(problem.centroids),
          runs_(runs),
          grad_distances_(grad_distances),
          grad_centroids_(grad_centroids),
          grad_weights_(grad_weights),
          n_cells_(centroids_.n_timesteps) {}

    /// Fills in the features from `begin` on of a range of centroids. Sequences are packed some at
    /// a time, always the same ones whatever the threads, and their sums are added up.
    template <int kWidth>
    void compute(std::int64_t begin, std::int64_t first_centroid, std::int64_t last_centroid) {
        std::int64_t last = 0;
        do {
            const std::int64_t first = last;
            std::int64_t n_frames = 0;
            while (last < sequences_.n_sequences &&
                   (last == first || n_frames + sequences_.lengths[last] <= kFramesPacked)) {
                n_frames += sequences_.lengths[last++];
            }
            frames_.template pack_strip<kWidth>(sequences_, first, last, begin);
            visits_.resize(centroids_.n_timesteps * (last - first + 1));
            for (std::int64_t c = first_centroid; c < last_centroid; ++c) {
                list_visits<kWidth>(c, first, last);
                for (std::int64_t i = 0; i < centroids_.n_timesteps; ++i) {
                    add_row<kWidth>(begin, c, i, visits_.data() + i * (last - first + 1),
                                    first == 0);
                }
            }
        } while (last < sequences_.n_sequences);
    }

 private:
    /// For each time step of centroid `c` the visits of all sequences, and one entry behind.
    template <int kWidth>
    void list_visits(std::int64_t c, std::int64_t first, std::int64_t last) {
        const std::int64_t n_timesteps = centroids_.n_timesteps;
        n_cells_.fill(0, n_timesteps, 0);
        std::int64_t n_visits = 0;
        for (std::int64_t s = first; s < last; ++s) {
            const std::int64_t pair = s * centroids_.n_centroids + c;
            const Real grad = static_cast<Real>(grad_distances_[pair]);
            if (grad == Real(0)) continue;
            const Run* runs = runs_ + pair * n_timesteps;
            for (std::int64_t i = 0; i < n_timesteps; ++i) {
                visits_[i * (last - first + 1) + n_visits] =
                    frames_.template visit<kWidth>(s, runs[i], grad);
                n_cells_[i] += runs[i].last - runs[i].first + 1;
            }
            ++n_visits;
        }
        for (std::int64_t i = 0; i < n_timesteps; ++i) {
            visits_[i * (last - first + 1) + n_visits] = {};
        }
    }

    template <int kWidth>
    void add_row(std::int64_t begin, std::int64_t c, std::int64_t i, const Visit<Real>* visits,
                 bool is_first) {
        const std::int64_t n_cells = n_cells_[i];
        worker_.checkpoint(static_cast<double>(n_cells * kWidth * kLanes<Real>));
        const std::int64_t n =
            std::min<std::int64_t>(kWidth * kLanes<Real>, centroids_.n_features - begin);
        const std::int64_t offset = centroids_.offset(c, i) + begin;
        Lanes<Real> centroid[kWidth], weights[kWidth];
        read_row<kWidth>(centroids_.values + offset, n, centroid);
        read_row<kWidth>(centroids_.weights + offset, n, weights);
        StripGradients<kWidth, Real> gradients;
        gradients.sum(centroid, Walk<kWidth, Real>(visits), n_cells);
        for (int v = 0; v < kWidth; ++v) gradients.slopes[v] *= weights[v];
        add_to_row<kWidth>(gradients.slopes, n, is_first, grad_centroids_ + offset);
        add_to_row<kWidth>(gradients.deviations, n, is_first, grad_weights_ + offset);
    }

    template <int kWidth>
    static void read_row(const Real* source, std::int64_t n, Lanes<Real>* row) {
        if (n == kWidth * kLanes<Real>) {
            for (int v = 0; v < kWidth; ++v) row[v] = load(source + v * kLanes<Real>);
        } else {
            for (int v = 0; v < kWidth; ++v) row[v] = Lanes<Real>{};
            pack(source, n, row, 1, source);
        }
    }

    template <int kWidth>
    static void add_to_row(Lanes<Real>* terms, std::int64_t n, bool is_first, Real* target) {
        if (!is_first) {
            Lanes<Real> before[kWidth];
            read_row<kWidth>(target, n, before);
            for (int v = 0; v < kWidth; ++v) terms[v] += before[v];
        }
        if (n == kWidth * kLanes<Real>) {
            std::memcpy(target, terms, kWidth * sizeof *terms);
        } else {
            std::memcpy(target, terms, static_cast<std::size_t>(n) * sizeof(Real));
        }
    }

    Worker& worker_;
    const SequenceView<Real>& sequences_;
    const CentroidView<Real>& centroids_;
    const Run* const runs_;
    const double* const grad_distances_;  // (n_sequences, n_centroids)
    Real* const grad_centroids_;
    Real* const grad_weights_;

    PackedFrames<Real> frames_;
    Scratch<Visit<Real>> visits_;    // (n_timesteps, n_sequences + 1)
    Scratch<std::int64_t> n_cells_;  // (n_timesteps,)
};

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
