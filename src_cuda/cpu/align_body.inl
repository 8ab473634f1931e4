// The CPU backend's body, once. Each align_<isa>.cpp defines SKDEJAVID_ISA, a namespace of its own,
// and includes this file, compiled with that instruction set's flags.
#ifndef SKDEJAVID_ISA
#error "define SKDEJAVID_ISA before including align_body.inl"
#endif

#include <algorithm>
#include <limits>
#include <vector>

#include "../align.hpp"
#include "../recurrence.hpp"
#include "parallel.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

// Features per block. Sums stay as accurate as NumPy's pairwise ones: in float32 because blocks are
// short and are added up in double, in float64 because there are few of them. The rows of a block
// stay in the L1 cache.
template <typename Real>
constexpr std::int64_t kBlock = sizeof(Real) == 4 ? 256 : 2048;

constexpr std::int64_t kGradientBlock = 256;  // features whose sums are kept on the stack

/// The sum of a power of two of lanes, in double and by halves.
template <int kLanes, typename Real>
double sum_of(const Real* lanes) {
    double sums[kLanes];
    for (int k = 0; k < kLanes; ++k) sums[k] = lanes[k];
    for (int half = kLanes / 2; half > 0; half /= 2) {
        for (int k = 0; k < half; ++k) sums[k] += sums[k + half];
    }
    return sums[0];
}

/// Adds the cost of as many whole groups of kLanes features, from `f` on, as there are; `f` moves
/// past them. The lanes are independent partial sums: a fixed order of summation that needs no
/// reassociation to be vectorized.
template <int kLanes, typename Real>
double cost_of_groups(const Real* weight, const Real* centroid, const Real* frame,
                      std::int64_t n_features, std::int64_t& f) {
    double total = 0.0;
    while (f + kLanes <= n_features) {
        const std::int64_t end = std::min(f + kBlock<Real>, n_features);
        Real lanes[kLanes] = {};
        for (; f + kLanes <= end; f += kLanes) {
            for (int k = 0; k < kLanes; ++k) {
                lanes[k] += weighted_difference(weight[f + k], centroid[f + k], frame[f + k]);
            }
        }
        total += sum_of<kLanes>(lanes);
    }
    return total;
}

/// cost[i, j] = sum_f weight[i, f] * |centroid[i, f] - sequence[j, f]|
template <typename Real>
double cost(const Real* weight, const Real* centroid, const Real* frame, std::int64_t n_features) {
    std::int64_t f = 0;
    double total = cost_of_groups<16>(weight, centroid, frame, n_features, f);
    total += cost_of_groups<4>(weight, centroid, frame, n_features, f);
    total += cost_of_groups<1>(weight, centroid, frame, n_features, f);
    return total;
}

/// Scratch memory of one thread and the alignment of one pair in it.
template <typename Real>
class PairAligner {
 public:
    PairAligner(const Problem<Real>& problem, bool diagonal)
        : sequences_(problem.sequences), centroids_(problem.centroids), diagonal_(diagonal) {}

    /// Returns the distance; fills `runs` (n_timesteps,) unless it is null.
    double align(std::int64_t sequence, std::int64_t centroid, Run* runs) {
        const std::int64_t n_frames = sequences_.lengths[sequence];
        totals_.resize(static_cast<std::size_t>(n_frames));
        if (runs) moves_.resize(static_cast<std::size_t>(n_frames * centroids_.n_timesteps));
        const double distance = accumulate(sequence, centroid, runs != nullptr);
        if (runs) backtrack(n_frames, runs);
        return distance;
    }

