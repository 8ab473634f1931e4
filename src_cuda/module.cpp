// The Python face of the native code: arrays become views, everything that could lead out of bounds
// is refused, and the work runs without the GIL. module_cuda.cpp is the rest of it, for devices; no
// other file knows pybind11.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
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

template <typename T>
void require_shape(const Array<T>& array, const Shape& shape, const char* name) {
    const bool same = Shape(array.shape(), array.shape() + array.ndim()) == shape;
    require(same, name, " has not the shape that the problem demands");
    require(reinterpret_cast<std::uintptr_t>(array.data()) % alignof(T) == 0, name,
            " is not aligned to its item size");
}

/// Python handles signals in its main thread only: others need not wait for the GIL in between, and
/// must not when the interpreter ends.
thread_local bool handles_signals = false;

bool is_main_thread() {
    const py::object main_thread = py::module_::import("threading").attr("main_thread")();
    return main_thread.attr("ident").cast<unsigned long>() == PyThread_get_thread_ident();
}

/// Runs the signal handlers of Python; what they raise, as Ctrl-C does, ends the native call.
void check_signals() {
    if (!handles_signals) return;
    const py::gil_scoped_acquire acquired;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

template <typename T>
std::vector<T> copy_of(const Array<T>& array) {
    return std::vector<T>(array.data(), array.data() + array.size());
}

/// A Problem that owns references to the floating arrays it views, so that they live as long; they
/// are not copied, and their values may change between calls. Where the sequences lie is checked
/// once and copied, so that nothing can lead out of bounds later.
template <typename Real>
class PyProblem {
 public:
    PyProblem(Array<Real> values, const Array<std::int64_t>& starts,
              const Array<std::int64_t>& lengths, Array<Real> centroids, Array<Real> weights,
              int n_threads)
        : values_(std::move(values)),
          centroids_(std::move(centroids)),
          weights_(std::move(weights)) {
        require(values_.ndim() == 2 && values_.shape(1) >= 1,
                "values must be 2-D (n_rows, n_features >= 1)");
        require(starts.ndim() == 1, "starts must be 1-D (n_sequences,)");
        require(centroids_.ndim() == 3 && centroids_.shape(1) >= 1,
                "centroids must be 3-D (n_centroids, n_timesteps >= 1, n_features)");
        require(n_threads >= 1, "n_threads must be at least 1");
        const py::ssize_t n_features = values_.shape(1);
        require_shape(values_, {values_.shape(0), n_features}, "values");
        require_shape(starts, {starts.size()}, "starts");
        require_shape(lengths, {starts.size()}, "lengths");
        require_shape(centroids_, {centroids_.shape(0), centroids_.shape(1), n_features},
                      "centroids");
        require_shape(weights_, {centroids_.shape(0), centroids_.shape(1), n_features}, "weights");
        starts_ = copy_of(starts);
        lengths_ = copy_of(lengths);
        require_sequences_inside_values();
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
        const Run* source_runs = checked(runs);
        return compute_pairs(
            [&](double* target) { backend().distances_along(problem_, source_runs, target); });
    }

    /// Into the two arrays of `out`, which must not share memory with any other, or into new ones.
    std::pair<Array<Real>, Array<Real>> parameter_gradients(
        const Array<std::int32_t>& runs, const Array<double>& grad_distances,
        const std::optional<std::pair<Array<Real>, Array<Real>>>& out) const {
        require_shape(grad_distances, pairs_shape(), "grad_distances");
        const Run* source_runs = checked(runs);
        auto [grad_centroids, grad_weights] =
            out ? *out : std::pair(Array<Real>(centroids_shape()), Array<Real>(centroids_shape()));
        require_shape(grad_centroids, centroids_shape(), "out[0]");
        require_shape(grad_weights, centroids_shape(), "out[1]");
        unlocked([&, source = grad_distances.data(), to_centroids = grad_centroids.mutable_data(),
                  to_weights = grad_weights.mutable_data()] {
            backend().parameter_gradients(problem_, source_runs, source, to_centroids, to_weights);
        });
        return {grad_centroids, grad_weights};
    }

    Array<Real> sequence_gradients(const Array<std::int32_t>& runs,
                                   const Array<double>& grad_distances) const {
        require_shape(grad_distances, pairs_shape(), "grad_distances");
        const Run* source_runs = checked(runs);
        const std::int64_t n_frames =
            std::accumulate(lengths_.begin(), lengths_.end(), std::int64_t{0});
        Array<Real> grad_frames(Shape{n_frames, values_.shape(1)});
        unlocked([&, source = grad_distances.data(), target = grad_frames.mutable_data()] {
            backend().sequence_gradients(problem_, source_runs, source, target);
        });
        return grad_frames;
    }

    Array<Real> barycenters(const Array<std::int32_t>& runs,
                            const Array<double>& sample_weights) const {
        require_shape(sample_weights, pairs_shape(), "sample_weights");
        const Run* source_runs = checked(runs);
        Array<Real> means(centroids_shape());
        unlocked([&, source = sample_weights.data(), target = means.mutable_data()] {
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

    void require_sequences_inside_values() const {
        const std::int64_t n_rows = values_.shape(0);
        for (std::size_t s = 0; s < starts_.size(); ++s) {
            require(starts_[s] >= 0 && lengths_[s] >= 1 && lengths_[s] <= n_rows &&
                        starts_[s] <= n_rows - lengths_[s],
                    "sequence ", s, " lies outside of values");
            require(lengths_[s] <= std::numeric_limits<std::int32_t>::max(), "sequence ", s,
                    " has more than 2**31 - 1 frames");
        }
    }

    const Run* checked(const Array<std::int32_t>& runs) const {
        require_shape(runs, runs_shape(), "runs");
        const Run* first = reinterpret_cast<const Run*>(runs.data());
        const Run* run = first;
        const py::ssize_t per_sequence = centroids_.shape(0) * centroids_.shape(1);
        for (std::size_t s = 0; s < lengths_.size(); ++s) {
            for (py::ssize_t k = 0; k < per_sequence; ++k, ++run) {
                require(0 <= run->first && run->first <= run->last && run->last < lengths_[s],
                        "runs of sequence ", s, " lie outside of it");
            }
        }
        return first;
    }

    template <typename Work>
    static void unlocked(const Work& work) {
        handles_signals = is_main_thread();
        const py::gil_scoped_release released;
        work();
    }

    template <typename Work>
    Array<double> compute_pairs(const Work& work) const {
        Array<double> pairs(pairs_shape());
        unlocked([&, target = pairs.mutable_data()] { work(target); });
        return pairs;
    }

    Array<Real> values_;
    Array<Real> centroids_;
    Array<Real> weights_;
    std::vector<std::int64_t> starts_;
    std::vector<std::int64_t> lengths_;
    Problem<Real> problem_{};
};

/// The arrays of a step must not share memory.
template <typename Real>
void adam_step(Array<Real> parameters, const Array<Real>& gradients, Array<Real> first_moments,
               Array<Real> second_moments, const std::optional<Array<Real>>& scale,
               double learning_rate, std::int64_t n_steps, int n_threads) {
    require(parameters.ndim() == 3, "parameters must be 3-D");
    const Shape shape(parameters.shape(), parameters.shape() + 3);
    require_shape(parameters, shape, "parameters");
    require_shape(gradients, shape, "gradients");
    require_shape(first_moments, shape, "first_moments");
    require_shape(second_moments, shape, "second_moments");
    if (scale) require_shape(*scale, {shape[2]}, "scale");
    require(n_steps >= 1, "n_steps must be at least 1");
    require(n_threads >= 1, "n_threads must be at least 1");
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
    module.doc() = "Native core of skdejavid; skdejavid.alignment is its only caller.";
    skdejavid::register_problem<float>(module, "ProblemFloat32");
    skdejavid::register_problem<double>(module, "ProblemFloat64");
    skdejavid::set_interrupt_check(&skdejavid::check_signals);
    module.attr("cpu_instruction_set") = skdejavid::cpu_instruction_set();
    skdejavid::register_adam_step<float>(module);
    skdejavid::register_adam_step<double>(module);
    skdejavid::register_cuda(module);
}
