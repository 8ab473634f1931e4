import os
import subprocess
import sys

import pytest

PRELUDE = """
import os, sys, threading
import torch
from skdejavid.compat.forks import survive_fork

def compute():
    return torch.relu(torch.ones(2_000_000)).sum().item()

def in_child(work, timeout=60):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    for _ in range(timeout * 50):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        threading.Event().wait(0.02)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return "hangs"
torch.set_num_threads(2)
"""


def run(program, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-P", "-c", PRELUDE + program]
    return subprocess.check_output(command, cwd=folder, env=environment, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.fault(133)
def test_torch_computes_after_a_fork(tmp_path):
    program = """
compute()
def work():
    with survive_fork():
        assert torch.get_num_threads() == 1
        assert compute() == 2_000_000
    assert torch.get_num_threads() == 2  # as found
print(in_child(work), in_child(compute, timeout=3))
"""
    assert run(program, tmp_path).split() == ["0", "hangs"]  # the latter is why it is needed


@pytest.mark.slow
@pytest.mark.fault(133)
def test_only_the_thread_that_was_forked_computes_alone(tmp_path):
    program = """
compute()
numbers = []
def other_thread():
    with survive_fork():
        numbers.append(torch.get_num_threads())
        assert compute() == 2_000_000
def work():
    thread = threading.Thread(target=other_thread)
    thread.start()
    thread.join()
    assert numbers == [2]
with survive_fork():
    assert torch.get_num_threads() == 2
print(in_child(work))
"""
    assert run(program, tmp_path).split() == ["0"]


@pytest.mark.slow
@pytest.mark.fault(133)
def test_an_error_of_cuda_after_a_fork_names_spawn(tmp_path):
    program = """
REFUSED = ("Cannot re-initialize CUDA in forked subprocess.", "CUDA error: initialization error")
def work():
    for text in REFUSED:
        try:
            with survive_fork():
                raise RuntimeError(text)
        except RuntimeError as error:
            assert "multiprocessing's 'spawn'" in str(error), error
    for text in ("CUDA out of memory", "on purpose"):
        try:
            with survive_fork():
                raise RuntimeError(text)
        except RuntimeError as error:
            assert str(error) == text
    assert torch.get_num_threads() == 2
print(in_child(work))
try:
    with survive_fork():
        raise RuntimeError(REFUSED[0])
except RuntimeError as error:
    print(str(error) == REFUSED[0])
"""
    assert run(program, tmp_path).split() == ["0", "True"]