 private:
    /// The recurrence, one centroid frame after the other. On entering row i, `totals_[j]` is the
    /// total at (i - 1, j); on leaving it, the total at (i, j).
    double accumulate(std::int64_t sequence, std::int64_t centroid, bool record_moves) {
        const double infinity = std::numeric_limits<double>::infinity();
        const std::int64_t n_frames = sequences_.lengths[sequence];
        const std::int64_t n_features = sequences_.n_features;
        const Real* frames = sequences_.frames(sequence);

        std::fill(totals_.begin(), totals_.end(), infinity);
        for (std::int64_t i = 0; i < centroids_.n_timesteps; ++i) {
            const std::int64_t offset = centroids_.offset(centroid, i);
            const Real* weight = centroids_.weights + offset;
            const Real* centroid_frame = centroids_.values + offset;
            double left = infinity;
            double corner = infinity;
            for (std::int64_t j = 0; j < n_frames; ++j) {
                const double above = totals_[j];
                Step step = cheapest_step(left, above, corner, diagonal_);
                if (i == 0 && j == 0) step.total = 0.0;
                left =
                    step.total + cost(weight, centroid_frame, frames + j * n_features, n_features);
                corner = above;
                totals_[j] = left;
                if (record_moves) moves_[i * n_frames + j] = step.move;
            }
        }
        return totals_[n_frames - 1];
    }

    /// From the last cell back to the first. Every cell of row 0 is reached along the sequence and
    /// every cell of column 0 along the centroid, whatever move a cost that overflowed to infinity
    /// has left there: a path never leaves the grid.
    void backtrack(std::int64_t n_frames, Run* runs) const {
        std::int64_t j = n_frames - 1;
        for (std::int64_t i = centroids_.n_timesteps - 1; i >= 0; --i) {
            const Move* row = moves_.data() + i * n_frames;
            runs[i].last = static_cast<std::int32_t>(j);
            while (j > 0 && (i == 0 || row[j] == Move::along_sequence)) --j;
            runs[i].first = static_cast<std::int32_t>(j);
            if (j > 0 && row[j] == Move::diagonal) --j;
        }
    }

    const SequenceView<Real>& sequences_;
    const CentroidView<Real>& centroids_;
    bool diagonal_;
    std::vector<double> totals_;  // (n_frames,)
    std::vector<Move> moves_;     // (n_timesteps, n_frames)
};

/// Rows of cost along a path: every run shares a frame with the next, so n_frames + n_timesteps.
template <typename Real>
double work_along_paths(const Problem<Real>& problem) {
    const SequenceView<Real>& sequences = problem.sequences;
    double n_rows = 0.0;
    for (std::int64_t s = 0; s < sequences.n_sequences; ++s) {
        n_rows += static_cast<double>(sequences.lengths[s] + problem.centroids.n_timesteps);
    }
    return n_rows * static_cast<double>(problem.centroids.n_centroids * sequences.n_features);
}

template <typename Real>
double work_of_costs(const Problem<Real>& problem) {
    const SequenceView<Real>& sequences = problem.sequences;
    double n_frames = 0.0;
    for (std::int64_t s = 0; s < sequences.n_sequences; ++s) {
        n_frames += static_cast<double>(sequences.lengths[s]);
    }
    return n_frames * static_cast<double>(problem.centroids.n_centroids) *
           static_cast<double>(problem.centroids.n_timesteps * sequences.n_features);
}

template <typename Real>
void align(const Problem<Real>& problem, bool diagonal, double* distances, Run* runs) {
    const std::int64_t n_centroids = problem.centroids.n_centroids;
    const std::int64_t n_timesteps = problem.centroids.n_timesteps;
    const int n_threads = worthwhile_threads(problem.n_threads, work_of_costs(problem));
    parallel_for(problem.n_pairs(), n_threads, [&] {
        return [&, aligner = PairAligner<Real>(problem, diagonal)](std::int64_t pair) mutable {
            Run* pair_runs = runs ? runs + pair * n_timesteps : nullptr;
            distances[pair] = aligner.align(pair / n_centroids, pair % n_centroids, pair_runs);
        };
    });
}

