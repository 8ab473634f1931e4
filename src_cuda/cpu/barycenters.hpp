// Barycenters along given paths.
#pragma once

#include <cstdint>

#include "../align.hpp"
#include "parallel.hpp"
#include "scratch.hpp"
#include "tasks.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

/// Calls `visit(coefficient, frames, run)` for every sequence whose coefficient with the centroid
/// is not 0, in the order of the sequences, so that sums over them are reproducible.
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

/// Computes means of the frames' offsets from the centroid, so that frames equal to the centroid
/// leave it exactly unchanged, whatever the sample weights.
template <typename Real>
void barycenters(const Problem<Real>& problem, const Run* runs, const double* sample_weights,
                 Real* means) {
    const std::int64_t n_features = problem.sequences.n_features;
    const std::int64_t n_timesteps = problem.centroids.n_timesteps;
    const int n_threads = worthwhile_threads(problem.n_threads, work_along_paths(problem));
    parallel_for(problem.centroids.n_centroids * n_timesteps, n_threads, [&](Worker& worker) {
        Scratch<double> shift(n_features);
        for (std::int64_t row; worker.next(row);) {
            const Real* centroid = problem.centroids.values + row * n_features;
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
                                sample_weight * (static_cast<double>(frame[f]) - centroid[f]);
                        }
                        n_matched += sample_weight;
                    }
                });
            for (std::int64_t f = 0; f < n_features; ++f) {
                means[row * n_features + f] = static_cast<Real>(centroid[f] + shift[f] / n_matched);
            }
        }
    });
}

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
