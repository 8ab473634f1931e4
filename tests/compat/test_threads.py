import os
import subprocess
import sys

import joblib
import pytest
import threadpoolctl

from skdejavid.compat.threads import count_threads


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
