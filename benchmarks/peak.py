"""The peak rate of weighted absolute differences, measured by a small native loop."""

import ctypes
import functools
import os
import subprocess
import tempfile
from pathlib import Path

from skdejavid import _core

FLAGS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma"],
}


@functools.cache
def library(instruction_set):
    """Compile the loop for an instruction set, and load it."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "peak.so"
        compiler = os.environ.get("CXX", "c++")
        options = ["-std=c++17", "-O3", "-ffp-contract=fast", "-shared", "-fPIC"]
        source = Path(__file__).with_name("peak.cpp")
        command = [compiler, *options, *FLAGS[instruction_set], "-o", target, source]
        subprocess.run(command, check=True)
        loaded = ctypes.CDLL(str(target))
    loaded.peak.restype = ctypes.c_double
    loaded.peak.argtypes = [ctypes.c_int64]
    return loaded


def measure_peak(n_rounds=400_000):
    """Return elements per second of one thread, with the instruction set that the core uses."""
    return library(_core.cpu_instruction_set).peak(n_rounds)
