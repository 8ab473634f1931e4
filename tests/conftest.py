"""Settings that must be in place before scikit-learn is imported, and shared data."""

import os

os.environ["SCIPY_ARRAY_API"] = "1"  # else scikit-learn skips its array API check

import matplotlib
import numpy as np
import pytest
from hypothesis import settings

matplotlib.use("Agg")

# The same examples each time, so that a change and not chance makes a test fail. To look for new
# ones: make test PYTEST_ARGS=--hypothesis-profile=explore
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=1000, deadline=None)
settings.load_profile("reproducible")


@pytest.fixture
def rng():
    return np.random.default_rng(20251122)


@pytest.fixture
def ragged(rng):
    """Twelve sequences of 3 features and 1 to 12 frames, and three classes."""
    X = [rng.standard_normal((n_frames, 3)) for n_frames in range(1, 13)]
    y = np.arange(12) % 3
    return X, y


@pytest.fixture(scope="session")
def japanese_vowels():
    """JapaneseVowels: 270 training and 370 test sequences, 12 features, 9 classes."""
    from aeon.datasets import load_japanese_vowels

    from skdejavid import TSEArray

    X_train, y_train = load_japanese_vowels("train")
    X_test, y_test = load_japanese_vowels("test")
    return TSEArray.from_aeon(X_train), y_train, TSEArray.from_aeon(X_test), y_test


@pytest.fixture(scope="session")
def gun_point():
    """GunPoint as 3-D arrays (n, 150, 1): 50 training and 150 test sequences, 2 classes."""
    from aeon.datasets import load_gunpoint

    X_train, y_train = load_gunpoint("train")
    X_test, y_test = load_gunpoint("test")
    return X_train.transpose(0, 2, 1), y_train, X_test.transpose(0, 2, 1), y_test


def pytest_terminal_summary(terminalreporter):
    """How many of scikit-learn's own checks ran, and how they went."""
    results = {
        outcome: sum("test_scikit_learns_own_checks" in report.nodeid for report in reports)
        for outcome, reports in terminalreporter.stats.items()
        if outcome in ("passed", "failed", "skipped", "xfailed")
    }
    if any(results.values()):
        counts = ", ".join(f"{count} {outcome}" for outcome, count in results.items() if count)
        terminalreporter.write_line(f"scikit-learn's estimator checks: {counts}")
