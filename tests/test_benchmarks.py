"""The benchmarks run as their README says; what they measure is no matter here."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

ROOT = Path(__file__).parents[1]


def run(script, *arguments):
    command = [sys.executable, f"benchmarks/{script}.py", *map(str, arguments)]
    return subprocess.check_output(command, cwd=ROOT, text=True)


def test_import_time_is_compared_with_scikit_learns():
    assert json.loads(run("bench_import", "--rounds", 1))["ratio"] > 0


def test_the_core_is_compared_with_the_peak_of_the_machine(tmp_path):
    target = tmp_path / "core.json"
    run("bench_core", "--case", "JapaneseVowels", "--rounds", 1, "--json", target)
    ratios = json.loads(target.read_text())["ratios"]["JapaneseVowels"]
    assert set(ratios) == {"distances", "paths", "along", "gradient", "two threads"}
    assert all(value > 0 for value in ratios.values())


def test_others_are_compared_with_the_core(tmp_path):
    target = tmp_path / "peers.json"
    run("bench_peers", "--sequences", 1, "--rounds", 1, "--json", target)
    ratios = json.loads(target.read_text())
    assert set(ratios) == {"torch expression", "aeon dtw_distance", "tslearn cdist_dtw"}
    assert all(value > 0 for value in ratios.values())


def test_exponents_of_all_sizes_are_fitted(tmp_path):
    target = tmp_path / "scaling.json"
    run("bench_scaling", "--rounds", 1, "--json", target)
    assert set(json.loads(target.read_text())) == {
        "n_sequences",
        "n_frames",
        "n_timesteps",
        "n_centroids",
        "n_features",
    }


def test_what_fit_costs_beside_native_work_is_measured(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    bench_fit = importlib.import_module("bench_fit")
    assert bench_fit.epoch_over_elements("batch", n_sequences=48, n_epochs=1) > 0
    parts = bench_fit.parts_of_a_fit(n_rounds=1)
    shares = ("barycenters", "native work of steps", "rest of steps", "everything else")
    assert all(0 < parts[share] < 1 for share in shares)
    assert bench_fit.peak_memory(n_sequences=401)["added by fit"] > 0


def test_one_table_shows_every_result(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    table_of = importlib.import_module("run").table_of
    for path in (ROOT / "benchmarks" / "results" / "core").glob("*.json"):
        record = json.loads(path.read_text())
        rows = dict(table_of(record))
        assert f"{record['ratios to the peak']['HMDB51']['paths']:.2f} of peak" in rows.values()
        assert len(rows) == 4 * 4 + 3 + 5 + 5


def test_accuracies_of_any_setting_are_written(tmp_path):
    target = tmp_path / "accuracy.json"
    options = ["--seeds", 1, "--set", "n_epochs=2", "--set", "n_timesteps=4", "--json", target]
    printed = run("bench_accuracy", *options)
    record = json.loads(target.read_text())
    assert record["settings"] == {"n_epochs": 2, "n_timesteps": 4}
    assert set(record["accuracies"]) >= {"GunPoint", "JapaneseVowels", "OrderOfEvents"}
    for name, (accuracy,) in record["accuracies"].items():
        assert f"{100 * accuracy:.2f}" in next(
            line for line in printed.splitlines() if line.startswith(name)
        )


def test_folds_never_look_at_the_test_part(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    accuracy = importlib.import_module("bench_accuracy").accuracy
    X, y = np.arange(12.0)[:, None], np.arange(12) > 5
    model = KNeighborsClassifier(1)
    assert accuracy(model, X, y, X, ~y, n_folds=0) == 0.0
    assert accuracy(model, X, y, None, None, n_folds=3) >= 0.9


def test_every_benchmark_is_in_the_readme():
    text = (ROOT / "benchmarks" / "README.md").read_text()
    scripts = [path.name for path in (ROOT / "benchmarks").glob("bench_*.py")]
    assert len(scripts) >= 6
    assert [name for name in scripts if f"`{name}`" not in text] == []


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "results").rglob("*.json")))
def test_results_are_readable(path):
    assert json.loads(path.read_text())
