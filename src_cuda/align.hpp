// The interface between the binding (module.cpp) and the CPU backend. cuda/align_cuda.hpp is its
// counterpart for arrays on CUDA devices, and uses Run.
//
// A *sequence* has shape (n_frames, n_features); a *centroid* has shape (n_timesteps, n_features),
// and so do its weights. All arrays are C-contiguous. The structures own no memory, and no function
// creates an array of size n_sequences x n_centroids x n_timesteps x n_features.
#pragma once

#include <cstddef>
#include <cstdint>

namespace skdejavid {

/// Sequences of different lengths in one packed array: sequence `s` is the rows `starts[s]` to
/// `starts[s] + lengths[s] - 1` of `values`. Sequences may be in any order, overlap or repeat.
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

/// All centroids and their weights.
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

/// Sequences and the centroids to which they are compared.
template <typename Real>
struct Problem {
    SequenceView<Real> sequences;
    CentroidView<Real> centroids;
    int n_threads;  // maximum number of threads; results do not depend on it

    std::int64_t n_pairs() const { return sequences.n_sequences * centroids.n_centroids; }
};

/// The sizes of a problem from which the memory of its alignment follows.
struct Sizes {
    std::int64_t n_sequences;
    std::int64_t n_frames;  // of all sequences
    std::int64_t longest;   // number of frames of the longest sequence
    std::int64_t n_centroids;
    std::int64_t n_timesteps;
    std::int64_t n_features;
    int n_threads;
};

/// The frames `first` to `last` (inclusive) that a path matches to one time step.
struct Run {
    std::int32_t first;
    std::int32_t last;
};
static_assert(sizeof(Run) == 2 * sizeof(std::int32_t),
              "the binding converts runs to (..., 2) int32 arrays");

/// One in-place step of Adam (betas 0.9 and 0.999, epsilon 1e-8) for rows of parameters.
///
/// The optimizer's variable is `parameter / scale` or, if `is_relative`, the logarithm of the
/// parameter: the gradient is then multiplied by the parameter, and the parameter by the
/// exponential of the step.
template <typename Real>
struct AdamStep {
    Real* parameters;       // (n_rows, n_features), as all arrays except `scale`
    const Real* gradients;  // with respect to the parameters
    Real* first_moments;
    Real* second_moments;
    const Real* scale;  // (n_features,), not read if `is_relative`
    std::int64_t n_rows;
    std::int64_t n_features;
    bool is_relative;
    double learning_rate;
    std::int64_t n_steps;  // including this one
    int n_threads;
};

/// The entry points, one table per instruction set and floating type. Pairs are stored
/// sequence-major: `[sequence * n_centroids + centroid]`.
template <typename Real>
struct Backend {
    /// Computes the costs, the recurrence and the backtrack: `distances` (n_pairs,) and, unless it
    /// is null, `runs` (n_pairs, n_timesteps).
    void (*align)(const Problem<Real>&, bool diagonal, double* distances, Run* runs);

    /// Returns how many bytes of scratch memory all threads of `align` take together, at most. It
    /// is a floating-point number because no product of sizes overflows it.
    double (*align_bytes)(const Sizes&, bool with_runs);

    /// Computes sums of costs along given runs: `distances` (n_pairs,).
    void (*distances_along)(const Problem<Real>&, const Run* runs, double* distances);

    /// Computes the derivatives of `sum(grad_distances * distances_along(...))` with respect to
    /// centroids and weights, each (n_centroids, n_timesteps, n_features); see cost_term.hpp.
    void (*parameter_gradients)(const Problem<Real>&, const Run* runs, const double* grad_distances,
                                Real* grad_centroids, Real* grad_weights);

    /// Computes the derivative of the same sum with respect to the frames, packed in the order of
    /// the view: (sum of lengths, n_features).
    void (*sequence_gradients)(const Problem<Real>&, const Run* runs, const double* grad_distances,
                               Real* grad_frames);

    /// Computes the mean of the frames matched to each time step, weighted by
    /// `sample_weights[pair]`. Every centroid needs a pair with a positive weight.
    void (*barycenters)(const Problem<Real>&, const Run* runs, const double* sample_weights,
                        Real* means);

    /// Performs one step of Adam.
    void (*adam)(const AdamStep<Real>&);
};

/// Returns the table for the instruction set that `cpu_instruction_set` names.
template <typename Real>
const Backend<Real>& cpu_backend();

/// Returns "baseline", "avx2" or "avx512": the best one of this machine, or the value of the
/// environment variable SKDEJAVID_INSTRUCTION_SET at the first call. Throws std::invalid_argument
/// if that one is not supported.
const char* cpu_instruction_set();

/// Sets a function that threads call from time to time while a backend computes for them. It may
/// throw, which ends the call: the interpreter uses it to handle signals such as Ctrl-C.
void set_interrupt_check(void (*check)());

}  // namespace skdejavid
