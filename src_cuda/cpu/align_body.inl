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
#include "../cost_term.hpp"
#include "../recurrence.hpp"
#include "adam.hpp"
#include "along.hpp"
#include "cost.hpp"
#include "lanes.hpp"
#include "narrow.hpp"
#include "parallel.hpp"
#include "scratch.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

template <typename Body>
class JobOf final : public Job {
 public:
    explicit JobOf(const Body& body) : body_(body) {}
    void run(Worker& worker) const override { body_(worker); }

 private:
    const Body& body_;
};

/// Calls `body(worker)` in each thread.
template <typename Body>
void parallel_for(std::int64_t n_tasks, int n_threads, const Body& body) {
    run_in_threads(JobOf<Body>(body), n_tasks, n_threads);
}

// So many centroids go through the recurrence at once, one in each lane.
constexpr int kGroup = kLanes<double>;

// About so many frames of consecutive sequences make a task, and at most about so many rows of
// centroids: frames are packed once for all of the rows, and the costs stay in the L2 cache.
constexpr std::int64_t kTaskFrames = 192;
constexpr std::int64_t kTaskRows = 384;

/// Aligns consecutive sequences with consecutive groups of centroids; holds the scratch memory of
/// one thread.
///
/// The frames of all sequences are one stream, cut into chunks for the costs; the recurrence of
/// each group goes through it frame by frame and starts anew where a sequence begins. On entering
/// frame j, a group's column holds the totals at (i, j - 1); on leaving it, those at (i, j).
template <typename Real>
class Aligner {
 public:
    Aligner(const Problem<Real>& problem, bool diagonal, double* distances, Run* runs,
            Worker& worker)
        : worker_(worker),
          sequences_(problem.sequences),
          centroids_(problem.centroids),
          diagonal_(diagonal),
          is_narrow_(problem.centroids.n_features <= kMostNarrowFeatures),
          distances_(distances),
          runs_(runs) {}

    void align(std::int64_t first_sequence, std::int64_t last_sequence, std::int64_t first_group,
               std::int64_t last_group) {
        first_group_ = first_group;
        n_groups_ = last_group - first_group;
        list_rows();
        std::int64_t n_frames = 0;
        std::int64_t longest = 0;
        for (std::int64_t s = first_sequence; s < last_sequence; ++s) {
            n_frames += sequences_.lengths[s];
            longest = std::max(longest, sequences_.lengths[s]);
        }
        columns_.resize(n_groups_ * centroids_.n_timesteps);
        moves_per_group_ = 2 * longest * centroids_.n_timesteps;
        if (runs_) moves_.resize(n_groups_ * moves_per_group_);

        const std::int64_t n_chunks = (n_frames + kChunk - 1) / kChunk;
        Place place{first_sequence, 0};
        for (std::int64_t chunk = 0; chunk < n_chunks; ++chunk) {
            const std::int64_t size =
                (chunk + 1) * n_frames / n_chunks - chunk * n_frames / n_chunks;
            place = align_chunk(place, size);
        }
    }

 private:
    /// A frame of the stream.
    struct Place {
        std::int64_t sequence;
        std::int64_t frame;
    };

    Place next(Place place) const {
        if (++place.frame < sequences_.lengths[place.sequence]) return place;
        return {place.sequence + 1, 0};
    }

    std::int64_t first_centroid(std::int64_t group) const {
        return (first_group_ + group) * kGroup;
    }

    std::int64_t group_size(std::int64_t group) const {
        return std::min<std::int64_t>(kGroup, centroids_.n_centroids - first_centroid(group));
    }

    /// Lists the rows group by group, within it time step by time step, within it centroid by
    /// centroid: what a step of the recurrence needs lies side by side.
    void list_rows() {
        const std::int64_t multiple = is_narrow_ ? kLanes<Real> : kTileRows;
        n_rows_ = 0;
        offsets_.resize(n_groups_ * kGroup * centroids_.n_timesteps + multiple);
        for (std::int64_t group = 0; group < n_groups_; ++group) {
            for (std::int64_t i = 0; i < centroids_.n_timesteps; ++i) {
                for (std::int64_t g = 0; g < group_size(group); ++g) {
                    offsets_[n_rows_++] = centroids_.offset(first_centroid(group) + g, i);
                }
            }
        }
        for (; n_rows_ % multiple != 0; ++n_rows_) offsets_[n_rows_] = offsets_[n_rows_ - 1];
        if (is_narrow_) narrow_panels_.pack(rows());
    }