template <typename Real>
void distances_along(const Problem<Real>& problem, const Run* runs, double* distances) {
    const SequenceView<Real>& sequences = problem.sequences;
    const CentroidView<Real>& centroids = problem.centroids;
    const std::int64_t n_features = sequences.n_features;
    const int n_threads = worthwhile_threads(problem.n_threads, work_along_paths(problem));
    parallel_for(problem.n_pairs(), n_threads, [&] {
        return [&](std::int64_t pair) {
            const Real* frames = sequences.frames(pair / centroids.n_centroids);
            double distance = 0.0;
            for (std::int64_t i = 0; i < centroids.n_timesteps; ++i) {
                const Run run = runs[pair * centroids.n_timesteps + i];
                const std::int64_t offset = centroids.offset(pair % centroids.n_centroids, i);
                for (std::int64_t j = run.first; j <= run.last; ++j) {
                    distance += cost(centroids.weights + offset, centroids.values + offset,
                                     frames + j * n_features, n_features);
                }
            }
            distances[pair] = distance;
        };
    });
}

/// Calls `visit(coefficient, frames, run)` for every sequence, in their order, whose coefficient
/// with the centroid is not 0. The fixed order makes sums over sequences reproducible.
template <typename Real, typename Visit>
void for_each_run(const Problem<Real>& problem, const Run* runs, const double* coefficients,
                  std::int64_t centroid, std::int64_t timestep, const Visit& visit) {
    for (std::int64_t s = 0; s < problem.sequences.n_sequences; ++s) {
        const std::int64_t pair = s * problem.centroids.n_centroids + centroid;
        if (coefficients[pair] == 0.0) continue;
        visit(coefficients[pair], problem.sequences.frames(s),
              runs[pair * problem.centroids.n_timesteps + timestep]);
    }
}

/// dL/dC and dL/dU of one centroid frame, a block of features at a time.
template <typename Real>
void centroid_frame_gradients(const Problem<Real>& problem, const Run* runs,
                              const double* grad_distances, std::int64_t centroid,
                              std::int64_t timestep, Real* grad_centroid, Real* grad_weight) {
    const std::int64_t n_features = problem.sequences.n_features;
    const std::int64_t offset = problem.centroids.offset(centroid, timestep);
    const Real* centroid_frame = problem.centroids.values + offset;
    const Real* weight = problem.centroids.weights + offset;
    for (std::int64_t begin = 0; begin < n_features; begin += kGradientBlock) {
        const std::int64_t size = std::min(kGradientBlock, n_features - begin);
        double sum_signs[kGradientBlock] = {};
        double sum_differences[kGradientBlock] = {};
        for_each_run(problem, runs, grad_distances, centroid, timestep,
                     [&](double grad, const Real* frames, Run run) {
                         Real signs[kGradientBlock] = {};
                         Real differences[kGradientBlock] = {};
                         for (std::int64_t j = run.first; j <= run.last; ++j) {
                             const Real* frame = frames + j * n_features + begin;
                             for (std::int64_t f = 0; f < size; ++f) {
                                 const Real difference = centroid_frame[begin + f] - frame[f];
                                 signs[f] += sign(difference);
                                 differences[f] += std::fabs(difference);
                             }
                         }
                         for (std::int64_t f = 0; f < size; ++f) {
                             sum_signs[f] += grad * signs[f];
                             sum_differences[f] += grad * differences[f];
                         }
                     });
        for (std::int64_t f = 0; f < size; ++f) {
            grad_centroid[begin + f] = static_cast<Real>(weight[begin + f] * sum_signs[f]);
            grad_weight[begin + f] = static_cast<Real>(sum_differences[f]);
        }
    }
}

template <typename Real>
void parameter_gradients(const Problem<Real>& problem, const Run* runs,
                         const double* grad_distances, Real* grad_centroids, Real* grad_weights) {
    const std::int64_t n_timesteps = problem.centroids.n_timesteps;
    const int n_threads = worthwhile_threads(problem.n_threads, work_along_paths(problem));
    parallel_for(problem.centroids.n_centroids * n_timesteps, n_threads, [&] {
        return [&](std::int64_t row) {
            const std::int64_t offset = row * problem.sequences.n_features;
            centroid_frame_gradients(problem, runs, grad_distances, row / n_timesteps,
                                     row % n_timesteps, grad_centroids + offset,
                                     grad_weights + offset);
        };
    });
}

