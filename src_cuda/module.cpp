// The Python binding of the CPU backend. It views NumPy arrays without copies, rejects arguments
// that would lead out of bounds, and releases the GIL while the backend computes. module_cuda.cpp
// binds the CUDA backend; no other file uses pybind11.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

#include "align.hpp"
#include "binding.hpp"
#include "border.hpp"
#include "without_gil.hpp"

namespace py = pybind11;

namespace skdejavid {
namespace {

/// A Problem with references to the floating-point arrays that it views. These are not copied, and
/// their values may change between and during calls. Whatever decides which memory is read (the
/// shapes, the starts and lengths of sequences, and runs) is checked and copied, so that later
/// changes cannot lead out of bounds.
template <typename Real>
class PyProblem {
 public:
    PyProblem(Array<Real> values, const Array<std::int64_t>& starts,
              const Array<std::int64_t>& lengths, Array<Real> centroids, Array<Real> weights,
              int n_threads, double memory)
        : values_(std::move(values)),
          centroids_(std::move(centroids)),
          weights_(std::move(weights)),
          references_{kept_in_place(values_), kept_in_place(centroids_), kept_in_place(weights_)},
          sequences_(starts, lengths, checked_rows(values_)),
          memory_(memory) {
        check_that(centroids_.ndim() == 3 && centroids_.shape(1) >= 1,
                   "centroids must be 3-D (n_centroids, n_timesteps >= 1, n_features)");
        check_that(n_threads >= 1, "n_threads must be at least 1");
        const std::int64_t n_features = values_.shape(1);
        const std::int64_t n_centroids = centroids_.shape(0);
        const std::int64_t n_timesteps = centroids_.shape(1);
        check_shape(centroids_, {n_centroids, n_timesteps, n_features}, "centroids");
        check_shape(weights_, {n_centroids, n_timesteps, n_features}, "weights");
        check_that(n_centroids <= std::numeric_limits<std::int32_t>::max(),
                   "there are more than 2**31 - 1 centroids; split them");
        check_size({n_centroids, n_timesteps, n_features}, "centroids");
        check_size({sequences_.size(), n_centroids, n_timesteps, 2}, "runs");
        check_size({sequences_.n_frames(), n_features}, "the frames of all sequences");
        problem_ = {{values_.data(), sequences_.starts(), sequences_.lengths().data(),
                     sequences_.size(), n_features},
                    {centroids_.data(), weights_.data(), n_centroids, n_timesteps, n_features},
                    n_threads};
    }

    // The problem refers to the memory of the copies.
    PyProblem(const PyProblem&) = delete;
    PyProblem& operator=(const PyProblem&) = delete;

    /// Returns the bytes of memory, with those of the results, that the paths between one sequence
    /// and all centroids take.
    static double paths_bytes(std::int64_t n_frames, std::int64_t n_centroids,
                              std::int64_t n_timesteps, std::int64_t n_features, int n_threads) {
        check_that(n_threads >= 1, "n_threads must be at least 1");
        for (const std::int64_t size : {n_frames, n_centroids, n_timesteps, n_features}) {
            check_that(size >= 1 && size <= std::numeric_limits<std::int32_t>::max(),
                       "sizes must be from 1 to 2**31 - 1, got ", size);
        }
        return bytes_of({1, n_frames, n_frames, n_centroids, n_timesteps, n_features, n_threads},
                        true);
    }

    Array<double> distances(bool diagonal) const {
        check_memory(bytes_of(sizes(), false), memory_, sizes(), "distances");
        return compute_pairs(
            [&](double* target) { backend().align(problem_, diagonal, target, nullptr); });
    }

    py::tuple paths(bool diagonal) const {
        check_memory(bytes_of(sizes(), true), memory_, sizes(), "paths");
        Array<std::int32_t> runs(runs_shape());
        Run* target_runs = reinterpret_cast<Run*>(runs.mutable_data());
        Array<double> distances = compute_pairs(
            [&](double* target) { backend().align(problem_, diagonal, target, target_runs); });
        return py::make_tuple(distances, runs);
    }

    Array<double> distances_along(const Array<std::int32_t>& runs) const {
        const Copy<Run> copy = checked_runs(runs);
        return compute_pairs(
            [&](double* target) { backend().distances_along(problem_, copy.data(), target); });
    }

