"""Registers and spills of the compiled CUDA kernels."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "src_cuda" / "cuda"
UNITS = sorted(path.name for path in SOURCES.glob("align_cuda_*.cu"))
NVCC = shutil.which("nvcc")
ARCHITECTURES = [75, 80, 86, 89, 90]  # compute capabilities
needs_nvcc = pytest.mark.skipif(NVCC is None, reason="no CUDA compiler")

# Threads per block, and number of blocks that must run concurrently on one multiprocessor: all of
# their threads' registers must fit into its 65,536.
BLOCKS = {
    "cost_kernel": (128, 3),
    "path_kernel": (128, 4),
    "value_kernel": (512, 1),
    "gradient_kernel": (512, 1),
    "barycenter_kernel": (256, 1),
    "frame_gradient_kernel": (256, 4),
    "sum_kernel": (128, 8),
    "adam_kernel": (256, 4),
}


def resources(unit, folder):
    """Return registers and bytes of stack and spills of each kernel for each architecture."""
    command = [NVCC, "-std=c++17", "-fatbin", "-Xptxas", "-v", "-Werror", "all-warnings"]
    command += [f"-gencode=arch=compute_{a},code=sm_{a}" for a in ARCHITECTURES]
    command += ["-o", str(folder / "kernels.fatbin"), str(SOURCES / unit)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    report = {}
    for part in output.split("Compiling entry function")[1:]:
        name = re.search(r"\d+([a-z_]+_kernel)I.*' for 'sm_(\d+)'", part)
        frame = re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) .* loads", part
        )
        registers = re.search(r"Used (\d+) registers", part)[1]
        report[name[1], int(name[2])] = int(registers), *map(int, frame.groups())
    return report


@needs_nvcc
@pytest.mark.parametrize("unit", UNITS)
def test_no_kernel_spills_registers(unit, tmp_path):
    report = resources(unit, tmp_path)
    for (name, architecture), (registers, *spilled) in report.items():
        print(f"{unit} sm_{architecture} {name}: {registers} registers, stack, spills {spilled}")
        assert spilled == [0, 0, 0], (name, architecture)
        n_threads, n_blocks = BLOCKS[name]
        assert registers * n_threads * n_blocks <= 65536, (name, architecture)
    # Adam does not depend on the dtype of sequences, and is compiled with float32.
    kernels = set(BLOCKS) - ({"adam_kernel"} if "half" in unit else set())
    assert set(report) == {(name, a) for name in kernels for a in ARCHITECTURES}


def test_the_report_is_of_all_architectures_that_are_built():
    cmake = (SOURCES.parents[1] / "CMakeLists.txt").read_text()
    built = re.search(r"set\(CMAKE_CUDA_ARCHITECTURES ([\d a-z-]+90)\)", cmake)[1]
    assert [int(name.removesuffix("-real")) for name in built.split()] == ARCHITECTURES


def test_every_kernel_is_in_the_report():
    text = "".join(path.read_text() for path in SOURCES.glob("*_kernel.cuh"))
    kernels = re.findall(r"__global__[^;{]*?(\w+_kernel)\(", text)
    assert len(kernels) == len(BLOCKS)
    assert set(kernels) == set(BLOCKS)
