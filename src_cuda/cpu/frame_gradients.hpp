// Derivatives of distances along given paths by the frames of the sequences.
#pragma once

#include <cstdint>

#include "../align.hpp"
#include "../cost_term.hpp"
#include "parallel.hpp"
#include "scratch.hpp"
#include "tasks.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

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
                const Real* centroid = centroids.values + row * n_features;
                worker.checkpoint(static_cast<double>((run.last - run.first + 1) * n_features));
                for (std::int64_t j = run.first; j <= run.last; ++j) {
                    const Real* frame = sequences.frames(s) + j * n_features;
                    double* frame_sums = sums.data() + j * n_features;
                    for (std::int64_t f = 0; f < n_features; ++f) {
                        frame_sums[f] += derivative_by_frame(grad_distances[pair] * weight[f],
                                                             centroid[f], frame[f]);
                    }
                }
            }
            Real* target = grad_frames + packed_starts[s] * n_features;
            for (std::int64_t k = 0; k < size; ++k) target[k] = static_cast<Real>(sums[k]);
        }
    });
}

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
