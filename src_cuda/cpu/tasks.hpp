// Tasks of a call, and the number of threads that its work is worth.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../align.hpp"
#include "parallel.hpp"

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

/// Calls `body(worker)` in each of up to `n_threads` threads.
template <typename Body>
void parallel_for(std::int64_t n_tasks, int n_threads, const Body& body) {
    run_in_threads(JobOf<Body>(body), n_tasks, n_threads);
}

template <typename Real>
std::int64_t count_frames(const SequenceView<Real>& sequences) {
    std::int64_t n_frames = 0;
    for (std::int64_t s = 0; s < sequences.n_sequences; ++s) n_frames += sequences.lengths[s];
    return n_frames;
}

/// Number of terms in the cost of all paths: each path has about n_frames + n_timesteps cells,
/// since a run may share a frame with the next.
template <typename Real>
double work_along_paths(const Problem<Real>& problem) {
    const SequenceView<Real>& sequences = problem.sequences;
    const std::int64_t n_cells =
        count_frames(sequences) + sequences.n_sequences * problem.centroids.n_timesteps;
    return static_cast<double>(n_cells) *
           static_cast<double>(problem.centroids.n_centroids * sequences.n_features);
}

template <typename Real>
Sizes sizes_of(const Problem<Real>& problem) {
    const SequenceView<Real>& sequences = problem.sequences;
    const CentroidView<Real>& centroids = problem.centroids;
    std::int64_t longest = 0;
    for (std::int64_t s = 0; s < sequences.n_sequences; ++s) {
        longest = std::max(longest, sequences.lengths[s]);
    }
    return {sequences.n_sequences, count_frames(sequences), longest,          centroids.n_centroids,
            centroids.n_timesteps, centroids.n_features,    problem.n_threads};
}

/// Number of terms in the cost of all frames and all time steps.
inline double work_of_costs(const Sizes& sizes) {
    return static_cast<double>(sizes.n_frames) * static_cast<double>(sizes.n_centroids) *
           static_cast<double>(sizes.n_timesteps) * static_cast<double>(sizes.n_features);
}

/// A division of pairs into tasks: ranges of sequences times blocks of consecutive centroids. There
/// are more tasks than is best for one thread only if some threads would have none otherwise.
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

    std::int64_t size() const { return n_ranges * n_blocks; }
};

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
