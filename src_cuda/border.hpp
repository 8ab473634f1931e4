// Arrays at the border of the Python module: checks of what would lead out of bounds, and copies of
// whatever decides where memory is read or written.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <sstream>
#include <string>
#include <vector>

#include "align.hpp"
#include "binding.hpp"
#include "out_of_memory.hpp"

namespace skdejavid {

namespace py = pybind11;

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

using Shape = std::vector<py::ssize_t>;

inline std::string text_of(const Shape& shape) {
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

/// Prevents that NumPy moves the memory of an array while native code uses it: no array to which
/// there is a weak reference can be resized in place.
template <typename T>
py::weakref kept_in_place(const Array<T>& array) {
    return py::weakref(py::handle(array), py::handle());
}

/// A copy of an array that native code uses as indices. Other threads may change the array during a
/// call, so that only a copy stays as it was checked. The caller holds the GIL.
template <typename T>
class Copy {
 public:
    template <typename Item>
    explicit Copy(const Array<Item>& array)
        : size_(static_cast<std::size_t>(array.nbytes()) / sizeof(T)) {
        static_assert(sizeof(T) % sizeof(Item) == 0);
        items_.reset(new (std::nothrow) T[size_]);
        if (!items_) throw_out_of_memory(static_cast<double>(array.nbytes()));
        std::copy_n(reinterpret_cast<const T*>(array.data()), size_, items_.get());
    }

    const T* data() const { return items_.get(); }
    std::int64_t size() const { return static_cast<std::int64_t>(size_); }
    T operator[](std::int64_t k) const { return items_[k]; }

 private:
    std::size_t size_;
    std::unique_ptr<T[]> items_;
};

/// Where sequences lie among the rows of an array: checked copies.
class Sequences {
 public:
    Sequences(const Array<std::int64_t>& starts, const Array<std::int64_t>& lengths,
              std::int64_t n_rows)
        : starts_(checked(starts, starts, "starts")),
          lengths_(checked(lengths, starts, "lengths")) {
        for (std::int64_t s = 0; s < size(); ++s) {
            check_that(starts_[s] >= 0 && lengths_[s] >= 1 && lengths_[s] <= n_rows &&
                           starts_[s] <= n_rows - lengths_[s],
                       "sequence ", s, " is not inside values: starts[", s, "] is ", starts_[s],
                       " and lengths[", s, "] is ", lengths_[s]);
            check_that(lengths_[s] <= kMost, "sequence ", s,
                       " has more than 2**31 - 1 frames; split it");
            check_that(!__builtin_add_overflow(n_frames_, lengths_[s], &n_frames_),
                       "the sequences have more than 2**63 - 1 frames together");
            longest_ = std::max(longest_, lengths_[s]);
        }
    }

    const std::int64_t* starts() const { return starts_.data(); }
    const Copy<std::int64_t>& lengths() const { return lengths_; }
    std::int64_t size() const { return starts_.size(); }
    std::int64_t n_frames() const { return n_frames_; }
    std::int64_t longest() const { return longest_; }

 private:
    static constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();

    static const Array<std::int64_t>& checked(const Array<std::int64_t>& array,
                                              const Array<std::int64_t>& starts, const char* name) {
        check_that(starts.ndim() == 1, "starts must be 1-D (n_sequences,)");
        check_that(starts.size() <= kMost, "there are more than 2**31 - 1 sequences; split them");
        check_shape(array, {starts.size()}, name);
        return array;
    }

    Copy<std::int64_t> starts_;
    Copy<std::int64_t> lengths_;
    std::int64_t n_frames_ = 0;
    std::int64_t longest_ = 0;
};

/// Returns a copy of runs, each of which is inside its sequence.
inline Copy<Run> checked_runs(const Array<std::int32_t>& runs, const Copy<std::int64_t>& lengths,
                              std::int64_t n_centroids, std::int64_t n_timesteps) {
    check_shape(runs, {lengths.size(), n_centroids, n_timesteps, 2}, "runs");
    Copy<Run> copy(runs);
    const Run* run = copy.data();
    for (std::int64_t s = 0; s < lengths.size(); ++s) {
        const std::int64_t length = lengths[s];
        for (std::int64_t k = 0; k < n_centroids * n_timesteps; ++k, ++run) {
            check_that(0 <= run->first && run->first <= run->last && run->last < length,
                       "runs of sequence ", s, " must satisfy 0 <= first <= last < ", length);
        }
    }
    return copy;
}

/// Raises MemoryError unless an alignment, with its results, fits into the memory of the machine.
inline void check_memory(double n_bytes, double memory, const Sizes& sizes, const char* what) {
    if (n_bytes <= memory) return;
    char needed[32], available[32];
    write_bytes(n_bytes, needed);
    write_bytes(memory, available);
    std::ostringstream message;
    message << what << " between " << sizes.n_sequences << " sequence(s) of up to " << sizes.longest
            << " frames and " << sizes.n_centroids << " centroid(s) of " << sizes.n_timesteps
            << " time steps need " << needed << " of memory in " << sizes.n_threads
            << " thread(s), but this machine has " << available
            << ": pass fewer or shorter sequences or centroids at a time, or use fewer threads "
               "(n_jobs)";
    PyErr_SetString(PyExc_MemoryError, message.str().c_str());
    throw py::error_already_set();
}

}  // namespace skdejavid