    RowView<Real> rows() const {
        return {centroids_.values, centroids_.weights, offsets_.data(), n_rows_,
                centroids_.n_features};
    }

    /// Aligns the next `size` frames and returns the place behind them.
    Place align_chunk(const Place begin, std::int64_t size) {
        Place place = begin;
        for (std::int64_t j = 0; j < size; ++j, place = next(place)) {
            frames_[j] = sequences_.frames(place.sequence) + place.frame * sequences_.n_features;
        }
        // A whole register is read from wherever the costs of a time step begin.
        costs_.resize(size * n_rows_ + kGroup);
        costs_.fill(size * n_rows_, size * n_rows_ + kGroup, 0.0);
        if (is_narrow_) {
            narrow_panels_.compute(frames_, size, costs_.data(), worker_);
        } else {
            panels_.compute(rows(), frames_, size, costs_.data(), worker_);
        }
        const double* costs = costs_.data();
        for (std::int64_t group = 0; group < n_groups_; ++group) {
            place = begin;
            for (std::int64_t j = 0; j < size; ++j, place = next(place)) {
                advance(group, place.frame, costs + j * n_rows_);
                if (place.frame + 1 == sequences_.lengths[place.sequence]) {
                    finish_sequence(group, place.sequence);
                }
            }
            costs += group_size(group) * centroids_.n_timesteps;
        }
        return place;
    }

    /// One step of the recurrence for all centroids of a group; ties as `cheaper` says. Lanes
    /// without a centroid compute with whatever costs come next, and nobody looks at them.
    void advance(std::int64_t group, std::int64_t frame, const double* costs) {
        const Lanes<double> infinity = Lanes<double>{} + std::numeric_limits<double>::infinity();
        const std::int64_t n_timesteps = centroids_.n_timesteps;
        const std::int64_t size = group_size(group);
        Lanes<double>* column = columns_.data() + group * n_timesteps;
        std::uint8_t* moves =
            runs_ ? moves_.data() + group * moves_per_group_ + 2 * frame * n_timesteps : nullptr;
        Lanes<double> along_centroid = infinity;
        Lanes<double> corner = infinity;
        for (std::int64_t i = 0; i < n_timesteps; ++i) {
            const Lanes<double> along_sequence = frame == 0 ? infinity : column[i];
            const Before<Lanes<double>> before{along_centroid, along_sequence, corner, diagonal_};
            Lanes<double> total = before.cheapest();
            if (moves) {
                const auto compare = [](const auto& a, const auto& b) { return less(a, b); };
                moves[2 * i] = static_cast<std::uint8_t>(before.comes_along_centroid(compare));
                moves[2 * i + 1] = static_cast<std::uint8_t>(before.comes_diagonally(compare));
            }
            if (frame == 0 && i == 0) total = Lanes<double>{};
            corner = along_sequence;
            along_centroid = total + load(costs + i * size);
            column[i] = along_centroid;
        }
    }

    void finish_sequence(std::int64_t group, std::int64_t sequence) {
        const std::int64_t n_timesteps = centroids_.n_timesteps;
        const std::int64_t pair = sequence * centroids_.n_centroids + first_centroid(group);
        for (std::int64_t g = 0; g < group_size(group); ++g) {
            distances_[pair + g] = columns_[(group + 1) * n_timesteps - 1][g];
            if (runs_) {
                walk_back(moves_.data() + group * moves_per_group_, g, sequences_.lengths[sequence],
                          runs_ + (pair + g) * n_timesteps);
            }
        }
    }

    void walk_back(const std::uint8_t* moves, std::int64_t g, std::int64_t n_frames,
                   Run* runs) const {
        const std::int64_t n_timesteps = centroids_.n_timesteps;
        const auto is_set = [&](std::int64_t i, std::int64_t j, int which) {
            return (moves[2 * (j * n_timesteps + i) + which] >> g) & 1;
        };
        const auto entry = [&](std::int64_t i, std::int64_t j) {
            while (j > 0 && !(is_set(i, j, 0) || is_set(i, j, 1))) --j;
            return j;
        };
        const auto is_diagonal = [&](std::int64_t i, std::int64_t j) { return is_set(i, j, 1); };
        const auto write = [&](std::int64_t i, std::int64_t first, std::int64_t last) {
            runs[i] = {static_cast<std::int32_t>(first), static_cast<std::int32_t>(last)};
        };
        backtrack(n_timesteps, n_frames, entry, is_diagonal, write);
    }

