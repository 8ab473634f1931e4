// Declarations shared by the files of the Python binding.
#pragma once

#include <pybind11/pybind11.h>

#include <sstream>

namespace skdejavid {

/// Raises ValueError with the concatenation of `parts` unless a condition is true. The message is
/// built only on failure, because loops over all runs call this.
template <typename... Parts>
void check_that(bool condition, const Parts&... parts) {
    if (condition) return;
    std::ostringstream message;
    (message << ... << parts);
    throw pybind11::value_error(message.str());
}

/// Adds the CUDA backend to the module. In a build without CUDA the same names exist, and computing
/// raises RuntimeError.
void register_cuda(pybind11::module_& module);

}  // namespace skdejavid
