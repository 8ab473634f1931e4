// The CPU backend's body, once. Each align_<isa>.cpp defines SKDEJAVID_ISA, a namespace of its own,
// and includes this file, compiled with that instruction set's flags.
//
// Of an inline function that several files define the linker keeps one, which may be that of an
// instruction set the machine does not have. So whatever is not certainly inlined is in the
// namespace; no container of the standard library is used here.
#ifndef SKDEJAVID_ISA
#error "define SKDEJAVID_ISA before including align_body.inl"
#endif

#include <algorithm>
#include <limits>

#include "../align.hpp"
#include "../recurrence.hpp"
#include "along.hpp"
#include "cost.hpp"
#include "lanes.hpp"
#include "parallel.hpp"
#include "scratch.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

template <typename Body>
class JobOf final : public Job {
 public:
    explicit JobOf(const Body& body) : body_(body) {}
    void run(TaskQueue& tasks) const override { body_(tasks); }

 private:
    const Body& body_;
};

/// Calls `body(tasks)` in each thread.
template <typename Body>
void parallel_for(std::int64_t n_tasks, int n_threads, const Body& body) {
    run_in_threads(JobOf<Body>(body), n_tasks, n_threads);
}

// So many centroids are aligned at once, one in each lane of the recurrence.
constexpr int kGroup = kLanes<double>;

// About so many frames of consecutive sequences make a task, so that centroids are read from memory
// once for all of them.
constexpr std::int64_t kTaskFrames = 2 * kChunk;

/// Aligns consecutive sequences with one group of centroids; holds the scratch memory of one
/// thread.
///
/// The frames of all sequences are one stream, cut into chunks for the costs; the recurrence goes
/// through it frame by frame and starts anew where a sequence begins. On entering frame j,
/// `column_[i]` holds the totals at (i, j - 1); on leaving it, those at (i, j).
template <typename Real>
class GroupAligner {
 public:
    GroupAligner(const Problem<Real>& problem, bool diagonal, double* distances, Run* runs)
        : sequences_(problem.sequences),
          centroids_(problem.centroids),
          diagonal_(diagonal),
          distances_(distances),
          runs_(runs),
          column_(centroids_.n_timesteps),
          costs_(kChunk * centroids_.n_timesteps),
          places_(kGroup * centroids_.n_timesteps),
          moves_(0) {
        for (std::int64_t g = 0; g < kGroup; ++g) {
            for (std::int64_t i = 0; i < centroids_.n_timesteps; ++i) {
                places_[g * centroids_.n_timesteps + i] = i * kGroup + g;
            }
        }
    }

    void align(std::int64_t first_sequence, std::int64_t last_sequence, std::int64_t group) {
        first_centroid_ = group * kGroup;
        group_size_ = std::min<std::int64_t>(kGroup, centroids_.n_centroids - first_centroid_);
        sequence_ = first_sequence;
        frame_ = 0;
        for (std::int64_t s = first_sequence; s < last_sequence; ++s) {
            for (std::int64_t j = 0; j < sequences_.lengths[s]; ++j) {
                chunk_[n_chunk_++] = sequences_.frames(s) + j * sequences_.n_features;
                if (n_chunk_ == kChunk) use_chunk();
            }
        }
        use_chunk();
    }

 private:
    void use_chunk() {
        compute_costs();
        for (std::int64_t j = 0; j < n_chunk_; ++j) {
            advance(costs_.data() + j * centroids_.n_timesteps);
            if (++frame_ == sequences_.lengths[sequence_]) finish_sequence();
        }
        n_chunk_ = 0;
    }

    void compute_costs() {
        const std::int64_t n_timesteps = centroids_.n_timesteps;
        const std::int64_t offset = centroids_.offset(first_centroid_, 0);
        costs_.fill(n_chunk_ * n_timesteps, Lanes<double>{});
        double* costs = reinterpret_cast<double*>(costs_.data());
        panels_.for_each_cost(centroids_.weights + offset, centroids_.values + offset,
                              group_size_ * n_timesteps, chunk_, n_chunk_, sequences_.n_features,
                              [&](std::int64_t row, std::int64_t j, double cost) {
                                  costs[j * n_timesteps * kGroup + places_[row]] += cost;
                              });
    }