    Worker& worker_;
    const SequenceView<Real>& sequences_;
    const CentroidView<Real>& centroids_;
    const bool diagonal_;
    const bool is_narrow_;
    double* const distances_;  // (n_sequences, n_centroids)
    Run* const runs_;          // (n_sequences, n_centroids, n_timesteps), or null

    std::int64_t first_group_ = 0;
    std::int64_t n_groups_ = 0;
    std::int64_t n_rows_ = 0;
    std::int64_t moves_per_group_ = 0;
    const Real* frames_[kChunk];
    CostPanels<Real> panels_;
    NarrowPanels<Real> narrow_panels_;
    Scratch<std::int64_t> offsets_;   // (n_rows,)
    Scratch<double> costs_;           // (frames of the chunk, n_rows)
    Scratch<Lanes<double>> columns_;  // (n_groups, n_timesteps)
    Scratch<std::uint8_t> moves_;     // (n_groups, n_frames, n_timesteps, 2): a bit for each lane,
                                      // whether along the centroid, whether diagonal
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

/// How pairs are cut into tasks: ranges of sequences times blocks of consecutive centroids. More
/// tasks than are best for one thread are made only if there are threads that would have none.
struct Tasks {
    std::int64_t n_ranges;
    std::int64_t n_blocks;

    Tasks(std::int64_t best_ranges, std::int64_t most_ranges, std::int64_t best_blocks,
          std::int64_t most_blocks, int n_threads)
        : n_ranges(std::clamp<std::int64_t>(best_ranges, 1, most_ranges)),
          n_blocks(std::clamp<std::int64_t>(best_blocks, 1, most_blocks)) {
        const std::int64_t n_wanted = n_threads == 1 ? 1 : 4 * std::int64_t{n_threads};
        n_blocks = std::clamp(n_wanted / n_ranges, n_blocks, most_blocks);
        n_ranges = std::clamp(n_wanted / n_blocks, n_ranges, most_ranges);
    }
};

template <typename Real>
void align(const Problem<Real>& problem, bool diagonal, double* distances, Run* runs) {
    const std::int64_t n_sequences = problem.sequences.n_sequences;
    const std::int64_t n_groups = (problem.centroids.n_centroids + kGroup - 1) / kGroup;
    if (n_sequences == 0 || n_groups == 0) return;
    const int n_threads = worthwhile_threads(problem.n_threads, work_of_costs(problem));
    const Tasks cut(count_frames(problem.sequences) / kTaskFrames, n_sequences,
                    problem.centroids.n_centroids * problem.centroids.n_timesteps / kTaskRows,
                    n_groups, n_threads);
    parallel_for(cut.n_ranges * cut.n_blocks, n_threads, [&](Worker& worker) {
        Aligner<Real> aligner(problem, diagonal, distances, runs, worker);
        for (std::int64_t task; worker.next(task);) {
            const std::int64_t range = task / cut.n_blocks;
            const std::int64_t block = task % cut.n_blocks;
            aligner.align(range * n_sequences / cut.n_ranges,
                          (range + 1) * n_sequences / cut.n_ranges, block * n_groups / cut.n_blocks,
                          (block + 1) * n_groups / cut.n_blocks);
        }
    });
}

// About so many frames and rows of centroids make a task: strips of theirs fit into the L2 cache.
constexpr std::int64_t kTaskFramesAlong = 1024;
constexpr std::int64_t kTaskRowsAlong = 512;

template <typename Real>
void distances_along(const Problem<Real>& problem, const Run* runs, double* distances) {
    const std::int64_t n_sequences = problem.sequences.n_sequences;
    const std::int64_t n_centroids = problem.centroids.n_centroids;
    if (n_sequences == 0 || n_centroids == 0) return;
    const int n_threads = worthwhile_threads(problem.n_threads, work_along_paths(problem));
    const Tasks cut(count_frames(problem.sequences) / kTaskFramesAlong, n_sequences,
                    n_centroids * problem.centroids.n_timesteps / kTaskRowsAlong, n_centroids,
                    n_threads);
    parallel_for(cut.n_ranges * cut.n_blocks, n_threads, [&](Worker& worker) {
        DistancesAlong<Real> along(problem, runs, distances, worker);
        for (std::int64_t task; worker.next(task);) {
            const std::int64_t range = task / cut.n_blocks;
            const std::int64_t block = task % cut.n_blocks;
            along.compute(
                range * n_sequences / cut.n_ranges, (range + 1) * n_sequences / cut.n_ranges,
                block * n_centroids / cut.n_blocks, (block + 1) * n_centroids / cut.n_blocks);
        }
    });
}

template <typename Real>
void parameter_gradients(const Problem<Real>& problem, const Run* runs,
                         const double* grad_distances, Real* grad_centroids, Real* grad_weights) {
    const CentroidView<Real>& centroids = problem.centroids;
    const std::int64_t n_centroids = centroids.n_centroids;
    const int n_threads = worthwhile_threads(problem.n_threads, work_along_paths(problem));
    const Strips<kGradientStrip, Real> strips(centroids.n_features);
    if (strips.size() == 0 || n_centroids == 0) return;
    // Frames are packed once for a strip of all centroids, unless there are more threads.
    const std::int64_t n_blocks =
        n_threads == 1 ? 1
                       : std::clamp<std::int64_t>(4 * n_threads / strips.size(), 1, n_centroids);
    parallel_for(strips.size() * n_blocks, n_threads, [&](Worker& worker) {
        ParameterGradients<Real> gradients(problem, runs, grad_distances, grad_centroids,
                                           grad_weights, worker);
        for (std::int64_t task; worker.next(task);) {
            const std::int64_t block = task % n_blocks;
            strips.visit(task / n_blocks, [&](auto width, std::int64_t begin) {
                gradients.template compute<decltype(width)::value>(
                    begin, block * n_centroids / n_blocks, (block + 1) * n_centroids / n_blocks);
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
    parallel_for(sequences.n_sequences, n_threads, [&](Worker& worker) {
        Scratch<double> sums;
        for (std::int64_t s; worker.next(s);) {
            const std::int64_t size = sequences.lengths[s] * n_features;
            sums.resize(size);
            sums.fill(0, size, 0.0);
            for (std::int64_t row = 0; row < centroids.n_centroids * centroids.n_timesteps; ++row) {
                const std::int64_t pair = s * centroids.n_centroids + row / centroids.n_timesteps;
                const Run run = runs[s * centroids.n_centroids * centroids.n_timesteps + row];
                const Real* weight = centroids.weights + row * n_features;
                const Real* centroid_frame = centroids.values + row * n_features;
                worker.checkpoint(static_cast<double>((run.last - run.first + 1) * n_features));
                for (std::int64_t j = run.first; j <= run.last; ++j) {
                    const Real* frame = sequences.frames(s) + j * n_features;
                    double* frame_sums = sums.data() + j * n_features;
                    for (std::int64_t f = 0; f < n_features; ++f) {
                        frame_sums[f] += derivative_by_frame(grad_distances[pair] * weight[f],
                                                             centroid_frame[f], frame[f]);
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
    parallel_for(problem.centroids.n_centroids * n_timesteps, n_threads, [&](Worker& worker) {
        Scratch<double> shift(n_features);
        for (std::int64_t row; worker.next(row);) {
            const Real* centroid_frame = problem.centroids.values + row * n_features;
            shift.fill(0, n_features, 0.0);
            double n_matched = 0.0;
            for_each_run(
                problem, runs, sample_weights, row / n_timesteps, row % n_timesteps,
                [&](double sample_weight, const Real* frames, Run run) {
                    worker.checkpoint(static_cast<double>((run.last - run.first + 1) * n_features));
                    for (std::int64_t j = run.first; j <= run.last; ++j) {
                        const Real* frame = frames + j * n_features;
                        for (std::int64_t f = 0; f < n_features; ++f) {
                            shift[f] +=
                                sample_weight * (static_cast<double>(frame[f]) - centroid_frame[f]);
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

// A step takes about as long as so many weighted differences per parameter.
constexpr double kWorkPerParameter = 20.0;

template <typename Real>
void adam(const AdamStep<Real>& step) {
    const double work = kWorkPerParameter * static_cast<double>(step.n_rows * step.n_features);
    const AdamCorrections<Real> corrections(step.learning_rate, step.n_steps);
    parallel_for(step.n_rows, worthwhile_threads(step.n_threads, work), [&](Worker& worker) {
        for (std::int64_t row; worker.next(row);) adam_step(step, corrections, row);
    });
}

template <typename Real>
const Backend<Real>& backend() {
    static constexpr Backend<Real> table = {&align<Real>,
                                            &distances_along<Real>,
                                            &parameter_gradients<Real>,
                                            &sequence_gradients<Real>,
                                            &barycenters<Real>,
                                            &adam<Real>};
    return table;
}

template const Backend<float>& backend<float>();
template const Backend<double>& backend<double>();

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
