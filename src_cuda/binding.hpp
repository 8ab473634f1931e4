// What the files of the binding share.
#pragma once

#include <pybind11/pybind11.h>

#include <sstream>

namespace skdejavid {

/// Raises ValueError unless a condition holds. The message is put together only if it is needed:
/// this stands in loops over all runs.
template <typename... Parts>
void require(bool condition, const Parts&... parts) {
    if (condition) return;
    std::ostringstream message;
    (message << ... << parts);
    throw pybind11::value_error(message.str());
}

/// Adds what computes on CUDA devices; in a build without CUDA the same names, which say so.
void register_cuda(pybind11::module_& module);

}  // namespace skdejavid
