import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import joblib
import pytest
import threadpoolctl
import torch

from skdejavid.compat.threads import count_threads, on_one_thread


def test_the_number_of_threads_is_that_of_n_jobs():
    n_cores = count_threads(None)
    assert 1 <= n_cores <= joblib.cpu_count()
    assert count_threads(-1) == n_cores
    assert count_threads(-2) == max(1, n_cores - 1)
    assert count_threads(5) == 5
    with pytest.raises(ValueError, match="n_jobs must not be 0"):
        count_threads(0)


def test_threads_follow_threadpoolctl():
    with threadpoolctl.threadpool_limits(1):
        assert count_threads(None) == 1
    with threadpoolctl.threadpool_limits(1, user_api="openmp"):
        assert count_threads(None) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"OMP_NUM_THREADS": "1"}, "1"),
        ({"OMP_NUM_THREADS": "5"}, "5"),
        ({"LOKY_MAX_CPU_COUNT": "1"}, "1"),
    ],
)
def test_threads_follow_the_environment(environment, expected, tmp_path):
    program = "from skdejavid.compat.threads import count_threads; print(count_threads(None))"
    inherited = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    printed = subprocess.check_output(
        [sys.executable, "-c", program], env=inherited | environment, cwd=tmp_path, text=True
    )
    assert printed.strip() == expected


@pytest.mark.slow
@pytest.mark.fault(52)
def test_a_worker_of_joblib_gets_its_share(monkeypatch):
    """Two workers have no more threads in all than the machine has cores."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    n_cpus = joblib.cpu_count()
    with joblib.parallel_config("loky", n_jobs=2):
        counts = joblib.Parallel()(joblib.delayed(count_threads)(n) for n in (None, -1))
    assert max(counts) <= max(1, n_cpus // 2)


@pytest.mark.parametrize("n_jobs", [2, 10**6])
def test_more_threads_than_the_machine_has_are_bounded(n_jobs):
    assert count_threads(n_jobs) == min(n_jobs, 1024)


def test_a_function_on_one_thread_leaves_the_numbers_of_threads_as_they_are():
    """Also of a thread that calls torch for the first time, and after an error."""
    before = torch.get_num_threads()
    torch.set_num_threads(5)

    def fail(error):
        raise error(torch.get_num_threads())

    def work(number):
        inside = on_one_thread(lambda given: (given, torch.get_num_threads()))(number)
        with pytest.raises(KeyError, match="1"):
            on_one_thread(fail)(KeyError)
        return *inside, torch.get_num_threads()

    try:
        assert work(0) == (0, 1, 5)
        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(work, range(20))) == [(i, 1, 5) for i in range(20)]
        assert torch.get_num_threads() == 5
    finally:
        torch.set_num_threads(before)