    /// One step of the recurrence for all centroids of the group; ties as `cheaper` says.
    void advance(const Lanes<double>* costs) {
        const Lanes<double> infinity = Lanes<double>{} + std::numeric_limits<double>::infinity();
        const std::int64_t n_timesteps = centroids_.n_timesteps;
        const bool is_first = frame_ == 0;
        if (is_first) {
            column_.fill(n_timesteps, infinity);
            if (runs_) moves_.resize(2 * sequences_.lengths[sequence_] * n_timesteps);
        }
        std::uint8_t* moves = runs_ ? moves_.data() + 2 * frame_ * n_timesteps : nullptr;
        Lanes<double> along_centroid = infinity;
        Lanes<double> corner = infinity;
        for (std::int64_t i = 0; i < n_timesteps; ++i) {
            const Lanes<double> along_sequence = column_[i];
            Lanes<double> total = cheaper(along_centroid, along_sequence);
            unsigned is_diagonal = 0;
            if (diagonal_) {
                is_diagonal = ~less(total, corner);
                total = cheaper(total, corner);
            }
            if (moves) {
                moves[2 * i] = static_cast<std::uint8_t>(less(along_centroid, along_sequence));
                moves[2 * i + 1] = static_cast<std::uint8_t>(is_diagonal);
            }
            if (is_first && i == 0) total = Lanes<double>{};
            corner = along_sequence;
            along_centroid = total + costs[i];
            column_[i] = along_centroid;
        }
    }

    void finish_sequence() {
        const std::int64_t pair = sequence_ * centroids_.n_centroids + first_centroid_;
        for (std::int64_t g = 0; g < group_size_; ++g) {
            distances_[pair + g] = column_[centroids_.n_timesteps - 1][g];
            if (runs_) backtrack(g, runs_ + (pair + g) * centroids_.n_timesteps);
        }
        ++sequence_;
        frame_ = 0;
    }

    /// From the last cell back to the first. Every cell of row 0 is reached along the sequence and
    /// every cell of column 0 along the centroid, whatever move a cost that overflowed to infinity
    /// has left there: a path never leaves the grid.
    void backtrack(std::int64_t g, Run* runs) const {
        const std::int64_t n_timesteps = centroids_.n_timesteps;
        const auto is_set = [&](std::int64_t i, std::int64_t j, int which) {
            return (moves_[2 * (j * n_timesteps + i) + which] >> g) & 1;
        };
        std::int64_t j = sequences_.lengths[sequence_] - 1;
        for (std::int64_t i = n_timesteps - 1; i >= 0; --i) {
            runs[i].last = static_cast<std::int32_t>(j);
            while (j > 0 && (i == 0 || !(is_set(i, j, 0) || is_set(i, j, 1)))) --j;
            runs[i].first = static_cast<std::int32_t>(j);
            if (j > 0 && is_set(i, j, 1)) --j;
        }
    }

    const SequenceView<Real>& sequences_;
    const CentroidView<Real>& centroids_;
    const bool diagonal_;
    double* const distances_;  // (n_sequences, n_centroids)
    Run* const runs_;          // (n_sequences, n_centroids, n_timesteps), or null

    std::int64_t first_centroid_ = 0;
    std::int64_t group_size_ = 0;
    std::int64_t sequence_ = 0;  // that the recurrence is in,
    std::int64_t frame_ = 0;     // and the frame of it that comes next
    const Real* chunk_[kChunk];  // frames whose costs come next
    std::int64_t n_chunk_ = 0;
    CostPanels<Real> panels_;
    Scratch<Lanes<double>> column_;  // (n_timesteps,)
    Scratch<Lanes<double>> costs_;   // (kChunk, n_timesteps)
    Scratch<std::int64_t> places_;   // of each row of the group in a frame's costs
    Scratch<std::uint8_t> moves_;    // (n_frames, n_timesteps, 2): along the centroid, diagonal
};

template <typename Real>
std::int64_t count_frames(const SequenceView<Real>& sequences) {
    std::int64_t n_frames = 0;
    for (std::int64_t s = 0; s < sequences.n_sequences; ++s) n_frames += sequences.lengths[s];
    return n_frames;
}

/// Weighted differences along all paths: every run shares a frame with the next, so each path has
/// about n_frames + n_timesteps cells.
template <typename Real>
double work_along_paths(const Problem<Real>& problem) {
    const SequenceView<Real>& sequences = problem.sequences;
    const std::int64_t n_cells =
        count_frames(sequences) + sequences.n_sequences * problem.centroids.n_timesteps;
    return static_cast<double>(n_cells) *
           static_cast<double>(problem.centroids.n_centroids * sequences.n_features);
}

/// Weighted differences between all frames and all centroids.
template <typename Real>
double work_of_costs(const Problem<Real>& problem) {
    return static_cast<double>(count_frames(problem.sequences)) *
           static_cast<double>(problem.centroids.n_centroids) *
           static_cast<double>(problem.centroids.n_timesteps * problem.sequences.n_features);
}

