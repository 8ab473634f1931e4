"""The CUDA backend on the host: kernels compiled as plain C++, with the interface of `_core`.

The memory of the "device" is that of the host; devices and streams are ignored. cuda_emulation.hpp
lists what is emulated and which faults are detected.
"""

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "src_cuda"
FLAGS = [
    "-std=c++17",
    "-O2",
    "-ffp-contract=fast",
    "-U_FORTIFY_SOURCE",
    "-Wall",
    "-Wno-unknown-pragmas",
]

_PROBLEM = (
    ("values", ctypes.c_void_p),
    ("value_pitch", ctypes.c_int64),
    ("starts", ctypes.c_void_p),
    ("lengths", ctypes.c_void_p),
    ("offsets", ctypes.c_void_p),
    ("n_sequences", ctypes.c_int64),
    ("n_frames", ctypes.c_int64),
    ("longest", ctypes.c_int64),
    ("centroids", ctypes.c_void_p),
    ("weights", ctypes.c_void_p),
    ("parameter_pitch", ctypes.c_int64),
    ("n_centroids", ctypes.c_int64),
    ("n_timesteps", ctypes.c_int64),
    ("n_features", ctypes.c_int64),
)
_ADAM_STEP = (
    ("parameters", ctypes.c_void_p),
    ("gradients", ctypes.c_void_p),
    ("first_moments", ctypes.c_void_p),
    ("second_moments", ctypes.c_void_p),
    ("scale", ctypes.c_void_p),
    ("n_rows", ctypes.c_int64),
    ("pitch", ctypes.c_int64),
    ("n_features", ctypes.c_int64),
    ("learning_rate", ctypes.c_double),
    ("n_steps", ctypes.c_int64),
)


class _Problem(ctypes.Structure):
    _fields_ = _PROBLEM


class _AdamStep(ctypes.Structure):
    _fields_ = _ADAM_STEP


@functools.cache
def _library(sources):
    folder = Path(tempfile.mkdtemp(prefix="skdejavid-emulation-"))
    target = folder / "emulation.so"
    compiler = os.environ.get("CXX", "c++")
    flags = FLAGS + os.environ.get("SKDEJAVID_EMULATION_FLAGS", "").split()
    units = [HERE / "cuda_emulation.cpp", HERE / "entry.cpp"]
    include = ["-I", str(HERE), "-I", str(sources / "cuda")]
    objects = [folder / f"{unit.stem}.o" for unit in units]
    for unit, target_object in zip(units, objects, strict=True):
        command = [compiler, *flags, "-fPIC", *include, "-c", str(unit), "-o", str(target_object)]
        subprocess.run(command, check=True)
    subprocess.run([compiler, *flags, "-shared", *map(str, objects), "-o", str(target)], check=True)
    library = ctypes.CDLL(str(target))
    shutil.rmtree(folder)
    return library


def set_order(order):
    """Set the order in which threads and blocks run: 0 as numbered, 1 backwards, else random."""
    _library(SOURCES).set_order(ctypes.c_uint(order))


def _call(library, name, *arguments, result=ctypes.c_char_p):
    function = getattr(library, name)
    function.restype = result
    message = function(*arguments)
    if result is not ctypes.c_char_p:
        return message
    if message is not None:
        raise RuntimeError(message.decode())
    return None


class _ProblemOf:
    def __init__(self, library, name, *, device, stream, **fields):
        assert set(fields) == {field for field, _ in _PROBLEM}
        self._library, self._name = library, name
        self._problem = _Problem(**fields)

    def _run(self, function, *arguments, result=ctypes.c_char_p):
        values = [a if isinstance(a, bool) else ctypes.c_void_p(a) for a in arguments]
        problem = ctypes.byref(self._problem)
        name = f"{function}_{self._name}"
        return _call(self._library, name, problem, *values, result=result)

    def align_bytes(self, with_runs):
        return self._run("align_bytes", bool(with_runs), result=ctypes.c_size_t)

    def align(self, diagonal, distances, runs, workspace):
        self._run("align", bool(diagonal), distances, runs, workspace)

    def along_bytes(self):
        return self._run("along_bytes", result=ctypes.c_size_t)

    def distances_along(self, runs, distances, workspace):
        self._run("distances_along", runs, distances, workspace)

    def parameter_gradients(self, runs, grad_distances, adds, grad_centroids, grad_weights):
        arguments = runs, grad_distances, bool(adds), grad_centroids, grad_weights
        self._run("parameter_gradients", *arguments)

    def sequence_gradients(self, runs, grad_distances, grad_frames):
        self._run("sequence_gradients", runs, grad_distances, grad_frames)

    def barycenters(self, runs, sample_weights, means):
        self._run("barycenters", runs, sample_weights, means)


def _adam_step(library, name, *, device, stream, **fields):
    assert set(fields) == {field for field, _ in _ADAM_STEP}
    _call(library, f"adam_step_{name}", ctypes.byref(_AdamStep(**fields)))


@functools.cache
def emulated_core(sources=SOURCES):
    """Return the CUDA part of `_core`, compiled from a folder with the native code."""
    library = _library(sources)
    return SimpleNamespace(
        CudaProblemFloat32=functools.partial(_ProblemOf, library, "float32"),
        CudaProblemFloat16=functools.partial(_ProblemOf, library, "float16"),
        CudaProblemFloat64=functools.partial(_ProblemOf, library, "float64"),
        cuda_adam_step_float32=functools.partial(_adam_step, library, "float32"),
        cuda_adam_step_float64=functools.partial(_adam_step, library, "float64"),
        cuda_devices=lambda: ([("emulation", 9, 0, 2**30)], ""),
        cuda_unusable_reason=lambda device: "",
        cuda_device_count=lambda: 1,
        cuda_driver_version=lambda: 0,
        cuda_runtime_version=lambda: 0,
        cuda_architectures="emulation",
        built_with_cuda=True,
    )
