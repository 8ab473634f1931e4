"""The baseline that averages over time."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdejavid import TSEStore
from skdejavid.datasets import make_order_sequences

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_baseline_is_logistic_regression_on_the_mean(tmp_path):
    X, y = make_order_sequences(60, random_state=0)
    store = TSEStore.create(tmp_path / "store", dtype="float32", fingerprint={})
    with store.write() as writer:
        for i, x in enumerate(X):
            writer.append(f"{i}.mp4", x)
        writer.commit()
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        rows = [[f"{i}.mp4", f"class-{y[i]}", "train" if i < 40 else "test"] for i in range(60)]
        csv.writer(file).writerows([["path", "label", "split"], *rows])

    script = [sys.executable, "benchmarks/bench_average.py", tmp_path / "store"]
    options = ["--labels", tmp_path / "labels.csv", "--train", "split=train", "--test"]
    printed = subprocess.check_output([*script, *options, "split=test"], cwd=ROOT, text=True)

    means = np.stack([x.mean(axis=0) for x in X])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000))
    expected = model.fit(means[:40], y[:40]).score(means[40:], y[40:])
    assert json.loads(printed) == {"sequences": 20, "top-1 accuracy": expected}
