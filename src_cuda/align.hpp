// The contract between the binding (module.cpp) and the backends (cpu/, later cuda/).
//
// A *sequence* is (n_frames, n_features), a *centroid* (n_timesteps, n_features) with a weight of
// its own shape; all arrays are C-contiguous. Nothing here owns memory, and no function ever builds
// an array of size n_sequences x n_centroids x n_timesteps x n_features.
#pragma once

#include <cstddef>
#include <cstdint>

namespace skdejavid {

/// Sequences of differing length inside one packed array: sequence `s` covers the rows
/// `starts[s] .. starts[s] + lengths[s] - 1` of `values`. Any subset in any order is a view.
template <typename Real>
struct SequenceView {
    const Real* values;           // (n_rows, n_features)
    const std::int64_t* starts;   // (n_sequences,)
    const std::int64_t* lengths;  // (n_sequences,), each at least 1
    std::int64_t n_sequences;
    std::int64_t n_features;

    const Real* frames(std::int64_t sequence) const {
        return values + starts[sequence] * n_features;
    }
};

/// All centroids, and the weight of each of their time steps and features.
template <typename Real>
struct CentroidView {
    const Real* values;   // (n_centroids, n_timesteps, n_features)
    const Real* weights;  // the same shape, each at least 0
    std::int64_t n_centroids;
    std::int64_t n_timesteps;
    std::int64_t n_features;

    std::int64_t offset(std::int64_t centroid, std::int64_t timestep) const {
        return (centroid * n_timesteps + timestep) * n_features;
    }
};

template <typename Real>
struct Problem {
    SequenceView<Real> sequences;
    CentroidView<Real> centroids;
    int n_threads;  // an upper bound; no result depends on it

    std::int64_t n_pairs() const { return sequences.n_sequences * centroids.n_centroids; }
};

/// The frames `first .. last` (inclusive) that a path matches to one centroid frame.
struct Run {
    std::int32_t first;
    std::int32_t last;
};
static_assert(sizeof(Run) == 2 * sizeof(std::int32_t), "runs cross the border as (..., 2) int32");

/// One step of Adam (betas 0.9 and 0.999, epsilon 1e-8) for rows of parameters, in place.
///
/// Parameters are learned in the unit of their feature: gradient and step are those of
/// `parameter / scale`. Or, if `is_relative`, their logarithms are learned: the gradient is
/// multiplied by the parameter, which is then multiplied by the exponential of the step.
template <typename Real>
struct AdamStep {
    Real* parameters;       // (n_rows, n_features), as all but `scale`
    const Real* gradients;  // by the parameters
    Real* first_moments;
    Real* second_moments;
    const Real* scale;  // (n_features,), not read if `is_relative`
    std::int64_t n_rows;
    std::int64_t n_features;
    bool is_relative;
    double learning_rate;
    std::int64_t n_steps;  // with this one
    int n_threads;
};

/// The backends' entry points, one table per backend and floating type. Pairs are stored
/// sequence-major: `[sequence * n_centroids + centroid]`.
template <typename Real>
struct Backend {
    /// Cost, recurrence and backtrack: `distances` (n_pairs,) and, unless null, `runs`
    /// (n_pairs, n_timesteps).
    void (*align)(const Problem<Real>&, bool diagonal, double* distances, Run* runs);

    /// Sum of cost along given runs: `distances` (n_pairs,).
    void (*distances_along)(const Problem<Real>&, const Run* runs, double* distances);

    /// Derivatives of `sum(grad_distances * distances_along(...))` by weights and centroids, each
    /// (n_centroids, n_timesteps, n_features); at `centroid == frame` the derivative is 0.
    void (*parameter_gradients)(const Problem<Real>&, const Run* runs, const double* grad_distances,
                                Real* grad_centroids, Real* grad_weights);

    /// The same derivative by the frames, packed in the order of the view: (sum of lengths,
    /// n_features).
    void (*sequence_gradients)(const Problem<Real>&, const Run* runs, const double* grad_distances,
                               Real* grad_frames);

    /// Each centroid frame becomes the mean of the frames matched to it, a frame counted
    /// `sample_weights[pair]` times. Every centroid needs a pair of positive weight.
    void (*barycenters)(const Problem<Real>&, const Run* runs, const double* sample_weights,
                        Real* means);

    void (*adam)(const AdamStep<Real>&);
};

template <typename Real>
const Backend<Real>& cpu_backend();

/// The instruction set that it uses: "baseline", "avx2" or "avx512". Chosen at the first call;
/// throws std::invalid_argument if the environment asks for one that is not there.
const char* cpu_instruction_set();

/// `check` is called every now and then by threads that have called a backend, and may throw what
/// ends the call: how the interpreter lets its user interrupt.
void set_interrupt_check(void (*check)());

}  // namespace skdejavid