template <typename Real>
void sequence_gradients(const Problem<Real>& problem, const Run* runs, const double* grad_distances,
                        Real* grad_frames) {
    const SequenceView<Real>& sequences = problem.sequences;
    const CentroidView<Real>& centroids = problem.centroids;
    const std::int64_t n_features = sequences.n_features;
    std::vector<std::int64_t> packed_starts(static_cast<std::size_t>(sequences.n_sequences) + 1, 0);
    for (std::int64_t s = 0; s < sequences.n_sequences; ++s) {
        packed_starts[s + 1] = packed_starts[s] + sequences.lengths[s];
    }
    const int n_threads = worthwhile_threads(problem.n_threads, work_along_paths(problem));
    parallel_for(sequences.n_sequences, n_threads, [&] {
        return [&, sums = std::vector<double>()](std::int64_t s) mutable {
            sums.assign(static_cast<std::size_t>(sequences.lengths[s] * n_features), 0.0);
            for (std::int64_t row = 0; row < centroids.n_centroids * centroids.n_timesteps; ++row) {
                const std::int64_t pair = s * centroids.n_centroids + row / centroids.n_timesteps;
                const Run run = runs[s * centroids.n_centroids * centroids.n_timesteps + row];
                const Real* weight = centroids.weights + row * n_features;
                const Real* centroid_frame = centroids.values + row * n_features;
                for (std::int64_t j = run.first; j <= run.last; ++j) {
                    const Real* frame = sequences.frames(s) + j * n_features;
                    double* frame_sums = sums.data() + j * n_features;
                    for (std::int64_t f = 0; f < n_features; ++f) {
                        frame_sums[f] +=
                            grad_distances[pair] * weight[f] * sign(frame[f] - centroid_frame[f]);
                    }
                }
            }
            Real* target = grad_frames + packed_starts[s] * n_features;
            for (std::size_t k = 0; k < sums.size(); ++k) target[k] = static_cast<Real>(sums[k]);
        };
    });
}

/// The mean is taken of the frames' offsets from the centroid, so a frame that equals the centroid
/// exactly leaves it exactly where it is, whatever the sample weights.
template <typename Real>
void barycenters(const Problem<Real>& problem, const Run* runs, const double* sample_weights,
                 Real* means) {
    const std::int64_t n_features = problem.sequences.n_features;
    const std::int64_t n_timesteps = problem.centroids.n_timesteps;
    const int n_threads = worthwhile_threads(problem.n_threads, work_along_paths(problem));
    parallel_for(problem.centroids.n_centroids * n_timesteps, n_threads, [&] {
        return [&, shift = std::vector<double>()](std::int64_t row) mutable {
            const Real* centroid_frame = problem.centroids.values + row * n_features;
            shift.assign(static_cast<std::size_t>(n_features), 0.0);
            double n_matched = 0.0;
            for_each_run(problem, runs, sample_weights, row / n_timesteps, row % n_timesteps,
                         [&](double sample_weight, const Real* frames, Run run) {
                             for (std::int64_t j = run.first; j <= run.last; ++j) {
                                 const Real* frame = frames + j * n_features;
                                 for (std::int64_t f = 0; f < n_features; ++f) {
                                     shift[f] += sample_weight * (static_cast<double>(frame[f]) -
                                                                  centroid_frame[f]);
                                 }
                                 n_matched += sample_weight;
                             }
                         });
            for (std::int64_t f = 0; f < n_features; ++f) {
                means[row * n_features + f] =
                    static_cast<Real>(centroid_frame[f] + shift[f] / n_matched);
            }
        };
    });
}

template <typename Real>
const Backend<Real>& backend() {
    static constexpr Backend<Real> table = {&align<Real>, &distances_along<Real>,
                                            &parameter_gradients<Real>, &sequence_gradients<Real>,
                                            &barycenters<Real>};
    return table;
}

template const Backend<float>& backend<float>();
template const Backend<double>& backend<double>();

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