    /// Writes to the two arrays of `out`, which must not share memory with any other array, or to
    /// new arrays.
    std::pair<Array<Real>, Array<Real>> parameter_gradients(
        const Array<std::int32_t>& runs, const Array<double>& grad_distances,
        const std::optional<std::pair<Array<Real>, Array<Real>>>& out) const {
        check_shape(grad_distances, pairs_shape(), "grad_distances");
        const Copy<Run> copy = checked_runs(runs);
        auto [grad_centroids, grad_weights] =
            out ? *out : std::pair(Array<Real>(centroids_shape()), Array<Real>(centroids_shape()));
        check_shape(grad_centroids, centroids_shape(), "out[0]");
        check_shape(grad_weights, centroids_shape(), "out[1]");
        const py::weakref references[] = {kept_in_place(grad_distances),
                                          kept_in_place(grad_centroids),
                                          kept_in_place(grad_weights)};
        without_gil([&, source = grad_distances.data(),
                     to_centroids = grad_centroids.mutable_data(),
                     to_weights = grad_weights.mutable_data()] {
            backend().parameter_gradients(problem_, copy.data(), source, to_centroids, to_weights);
        });
        return {grad_centroids, grad_weights};
    }

    Array<Real> sequence_gradients(const Array<std::int32_t>& runs,
                                   const Array<double>& grad_distances) const {
        check_shape(grad_distances, pairs_shape(), "grad_distances");
        const Copy<Run> copy = checked_runs(runs);
        Array<Real> grad_frames(Shape{sequences_.n_frames(), problem_.sequences.n_features});
        const py::weakref reference = kept_in_place(grad_distances);
        without_gil([&, source = grad_distances.data(), target = grad_frames.mutable_data()] {
            backend().sequence_gradients(problem_, copy.data(), source, target);
        });
        return grad_frames;
    }

    Array<Real> barycenters(const Array<std::int32_t>& runs,
                            const Array<double>& sample_weights) const {
        check_shape(sample_weights, pairs_shape(), "sample_weights");
        const Copy<Run> copy = checked_runs(runs);
        Array<Real> means(centroids_shape());
        const py::weakref reference = kept_in_place(sample_weights);
        without_gil([&, source = sample_weights.data(), target = means.mutable_data()] {
            backend().barycenters(problem_, copy.data(), source, target);
        });
        return means;
    }

 private:
    static const Backend<Real>& backend() { return cpu_backend<Real>(); }

    static std::int64_t checked_rows(const Array<Real>& values) {
        check_that(values.ndim() == 2 && values.shape(1) >= 1,
                   "values must be 2-D (n_rows, n_features >= 1)");
        check_shape(values, {values.shape(0), values.shape(1)}, "values");
        check_size({values.shape(0), values.shape(1)}, "values");
        return values.shape(0);
    }

    static double bytes_of(const Sizes& sizes, bool with_runs) {
        const double n_pairs =
            static_cast<double>(sizes.n_sequences) * static_cast<double>(sizes.n_centroids);
        const double n_runs = with_runs ? static_cast<double>(sizes.n_timesteps) : 0.0;
        return backend().align_bytes(sizes, with_runs) +
               n_pairs * (sizeof(double) + n_runs * sizeof(Run));
    }

    // Shapes are those that were checked, whatever has become of the arrays' own.
    Sizes sizes() const {
        return {sequences_.size(),
                sequences_.n_frames(),
                sequences_.longest(),
                problem_.centroids.n_centroids,
                problem_.centroids.n_timesteps,
                problem_.centroids.n_features,
                problem_.n_threads};
    }
    Shape pairs_shape() const { return {sequences_.size(), problem_.centroids.n_centroids}; }
    Shape runs_shape() const {
        return {sequences_.size(), problem_.centroids.n_centroids, problem_.centroids.n_timesteps,
                2};
    }
    Shape centroids_shape() const {
        return {problem_.centroids.n_centroids, problem_.centroids.n_timesteps,
                problem_.centroids.n_features};
    }

    Copy<Run> checked_runs(const Array<std::int32_t>& runs) const {
        return skdejavid::checked_runs(runs, sequences_.lengths(), problem_.centroids.n_centroids,
                                       problem_.centroids.n_timesteps);
    }

    template <typename Work>
    Array<double> compute_pairs(const Work& work) const {
        Array<double> pairs(pairs_shape());
        without_gil([&, target = pairs.mutable_data()] { work(target); });
        return pairs;
    }

