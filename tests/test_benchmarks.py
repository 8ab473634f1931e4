"""The benchmarks run as their README says; what they measure is no matter here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(script, *arguments):
    command = [sys.executable, f"benchmarks/{script}.py", *map(str, arguments)]
    return subprocess.check_output(command, cwd=ROOT, text=True)


def test_import_time_is_compared_with_scikit_learns():
    assert json.loads(run("bench_import", "--rounds", 1))["ratio"] > 0


def test_the_core_is_compared_with_the_peak_of_the_machine(tmp_path):
    target = tmp_path / "core.json"
    run("bench_core", "--case", "JapaneseVowels", "--rounds", 1, "--json", target)
    medians = json.loads(target.read_text())["medians"]["JapaneseVowels"]
    assert set(medians) == {"peak", "distances", "paths", "paths, 2 threads", "along", "gradient"}
    assert all(value > 0 for value in medians.values())


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


def test_every_benchmark_is_in_the_readme():
    text = (ROOT / "benchmarks" / "README.md").read_text()
    scripts = [path.name for path in (ROOT / "benchmarks").glob("bench_*.py")]
    assert len(scripts) >= 3
    assert [name for name in scripts if f"`{name}`" not in text] == []


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "results").rglob("*.json")))
def test_results_are_readable(path):
    assert json.loads(path.read_text())
