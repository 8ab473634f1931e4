import subprocess
import sys

import pytest

from skdejavid.compat import memory
from skdejavid.compat.memory import memory_of_machine, return_free_memory


@pytest.fixture(autouse=True)
def ask_again():
    memory_of_machine.cache_clear()
    yield
    memory_of_machine.cache_clear()


@pytest.mark.fault(113)
def test_a_container_limits_the_memory(monkeypatch, tmp_path):
    machine = memory_of_machine()
    assert machine > 2**27
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_CONTAINER_LIMITS", (limit, tmp_path / "none"))
    limit.write_text("max\n")
    memory_of_machine.cache_clear()
    assert memory_of_machine() >= machine  # which a limit of this container may have lowered
    limit.write_text("1000000\n")
    memory_of_machine.cache_clear()
    assert memory_of_machine() == 1e6


@pytest.mark.fault(113)
def test_a_system_that_reports_no_memory_has_no_limit(monkeypatch):
    monkeypatch.setattr(memory, "_limits", lambda: iter(()))
    assert memory_of_machine() == float("inf")


@pytest.mark.fault(113)
@pytest.mark.skipif(sys.platform != "linux", reason="limits of address spaces are those of Linux")
def test_a_limit_of_the_address_space_limits_the_memory(tmp_path):
    program = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, -1))
from skdejavid.compat.memory import memory_of_machine
print(memory_of_machine() <= 3 * 2**30)
"""
    command = [sys.executable, "-P", "-c", program]
    assert subprocess.check_output(command, text=True, cwd=tmp_path).strip() == "True"


HEAP = """
import os
from pathlib import Path
from skdejavid.compat.memory import return_free_memory

def megabytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

blocks = [bytearray(100_000) for _ in range(2000)]
blocks[:-1] = []  # the last block keeps the heap from shrinking
before = megabytes()
return_free_memory()
print(before - megabytes())
"""


def test_free_memory_goes_back_to_the_system(tmp_path):
    printed = subprocess.check_output([sys.executable, "-P", "-c", HEAP], cwd=tmp_path, text=True)
    assert float(printed) > 150


def test_without_glibc_nothing_is_returned(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    memory._malloc_trim.cache_clear()
    try:
        assert return_free_memory() is None
    finally:
        memory._malloc_trim.cache_clear()
