// The Python binding of the CUDA backend. Arrays are addresses in the memory of a device, because
// they belong to PyTorch's tensors. The binding checks sizes and the alignment of addresses;
// everything else (types, devices, contents) is the responsibility of the caller,
// skdejavid.backends.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "binding.hpp"
#include "cuda/align_cuda.hpp"

namespace py = pybind11;

namespace skdejavid {
namespace {

using Address = std::uintptr_t;

constexpr std::int64_t kMostRows = std::int64_t{1} << 32;
constexpr std::size_t kRowAlignment = 16;  // bytes; rows are read in accesses of this size

template <typename T>
T* pointer(Address address, const char* name, std::size_t alignment = alignof(T)) {
    check_that(address != 0, name, " must not be null");
    check_that(address % alignment == 0, name, " must be a multiple of ", alignment, " bytes");
    return reinterpret_cast<T*>(address);
}

/// Returns the pointer to the first row of an array with a pitch.
template <typename T>
T* rows(Address address, const char* name) {
    return pointer<T>(address, name, kRowAlignment);
}

void check_positive(std::int64_t size, const char* name) {
    check_that(size >= 1, name, " must be at least 1, got ", size);
}

template <typename T>
void check_pitch(std::int64_t pitch, std::int64_t n_features, const char* name) {
    check_that(pitch >= n_features && pitch * sizeof(T) % kRowAlignment == 0, name,
               " must be at least n_features, and rows must be a multiple of ", kRowAlignment,
               " bytes long, got ", pitch);
}

Queue queue_of(int device, Address stream) { return {device, reinterpret_cast<void*>(stream)}; }

template <typename Real, typename Stored>
class PyCudaProblem {
    using Backend = CudaBackend<Real, Stored>;

 public:
    PyCudaProblem(int device, Address stream, Address values, std::int64_t value_pitch,
                  Address starts, Address lengths, Address offsets, std::int64_t n_sequences,
                  std::int64_t n_frames, std::int64_t longest, Address centroids, Address weights,
                  std::int64_t parameter_pitch, std::int64_t n_centroids, std::int64_t n_timesteps,
                  std::int64_t n_features)
        : queue_(queue_of(device, stream)) {
        check_positive(n_sequences, "n_sequences");
        check_positive(n_centroids, "n_centroids");
        check_positive(n_timesteps, "n_timesteps");
        check_positive(n_features, "n_features");
        check_positive(longest, "longest");
        check_that(
            n_frames >= longest && n_frames >= n_sequences && n_frames < kMostRows - 1,
            "n_frames must be at least longest and n_sequences, and less than 2**32 - 1, got ",
            n_frames);
        check_that(longest <= std::numeric_limits<std::int32_t>::max(),
                   "longest must be less than 2**31, got ", longest);
        check_sizes(n_sequences, n_frames, value_pitch, n_centroids, n_timesteps, parameter_pitch);
        check_pitch<Stored>(value_pitch, n_features, "value_pitch");
        check_pitch<Real>(parameter_pitch, n_features, "parameter_pitch");
        problem_ = {rows<const Stored>(values, "values"),
                    value_pitch,
                    pointer<const std::int64_t>(starts, "starts"),
                    pointer<const std::int64_t>(lengths, "lengths"),
                    pointer<const std::int64_t>(offsets, "offsets"),
                    n_sequences,
                    n_frames,
                    longest,
                    rows<const Real>(centroids, "centroids"),
                    rows<const Real>(weights, "weights"),
                    parameter_pitch,
                    n_centroids,
                    n_timesteps,
                    n_features};
    }

    std::size_t align_bytes(bool with_runs) const {
        return Backend::align_bytes(problem_, with_runs);
    }

    void align(bool diagonal, Address distances, Address runs, Address workspace) const {
        Backend::align(problem_, queue_, diagonal, pointer<double>(distances, "distances"),
                       runs == 0 ? nullptr : pointer<Run>(runs, "runs"),
                       rows<unsigned char>(workspace, "workspace"));
    }

    std::size_t along_bytes() const { return Backend::along_bytes(problem_); }

    void distances_along(Address runs, Address distances, Address workspace) const {
        Backend::distances_along(problem_, queue_, pointer<const Run>(runs, "runs"),
                                 pointer<double>(distances, "distances"),
                                 rows<unsigned char>(workspace, "workspace"));
    }

    void parameter_gradients(Address runs, Address grad_distances, bool adds,
                             Address grad_centroids, Address grad_weights) const {
        Backend::parameter_gradients(problem_, queue_, pointer<const Run>(runs, "runs"),
                                     pointer<const double>(grad_distances, "grad_distances"), adds,
                                     rows<Real>(grad_centroids, "grad_centroids"),
                                     rows<Real>(grad_weights, "grad_weights"));
    }

    void sequence_gradients(Address runs, Address grad_distances, Address grad_frames) const {
        Backend::sequence_gradients(problem_, queue_, pointer<const Run>(runs, "runs"),
                                    pointer<const double>(grad_distances, "grad_distances"),
                                    rows<Real>(grad_frames, "grad_frames"));
    }

    void barycenters(Address runs, Address sample_weights, Address means) const {
        Backend::barycenters(problem_, queue_, pointer<const Run>(runs, "runs"),
                             pointer<const double>(sample_weights, "sample_weights"),
                             rows<Real>(means, "means"));
    }