template <typename Real>
void align(const Problem<Real>& problem, bool diagonal, double* distances, Run* runs) {
    const std::int64_t n_groups = (problem.centroids.n_centroids + kGroup - 1) / kGroup;
    const std::int64_t n_sequences = problem.sequences.n_sequences;
    if (n_sequences == 0) return;
    const std::int64_t n_ranges =
        std::clamp<std::int64_t>(count_frames(problem.sequences) / kTaskFrames, 1, n_sequences);
    const int n_threads = worthwhile_threads(problem.n_threads, work_of_costs(problem));
    parallel_for(n_ranges * n_groups, n_threads, [&](TaskQueue& tasks) {
        GroupAligner<Real> aligner(problem, diagonal, distances, runs);
        for (std::int64_t task; tasks.next(task);) {
            const std::int64_t range = task / n_groups;
            aligner.align(range * n_sequences / n_ranges, (range + 1) * n_sequences / n_ranges,
                          task % n_groups);
        }
    });
}

// Sequences and centroids of one task: strips of theirs fit into the L2 cache.
constexpr std::int64_t kSequencesAlong = 16;
constexpr std::int64_t kCentroidRowsAlong = 512;

template <typename Real>
void distances_along(const Problem<Real>& problem, const Run* runs, double* distances) {
    const CentroidView<Real>& centroids = problem.centroids;
    const std::int64_t n_sequences = problem.sequences.n_sequences;
    const std::int64_t per_range =
        std::max<std::int64_t>(kCentroidRowsAlong / centroids.n_timesteps, 1);
    const std::int64_t n_ranges = (centroids.n_centroids + per_range - 1) / per_range;
    const std::int64_t n_tasks = (n_sequences + kSequencesAlong - 1) / kSequencesAlong * n_ranges;
    const int n_threads = worthwhile_threads(problem.n_threads, work_along_paths(problem));
    parallel_for(n_tasks, n_threads, [&](TaskQueue& tasks) {
        for (std::int64_t task; tasks.next(task);) {
            const std::int64_t sequence = task / n_ranges * kSequencesAlong;
            const std::int64_t centroid = task % n_ranges * per_range;
            fill_distances_along(problem, runs, sequence,
                                 std::min(sequence + kSequencesAlong, n_sequences), centroid,
                                 std::min(centroid + per_range, centroids.n_centroids), distances);
        }
    });
}

template <typename Real>
void parameter_gradients(const Problem<Real>& problem, const Run* runs,
                         const double* grad_distances, Real* grad_centroids, Real* grad_weights) {
    const CentroidView<Real>& centroids = problem.centroids;
    const std::int64_t n_centroids = centroids.n_centroids;
    const int n_threads = worthwhile_threads(problem.n_threads, work_along_paths(problem));
    const std::int64_t n_tasks = count_strips<Real>(centroids.n_features) * n_centroids;
    parallel_for(n_tasks, n_threads, [&](TaskQueue& tasks) {
        for (std::int64_t task; tasks.next(task);) {
            const std::int64_t centroid = task % n_centroids;
            visit_strip<Real>(task / n_centroids, centroids.n_features,
                              [&](auto width, std::int64_t begin, int rest) {
                                  for (std::int64_t i = 0; i < centroids.n_timesteps; ++i) {
                                      const std::int64_t offset =
                                          centroids.offset(centroid, i) + begin;
                                      strip_gradients<decltype(width)::value>(
                                          problem, runs, grad_distances, centroid, i, begin, rest,
                                          grad_centroids + offset, grad_weights + offset);
                                  }
                              });
        }
    });
}

template <typename Real>
void sequence_gradients(const Problem<Real>& problem, const Run* runs, const double* grad_distances,
                        Real* grad_frames) {
    const SequenceView<Real>& sequences = problem.sequences;
    const CentroidView<Real>& centroids = problem.centroids;
    const std::int64_t n_features = sequences.n_features;
    Scratch<std::int64_t> packed_starts(sequences.n_sequences);
    std::int64_t n_frames = 0;
    for (std::int64_t s = 0; s < sequences.n_sequences; ++s) {
        packed_starts[s] = n_frames;
        n_frames += sequences.lengths[s];
    }
    const int n_threads = worthwhile_threads(problem.n_threads, work_along_paths(problem));
    parallel_for(sequences.n_sequences, n_threads, [&](TaskQueue& tasks) {
        Scratch<double> sums(0);
        for (std::int64_t s; tasks.next(s);) {
            const std::int64_t size = sequences.lengths[s] * n_features;
            sums.resize(size);
            sums.fill(size, 0.0);
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
            for (std::int64_t k = 0; k < size; ++k) target[k] = static_cast<Real>(sums[k]);
        }
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
    parallel_for(problem.centroids.n_centroids * n_timesteps, n_threads, [&](TaskQueue& tasks) {
        Scratch<double> shift(n_features);
        for (std::int64_t row; tasks.next(row);) {
            const Real* centroid_frame = problem.centroids.values + row * n_features;
            shift.fill(n_features, 0.0);
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
        }
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
