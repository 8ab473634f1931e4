// Memory that could not be allocated. Compiled for no special instruction set, so that code of all
// instruction sets may call it.
#pragma once

namespace skdejavid {

/// Throws a std::bad_alloc that says that `n_bytes` bytes could not be allocated. pybind11 converts
/// it to MemoryError.
[[noreturn]] void throw_out_of_memory(double n_bytes);

/// Writes a number of bytes in a unit that suits it, such as "1.5 GB".
void write_bytes(double n_bytes, char (&text)[32]);

}  // namespace skdejavid