    Array<Real> values_;
    Array<Real> centroids_;
    Array<Real> weights_;
    py::weakref references_[3];
    Sequences sequences_;
    double memory_;
    Problem<Real> problem_{};
};

/// Performs one step of Adam. The arrays must not share memory.
template <typename Real>
void adam_step(Array<Real> parameters, const Array<Real>& gradients, Array<Real> first_moments,
               Array<Real> second_moments, const std::optional<Array<Real>>& scale,
               double learning_rate, std::int64_t n_steps, int n_threads) {
    check_that(parameters.ndim() == 3, "parameters must be 3-D");
    const Shape shape(parameters.shape(), parameters.shape() + 3);
    check_shape(parameters, shape, "parameters");
    check_shape(gradients, shape, "gradients");
    check_shape(first_moments, shape, "first_moments");
    check_shape(second_moments, shape, "second_moments");
    if (scale) check_shape(*scale, {shape[2]}, "scale");
    check_size({shape[0], shape[1], shape[2]}, "parameters");
    check_that(n_steps >= 1, "n_steps must be at least 1");
    check_that(n_threads >= 1, "n_threads must be at least 1");
    const py::weakref references[] = {kept_in_place(parameters), kept_in_place(gradients),
                                      kept_in_place(first_moments), kept_in_place(second_moments),
                                      kept_in_place(scale ? *scale : parameters)};
    const AdamStep<Real> step = {parameters.mutable_data(),
                                 gradients.data(),
                                 first_moments.mutable_data(),
                                 second_moments.mutable_data(),
                                 scale ? scale->data() : nullptr,
                                 shape[0] * shape[1],
                                 shape[2],
                                 !scale,
                                 learning_rate,
                                 n_steps,
                                 n_threads};
    without_gil([&] { cpu_backend<Real>().adam(step); });
}

/// Checks sequences and runs for backends that compute on copies of them.
void register_checks(py::module_& module) {
    const auto array = [](const char* argument) { return py::arg(argument).noconvert(); };
    module.def(
        "check_sequences",
        [](const Array<std::int64_t>& starts, const Array<std::int64_t>& lengths,
           std::int64_t n_rows) { Sequences(starts, lengths, n_rows); },
        array("starts"), array("lengths"), py::arg("n_rows"));
    module.def(
        "check_runs",
        [](const Array<std::int32_t>& runs, const Array<std::int64_t>& lengths,
           std::int64_t n_centroids, std::int64_t n_timesteps) {
            check_shape(lengths, {lengths.size()}, "lengths");
            checked_runs(runs, Copy<std::int64_t>(lengths), n_centroids, n_timesteps);
        },
        array("runs"), array("lengths"), py::arg("n_centroids"), py::arg("n_timesteps"));
}

template <typename Real>
void register_adam_step(py::module_& module) {
    const auto array = [](const char* argument) { return py::arg(argument).noconvert(); };
    module.def("adam_step", &adam_step<Real>, array("parameters"), array("gradients"),
               array("first_moments"), array("second_moments"), array("scale"),
               py::arg("learning_rate"), py::arg("n_steps"), py::arg("n_threads"));
}

template <typename Real>
void register_problem(py::module_& module, const char* name) {
    using P = PyProblem<Real>;
    const auto array = [](const char* argument) { return py::arg(argument).noconvert(); };
    py::class_<P>(module, name)
        .def(py::init<Array<Real>, const Array<std::int64_t>&, const Array<std::int64_t>&,
                      Array<Real>, Array<Real>, int, double>(),
             array("values"), array("starts"), array("lengths"), array("centroids"),
             array("weights"), py::arg("n_threads"),
             py::arg("memory") = std::numeric_limits<double>::infinity())
        .def_static("paths_bytes", &P::paths_bytes, py::kw_only(), py::arg("n_frames"),
                    py::arg("n_centroids"), py::arg("n_timesteps"), py::arg("n_features"),
                    py::arg("n_threads"))
        .def("distances", &P::distances, py::arg("diagonal"))
        .def("paths", &P::paths, py::arg("diagonal"))
        .def("distances_along", &P::distances_along, array("runs"))
        .def("parameter_gradients", &P::parameter_gradients, array("runs"), array("grad_distances"),
             py::arg("out").noconvert() = py::none())
        .def("sequence_gradients", &P::sequence_gradients, array("runs"), array("grad_distances"))
        .def("barycenters", &P::barycenters, array("runs"), array("sample_weights"));
}

}  // namespace
}  // namespace skdejavid

PYBIND11_MODULE(_core, module) {
    module.doc() = "Native core of skdejavid, called by skdejavid.backends.";
    skdejavid::register_problem<float>(module, "ProblemFloat32");
    skdejavid::register_problem<double>(module, "ProblemFloat64");
    skdejavid::set_interrupt_check(&skdejavid::check_signals);
    module.attr("cpu_instruction_set") = skdejavid::cpu_instruction_set();
    skdejavid::register_checks(module);
    skdejavid::register_adam_step<float>(module);
    skdejavid::register_adam_step<double>(module);
    skdejavid::register_cuda(module);
}