 private:
    /// Checks the sizes of all arrays and of the workspace, whose items are packs or words of
    /// moves.
    static void check_sizes(std::int64_t n_sequences, std::int64_t n_frames,
                            std::int64_t value_pitch, std::int64_t n_centroids,
                            std::int64_t n_timesteps, std::int64_t parameter_pitch) {
        check_size({n_frames, value_pitch}, "values");
        check_size({n_frames, parameter_pitch}, "gradients of sequences");
        check_size({n_centroids, n_timesteps, parameter_pitch}, "centroids");
        check_size({n_sequences, n_centroids, n_timesteps, 2}, "runs");
        check_size({n_frames, n_centroids, n_timesteps}, "costs");
    }

    Queue queue_;
    CudaProblem<Real, Stored> problem_{};
};

template <typename Real>
void adam_step(int device, Address stream, Address parameters, Address gradients,
               Address first_moments, Address second_moments, Address scale, std::int64_t n_rows,
               std::int64_t pitch, std::int64_t n_features, double learning_rate,
               std::int64_t n_steps) {
    check_positive(n_rows, "n_rows");
    check_positive(n_features, "n_features");
    check_positive(n_steps, "n_steps");
    check_size({n_rows, pitch}, "parameters");
    check_pitch<Real>(pitch, n_features, "pitch");
    const CudaAdamStep<Real> step = {rows<Real>(parameters, "parameters"),
                                     rows<const Real>(gradients, "gradients"),
                                     rows<Real>(first_moments, "first_moments"),
                                     rows<Real>(second_moments, "second_moments"),
                                     scale == 0 ? nullptr : rows<const Real>(scale, "scale"),
                                     n_rows,
                                     pitch,
                                     n_features,
                                     learning_rate,
                                     n_steps};
    cuda_adam(step, queue_of(device, stream));
}

/// Releases the GIL: the first launch of a kernel loads its code, which takes long.
using WithoutGil = py::call_guard<py::gil_scoped_release>;

template <typename Real, typename Stored>
void register_cuda_problem(py::module_& module, const char* name) {
    using P = PyCudaProblem<Real, Stored>;
    const auto arg = [](const char* argument) { return py::arg(argument); };
    py::class_<P>(module, name)
        .def(py::init<int, Address, Address, std::int64_t, Address, Address, Address, std::int64_t,
                      std::int64_t, std::int64_t, Address, Address, std::int64_t, std::int64_t,
                      std::int64_t, std::int64_t>(),
             py::kw_only(), arg("device"), arg("stream"), arg("values"), arg("value_pitch"),
             arg("starts"), arg("lengths"), arg("offsets"), arg("n_sequences"), arg("n_frames"),
             arg("longest"), arg("centroids"), arg("weights"), arg("parameter_pitch"),
             arg("n_centroids"), arg("n_timesteps"), arg("n_features"))
        .def("align_bytes", &P::align_bytes, arg("with_runs"))
        .def("align", &P::align, arg("diagonal"), arg("distances"), arg("runs"), arg("workspace"),
             WithoutGil())
        .def("along_bytes", &P::along_bytes)
        .def("distances_along", &P::distances_along, arg("runs"), arg("distances"),
             arg("workspace"), WithoutGil())
        .def("parameter_gradients", &P::parameter_gradients, arg("runs"), arg("grad_distances"),
             arg("adds"), arg("grad_centroids"), arg("grad_weights"), WithoutGil())
        .def("sequence_gradients", &P::sequence_gradients, arg("runs"), arg("grad_distances"),
             arg("grad_frames"), WithoutGil())
        .def("barycenters", &P::barycenters, arg("runs"), arg("sample_weights"), arg("means"),
             WithoutGil());
}

template <typename Real>
void register_cuda_adam(py::module_& module, const char* name) {
    const auto arg = [](const char* argument) { return py::arg(argument); };
    module.def(name, &adam_step<Real>, py::kw_only(), arg("device"), arg("stream"),
               arg("parameters"), arg("gradients"), arg("first_moments"), arg("second_moments"),
               arg("scale"), arg("n_rows"), arg("pitch"), arg("n_features"), arg("learning_rate"),
               arg("n_steps"), WithoutGil());
}

using DeviceRow = std::tuple<std::string, int, int, std::int64_t>;

std::pair<std::vector<DeviceRow>, std::string> describe_devices() {
    std::string reason;
    std::vector<DeviceRow> devices;
    for (const DeviceInfo& info : list_devices(reason)) {
        devices.emplace_back(info.name, info.major, info.minor, info.n_bytes);
    }
    return {devices, reason};
}

int count_devices() {
    std::string reason;
    return static_cast<int>(list_devices(reason).size());
}

}  // namespace

void register_cuda(py::module_& module) {
    module.attr("built_with_cuda") = built_with_cuda();
    module.attr("cuda_architectures") = cuda_architectures();
    register_cuda_problem<float, float>(module, "CudaProblemFloat32");
    register_cuda_problem<float, Half>(module, "CudaProblemFloat16");
    register_cuda_problem<double, double>(module, "CudaProblemFloat64");
    register_cuda_adam<float>(module, "cuda_adam_step_float32");
    register_cuda_adam<double>(module, "cuda_adam_step_float64");
    module.def("cuda_devices", &describe_devices, WithoutGil());
    module.def("cuda_device_count", &count_devices, WithoutGil());
    module.def("cuda_unusable_reason", &cuda_unusable_reason, py::arg("device"), WithoutGil());
    module.def("cuda_driver_version", &cuda_driver_version);
    module.def("cuda_runtime_version", &cuda_runtime_version);
}

}  // namespace skdejavid
