// Declarations shared by the files of the Python binding.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <initializer_list>
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

/// Raises ValueError unless the size in bytes of an array with this shape, and every product of
/// some of its dimensions, is far below 2**63. Arrays without items may have any other dimensions,
/// and no arithmetic with these may overflow.
inline void check_size(std::initializer_list<std::int64_t> shape, const char* name) {
    constexpr std::int64_t kMostBytes = std::int64_t{1} << 56;
    std::int64_t n_bytes = sizeof(double);
    for (const std::int64_t size : shape) {
        check_that(size >= 0, name, " must not have negative sizes, got ", size);
        if (size == 0) continue;
        check_that(!__builtin_mul_overflow(n_bytes, size, &n_bytes) && n_bytes <= kMostBytes, name,
                   " would have more than 2**56 bytes");
    }
}

/// Adds the CUDA backend to the module. In a build without CUDA the same names exist, and computing
/// raises RuntimeError.
void register_cuda(pybind11::module_& module);

}  // namespace skdejavid
