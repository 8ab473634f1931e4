// The contract between the binding (module.cpp) and the CUDA backend: align.hpp's problem, with all
// arrays in the memory of a device. Needs no CUDA to be included.
//
// Rows (frames of sequences, time steps of centroids and weights, and all results of their shape)
// begin at multiples of 16 bytes, `pitch` numbers apart. What lies between `n_features` and the
// pitch is 0 in values and weights, and finite in centroids, so that it adds nothing to any sum.
// Nothing here allocates, copies to the host or waits: work is queued on the given stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "../align.hpp"

namespace skdejavid {

/// A number of 16 bits (IEEE binary16) that sequences may be stored in; only kernels look inside.
struct Half {
    std::uint16_t bits;
};

/// Where work is queued: a device, and a cudaStream_t of it.
struct Queue {
    int device;
    void* stream;
};

template <typename Real, typename Stored>
struct DeviceProblem {
    const Stored* values;         // (fewer than 2**32 - 1 rows, value_pitch)
    std::int64_t value_pitch;     // numbers between the beginnings of rows
    const std::int64_t* starts;   // (n_sequences,): the first row of each sequence
    const std::int64_t* lengths;  // (n_sequences,), each at least 1
    const std::int64_t* offsets;  // (n_sequences,): sums of the lengths before
    std::int64_t n_sequences;
    std::int64_t n_frames;  // sum of lengths
    std::int64_t longest;   // largest length
    const Real* centroids;  // (n_centroids, n_timesteps, parameter_pitch)
    const Real* weights;    // the same shape
    std::int64_t parameter_pitch;
    std::int64_t n_centroids;
    std::int64_t n_timesteps;
    std::int64_t n_features;

    std::int64_t n_rows() const { return n_centroids * n_timesteps; }
    std::int64_t n_pairs() const { return n_sequences * n_centroids; }
};

/// AdamStep with its arrays on a device and rows `pitch` numbers apart.
template <typename Real>
struct DeviceAdamStep {
    Real* parameters;
    const Real* gradients;
    Real* first_moments;
    Real* second_moments;
    const Real* scale;  // (n_features,), null if logarithms are learned
    std::int64_t n_rows;
    std::int64_t pitch;
    std::int64_t n_features;
    double learning_rate;
    std::int64_t n_steps;
};

/// The entry points, see align.hpp's Backend for what they compute. Pairs are sequence-major.
/// Stored is Real, or Half where Real is float. They throw std::runtime_error with CUDA's reason.
template <typename Real, typename Stored>
struct DeviceBackend {
    /// Bytes of workspace that `align` needs, with or without runs.
    static std::size_t align_bytes(const DeviceProblem<Real, Stored>&, bool with_runs);
    static void align(const DeviceProblem<Real, Stored>&, Queue, bool diagonal, double* distances,
                      Run* runs, void* workspace);

    /// Bytes of workspace that `distances_along` needs.
    static std::size_t along_bytes(const DeviceProblem<Real, Stored>&);
    static void distances_along(const DeviceProblem<Real, Stored>&, Queue, const Run* runs,
                                double* distances, void* workspace);

    /// Adds to what the two arrays hold, or fills them in.
    static void parameter_gradients(const DeviceProblem<Real, Stored>&, Queue, const Run* runs,
                                    const double* grad_distances, bool adds, Real* grad_centroids,
                                    Real* grad_weights);

    /// `grad_frames` (n_frames, parameter_pitch), packed in the order of the sequences.
    static void sequence_gradients(const DeviceProblem<Real, Stored>&, Queue, const Run* runs,
                                   const double* grad_distances, Real* grad_frames);

    static void barycenters(const DeviceProblem<Real, Stored>&, Queue, const Run* runs,
                            const double* sample_weights, Real* means);
};

template <typename Real>
void device_adam(const DeviceAdamStep<Real>&, Queue);

/// What there is to compute on. Asking starts CUDA in this process.
struct DeviceInfo {
    std::string name;
    int major, minor;      // compute capability
    std::int64_t n_bytes;  // of memory
};

/// All devices; none if there is no driver or device, and then `reason` says which.
std::vector<DeviceInfo> list_devices(std::string& reason);

/// Why this build cannot compute on a device; empty if it can. Takes some of its memory.
std::string find_obstacle(int device);

bool built_with_cuda();

/// For which devices kernels were compiled, in CMake's words ("80-real 90"); empty without CUDA.
const char* cuda_architectures();

/// As CUDA writes them (13000 is 13.0); 0 if there is none.
int cuda_driver_version();
int cuda_runtime_version();

}  // namespace skdejavid
