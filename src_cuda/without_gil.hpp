// Computing without the GIL, and the signals that arrive meanwhile.
#pragma once

#include <pybind11/pybind11.h>

namespace skdejavid {

namespace py = pybind11;

/// Whether this thread runs Python's signal handlers, which only the main thread does. Other
/// threads need not acquire the GIL, and must not do so while the interpreter shuts down.
inline thread_local bool handles_signals = false;

inline bool is_main_thread() {
    const py::object main_thread = py::module_::import("threading").attr("main_thread")();
    return main_thread.attr("ident").cast<unsigned long>() == PyThread_get_thread_ident();
}

/// Runs Python's signal handlers. An exception that they raise, such as KeyboardInterrupt, ends the
/// native call.
inline void check_signals() {
    if (!handles_signals) return;
    const py::gil_scoped_acquire acquired;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

/// Calls `work` while other threads of Python run.
template <typename Work>
void without_gil(const Work& work) {
    handles_signals = is_main_thread();
    const py::gil_scoped_release released;
    work();
}

}  // namespace skdejavid
