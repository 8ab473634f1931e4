// Entry points of the CPU backend. Each align_<isa>.cpp defines SKDEJAVID_ISA as its own namespace
// and includes this file; CMake compiles it with the flags of that instruction set.
//
// The linker keeps only one definition of an inline function, possibly one compiled for an
// instruction set that the machine lacks. Every function that may not be inlined is therefore in
// the namespace, and no container of the standard library is used.
#ifndef SKDEJAVID_ISA
#error "define SKDEJAVID_ISA before including align_body.inl"
#endif

#include <algorithm>
#include <cstdint>

#include "../align.hpp"
#include "adam.hpp"
#include "aligner.hpp"
#include "barycenters.hpp"
#include "frame_gradients.hpp"
#include "parallel.hpp"
#include "parameter_gradients.hpp"
#include "path_sums.hpp"
#include "tasks.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

// Approximate numbers of frames and of time steps of centroids in a task. Frames are packed once
// for all time steps of the task, and its costs stay in the L2 cache.
constexpr std::int64_t kTaskFrames = 192;
constexpr std::int64_t kTaskRows = 384;

/// The division of an alignment into tasks of sequences and groups of centroids.
struct AlignPlan {
    std::int64_t n_groups;
    int n_threads;
    Tasks cut;

    explicit AlignPlan(const Sizes& sizes)
        : n_groups((sizes.n_centroids + kGroup - 1) / kGroup),
          n_threads(worthwhile_threads(sizes.n_threads, work_of_costs(sizes))),
          cut(sizes.n_frames / kTaskFrames, std::max<std::int64_t>(sizes.n_sequences, 1),
              sizes.n_centroids * sizes.n_timesteps / kTaskRows,
              std::max<std::int64_t>(n_groups, 1), n_threads) {}
};

template <typename Real>
double align_bytes(const Sizes& sizes, bool with_runs) {
    const AlignPlan plan(sizes);
    const std::int64_t n_workers = std::min<std::int64_t>(plan.n_threads, plan.cut.size());
    const std::int64_t most_groups = (plan.n_groups + plan.cut.n_blocks - 1) / plan.cut.n_blocks;
    return static_cast<double>(n_workers) * aligner_bytes<Real>(sizes, most_groups, with_runs);
}

template <typename Real>
void align(const Problem<Real>& problem, bool diagonal, double* distances, Run* runs) {
    const Sizes sizes = sizes_of(problem);
    if (sizes.n_sequences == 0 || sizes.n_centroids == 0) return;
    const AlignPlan plan(sizes);
    const Tasks& cut = plan.cut;
    parallel_for(cut.size(), plan.n_threads, [&](Worker& worker) {
        Aligner<Real> aligner(problem, diagonal, distances, runs, worker);
        for (std::int64_t task; worker.next(task);) {
            const std::int64_t range = task / cut.n_blocks;
            const std::int64_t block = task % cut.n_blocks;
            aligner.align(range * sizes.n_sequences / cut.n_ranges,
                          (range + 1) * sizes.n_sequences / cut.n_ranges,
                          block * plan.n_groups / cut.n_blocks,
                          (block + 1) * plan.n_groups / cut.n_blocks);
        }
    });
}

// Approximate numbers of frames and of time steps of centroids in a task: their strips fit into the
// L2 cache.
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
    parallel_for(cut.size(), n_threads, [&](Worker& worker) {
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
    // Frames are packed once for a strip of all centroids, unless there are more threads than
    // strips.
    const std::int64_t n_blocks =
        n_threads == 1
            ? 1
            : std::clamp(4 * std::int64_t{n_threads} / strips.size(), std::int64_t{1}, n_centroids);
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

// Time of an Adam step per parameter, in the time of one term of a cost.
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
                                            &align_bytes<Real>,
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
