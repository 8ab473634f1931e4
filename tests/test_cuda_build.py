"""What the compiler makes of the CUDA kernels."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "src_cuda" / "cuda"
UNITS = sorted(path.name for path in SOURCES.glob("align_cuda_*.cu"))
NVCC = shutil.which("nvcc")
needs_nvcc = pytest.mark.skipif(NVCC is None, reason="no CUDA compiler")

# Threads of a block times registers must fit into the 65,536 registers that all cards have, so
# often as blocks have to run side by side.
BLOCKS = {
    "cost_kernel": (128, 3),
    "path_kernel": (128, 4),
    "value_kernel": (512, 1),
    "gradient_kernel": (512, 1),
    "barycenter_kernel": (256, 2),
    "frame_gradient_kernel": (256, 4),
    "sum_kernel": (128, 8),
    "adam_kernel": (256, 4),
}


def resources(unit, architecture, folder):
    """Registers, and bytes of stack and of spilled registers, of each kernel of a file."""
    command = [NVCC, "-std=c++17", f"-arch={architecture}", "-cubin", "-Xptxas", "-v"]
    command += ["-Werror", "all-warnings", "-o", str(folder / "kernels.cubin"), str(SOURCES / unit)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    report = {}
    for part in told.split("Compiling entry function")[1:]:
        name = re.search(r"\d+([a-z_]+_kernel)I", part)[1]
        frame = re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) .* loads", part
        )
        registers = re.search(r"Used (\d+) registers", part)[1]
        report[name] = int(registers), *map(int, frame.groups())
    return report


@needs_nvcc
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_no_kernel_spills_registers(unit, architecture, tmp_path):
    report = resources(unit, architecture, tmp_path)
    for name, (registers, *spilled) in report.items():
        print(f"{unit} {architecture} {name}: {registers} registers, stack and spills {spilled}")
        assert spilled == [0, 0, 0], name
        n_threads, n_blocks = BLOCKS[name]
        assert registers * n_threads * n_blocks <= 65536, name
    # Adam knows nothing of how sequences are stored.
    assert set(report) == set(BLOCKS) - ({"adam_kernel"} if "half" in unit else set())


def test_every_kernel_is_in_the_report():
    text = "".join(path.read_text() for path in SOURCES.glob("*_kernel.cuh"))
    kernels = re.findall(r"__global__[^;{]*?(\w+_kernel)\(", text)
    assert len(kernels) == len(BLOCKS)
    assert set(kernels) == set(BLOCKS)
