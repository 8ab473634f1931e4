// The interface between the binding (module_cuda.cpp) and the CUDA backend: counterparts of the
// structures in align.hpp with all arrays in the memory of a device. Includes no header of CUDA.
//
// Rows (frames of sequences, time steps of centroids and weights, and results of these shapes)
// begin at multiples of 16 bytes, `pitch` numbers apart. The numbers between `n_features` and the
// pitch must be 0 in values and weights and finite in centroids, so that they add nothing to any
// sum. No function allocates memory, copies to the host or waits: all queue work on the given
// stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "../align.hpp"

namespace skdejavid {

/// A half-precision number (IEEE binary16), in which sequences may be stored. Kernels convert it.
struct Half {
    std::uint16_t bits;
};

/// The stream (a cudaStream_t) of a device on which work is queued.
struct Queue {
    int device;
    void* stream;
};

template <typename Real, typename Stored>
struct CudaProblem {
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
struct CudaAdamStep {
    Real* parameters;
    const Real* gradients;
    Real* first_moments;
    Real* second_moments;
    const Real* scale;  // (n_features,); null if logarithms of the parameters are learned
    std::int64_t n_rows;
    std::int64_t pitch;
    std::int64_t n_features;
    double learning_rate;
    std::int64_t n_steps;
};

/// The entry points, which compute the same as those of Backend in align.hpp. Pairs are stored
/// sequence-major. Stored is Real, or Half if Real is float. Errors of CUDA are thrown as
/// std::runtime_error.
template <typename Real, typename Stored>
struct CudaBackend {
    /// Returns the number of bytes of workspace that `align` needs, with or without runs.
    static std::size_t align_bytes(const CudaProblem<Real, Stored>&, bool with_runs);
    static void align(const CudaProblem<Real, Stored>&, Queue, bool diagonal, double* distances,
                      Run* runs, void* workspace);

    /// Returns the number of bytes of workspace that `distances_along` needs.
    static std::size_t along_bytes(const CudaProblem<Real, Stored>&);
    static void distances_along(const CudaProblem<Real, Stored>&, Queue, const Run* runs,
                                double* distances, void* workspace);

    /// Adds to the contents of the two result arrays if `adds`, else overwrites them.
    static void parameter_gradients(const CudaProblem<Real, Stored>&, Queue, const Run* runs,
                                    const double* grad_distances, bool adds, Real* grad_centroids,
                                    Real* grad_weights);

    /// Writes `grad_frames` (n_frames, parameter_pitch), packed in the order of the sequences.
    static void sequence_gradients(const CudaProblem<Real, Stored>&, Queue, const Run* runs,
                                   const double* grad_distances, Real* grad_frames);

    static void barycenters(const CudaProblem<Real, Stored>&, Queue, const Run* runs,
                            const double* sample_weights, Real* means);
};

template <typename Real>
void cuda_adam(const CudaAdamStep<Real>&, Queue);

/// Properties of a CUDA device.
struct DeviceInfo {
    std::string name;
    int major, minor;      // compute capability
    std::int64_t n_bytes;  // of memory
};

/// Returns all devices. If there are none, assigns to `reason` why: no driver or no device, for
/// example. Initializes CUDA in this process.
std::vector<DeviceInfo> list_devices(std::string& reason);

/// Returns the reason why this build cannot compute on a device, empty if it can. Creates a CUDA
/// context, which uses some of the device's memory.
std::string cuda_unusable_reason(int device);

bool built_with_cuda();

/// Returns the architectures that kernels were compiled for, in CMake's notation ("80-real 90");
/// empty in a build without CUDA.
const char* cuda_architectures();

/// Return versions in CUDA's encoding (13000 is 13.0); 0 if there is none.
int cuda_driver_version();
int cuda_runtime_version();

}  // namespace skdejavid
