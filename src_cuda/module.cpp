// The Python binding of the CPU backend. It views NumPy arrays without copies, rejects arguments
// that would lead out of bounds, and releases the GIL while the backend computes. module_cuda.cpp
// binds the CUDA backend; no other file uses pybind11.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "align.hpp"
#include "binding.hpp"

namespace py = pybind11;

namespace skdejavid {
namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

using Shape = std::vector<py::ssize_t>;

std::string text_of(const Shape& shape) {
    return py::str(py::tuple(py::cast(shape))).cast<std::string>();
}

template <typename T>
void check_shape(const Array<T>& array, const Shape& shape, const char* name) {
    const Shape actual(array.shape(), array.shape() + array.ndim());
    if (actual != shape) {
        check_that(false, name, " must have shape ", text_of(shape), ", got ", text_of(actual));
    }
    check_that(reinterpret_cast<std::uintptr_t>(array.data()) % alignof(T) == 0, name,
               " must be aligned to its item size; pass a copy");
}

/// Whether this thread runs Python's signal handlers, which only the main thread does. Other
/// threads need not acquire the GIL, and must not do so while the interpreter shuts down.
thread_local bool handles_signals = false;

bool is_main_thread() {
    const py::object main_thread = py::module_::import("threading").attr("main_thread")();
    return main_thread.attr("ident").cast<unsigned long>() == PyThread_get_thread_ident();
}

/// Runs Python's signal handlers. An exception that they raise, such as KeyboardInterrupt, ends the
/// native call.
void check_signals() {
    if (!handles_signals) return;
    const py::gil_scoped_acquire acquired;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

template <typename T>
std::vector<T> copy_of(const Array<T>& array) {
    return std::vector<T>(array.data(), array.data() + array.size());
}

/// A Problem with references to the floating-point arrays that it views. These are not copied, and
/// their values may change between calls. The starts and lengths of sequences are checked and
/// copied, so that later changes of the arrays cannot lead out of bounds.
template <typename Real>
class PyProblem {
 public:
    PyProblem(Array<Real> values, const Array<std::int64_t>& starts,
              const Array<std::int64_t>& lengths, Array<Real> centroids, Array<Real> weights,
              int n_threads)
        : values_(std::move(values)),
          centroids_(std::move(centroids)),
          weights_(std::move(weights)) {
        check_that(values_.ndim() == 2 && values_.shape(1) >= 1,
                   "values must be 2-D (n_rows, n_features >= 1)");
        check_that(starts.ndim() == 1, "starts must be 1-D (n_sequences,)");
        check_that(centroids_.ndim() == 3 && centroids_.shape(1) >= 1,
                   "centroids must be 3-D (n_centroids, n_timesteps >= 1, n_features)");
        check_that(n_threads >= 1, "n_threads must be at least 1");
        const py::ssize_t n_features = values_.shape(1);
        check_shape(values_, {values_.shape(0), n_features}, "values");
        check_shape(starts, {starts.size()}, "starts");
        check_shape(lengths, {starts.size()}, "lengths");
        check_shape(centroids_, {centroids_.shape(0), centroids_.shape(1), n_features},
                    "centroids");
        check_shape(weights_, {centroids_.shape(0), centroids_.shape(1), n_features}, "weights");
        starts_ = copy_of(starts);
        lengths_ = copy_of(lengths);
        check_sequences_inside_values();
        problem_ = {{values_.data(), starts_.data(), lengths_.data(), n_sequences(), n_features},
                    {centroids_.data(), weights_.data(), centroids_.shape(0), centroids_.shape(1),
                     n_features},
                    n_threads};
    }

    Array<double> distances(bool diagonal) const {
        return compute_pairs(
            [&](double* target) { backend().align(problem_, diagonal, target, nullptr); });
    }

    py::tuple paths(bool diagonal) const {
        Array<std::int32_t> runs(runs_shape());
        Run* target_runs = reinterpret_cast<Run*>(runs.mutable_data());
        Array<double> distances = compute_pairs(
            [&](double* target) { backend().align(problem_, diagonal, target, target_runs); });
        return py::make_tuple(distances, runs);
    }

    Array<double> distances_along(const Array<std::int32_t>& runs) const {
        const Run* source_runs = checked_runs(runs);
        return compute_pairs(
            [&](double* target) { backend().distances_along(problem_, source_runs, target); });
    }

    /// Writes to the two arrays of `out`, which must not share memory with any other array, or to
    /// new arrays.
    std::pair<Array<Real>, Array<Real>> parameter_gradients(
        const Array<std::int32_t>& runs, const Array<double>& grad_distances,
        const std::optional<std::pair<Array<Real>, Array<Real>>>& out) const {
        check_shape(grad_distances, pairs_shape(), "grad_distances");
        const Run* source_runs = checked_runs(runs);
        auto [grad_centroids, grad_weights] =
            out ? *out : std::pair(Array<Real>(centroids_shape()), Array<Real>(centroids_shape()));
        check_shape(grad_centroids, centroids_shape(), "out[0]");
        check_shape(grad_weights, centroids_shape(), "out[1]");
        without_gil([&, source = grad_distances.data(),
                     to_centroids = grad_centroids.mutable_data(),
                     to_weights = grad_weights.mutable_data()] {
            backend().parameter_gradients(problem_, source_runs, source, to_centroids, to_weights);
        });
        return {grad_centroids, grad_weights};
    }

    Array<Real> sequence_gradients(const Array<std::int32_t>& runs,
                                   const Array<double>& grad_distances) const {
        check_shape(grad_distances, pairs_shape(), "grad_distances");
        const Run* source_runs = checked_runs(runs);
        const std::int64_t n_frames =
            std::accumulate(lengths_.begin(), lengths_.end(), std::int64_t{0});
        Array<Real> grad_frames(Shape{n_frames, values_.shape(1)});
        without_gil([&, source = grad_distances.data(), target = grad_frames.mutable_data()] {
            backend().sequence_gradients(problem_, source_runs, source, target);
        });
        return grad_frames;
    }

    Array<Real> barycenters(const Array<std::int32_t>& runs,
                            const Array<double>& sample_weights) const {
        check_shape(sample_weights, pairs_shape(), "sample_weights");
        const Run* source_runs = checked_runs(runs);
        Array<Real> means(centroids_shape());
        without_gil([&, source = sample_weights.data(), target = means.mutable_data()] {
            backend().barycenters(problem_, source_runs, source, target);
        });
        return means;
    }

 private:
    static const Backend<Real>& backend() { return cpu_backend<Real>(); }

    py::ssize_t n_sequences() const { return static_cast<py::ssize_t>(starts_.size()); }
    Shape pairs_shape() const { return {n_sequences(), centroids_.shape(0)}; }
    Shape runs_shape() const {
        return {n_sequences(), centroids_.shape(0), centroids_.shape(1), 2};
    }
    Shape centroids_shape() const {
        return {centroids_.shape(0), centroids_.shape(1), centroids_.shape(2)};
    }

    void check_sequences_inside_values() const {
        const std::int64_t n_rows = values_.shape(0);
        for (std::size_t s = 0; s < starts_.size(); ++s) {
            check_that(starts_[s] >= 0 && lengths_[s] >= 1 && lengths_[s] <= n_rows &&
                           starts_[s] <= n_rows - lengths_[s],
                       "sequence ", s, " is not inside values: starts[", s, "] is ", starts_[s],
                       " and lengths[", s, "] is ", lengths_[s]);
            check_that(lengths_[s] <= std::numeric_limits<std::int32_t>::max(), "sequence ", s,
                       " has more than 2**31 - 1 frames; split it");
        }
    }

    const Run* checked_runs(const Array<std::int32_t>& runs) const {
        check_shape(runs, runs_shape(), "runs");
        const Run* first = reinterpret_cast<const Run*>(runs.data());
        const Run* run = first;
        const py::ssize_t per_sequence = centroids_.shape(0) * centroids_.shape(1);
        for (std::size_t s = 0; s < lengths_.size(); ++s) {
            for (py::ssize_t k = 0; k < per_sequence; ++k, ++run) {
                check_that(0 <= run->first && run->first <= run->last && run->last < lengths_[s],
                           "runs of sequence ", s, " must satisfy 0 <= first <= last < ",
                           lengths_[s]);
            }
        }
        return first;
    }

    template <typename Work>
    static void without_gil(const Work& work) {
        handles_signals = is_main_thread();
        const py::gil_scoped_release released;
        work();
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
    std::vector<std::int64_t> starts_;
    std::vector<std::int64_t> lengths_;
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
    check_that(n_steps >= 1, "n_steps must be at least 1");
    check_that(n_threads >= 1, "n_threads must be at least 1");
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
    handles_signals = is_main_thread();
    const py::gil_scoped_release released;
    cpu_backend<Real>().adam(step);
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
                      Array<Real>, Array<Real>, int>(),
             array("values"), array("starts"), array("lengths"), array("centroids"),
             array("weights"), py::arg("n_threads"))
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
    skdejavid::register_adam_step<float>(module);
    skdejavid::register_adam_step<double>(module);
    skdejavid::register_cuda(module);
}
