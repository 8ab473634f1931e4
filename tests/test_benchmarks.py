"""The benchmarks run as their README says; the measured numbers are not checked."""

import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from skdejavid.datasets import make_order_videos, write_video

ROOT = Path(__file__).parents[1]
NO_H5PY = pytest.mark.filterwarnings("ignore:h5py not installed")  # of tslearn's import


def run(script, *arguments):
    command = [sys.executable, f"benchmarks/{script}.py", *map(str, arguments)]
    return subprocess.check_output(command, cwd=ROOT, text=True)


@pytest.mark.slow
def test_import_time_is_compared_with_scikit_learns():
    assert json.loads(run("bench_import", "--rounds", 1))["ratio"] > 0


@pytest.mark.slow
def test_the_core_is_compared_with_the_peak_of_the_machine(tmp_path):
    target = tmp_path / "core.json"
    run("bench_core", "--case", "JapaneseVowels", "--rounds", 1, "--json", target)
    ratios = json.loads(target.read_text())["ratios"]["JapaneseVowels"]
    assert set(ratios) == {"distances", "paths", "along", "gradient", "two threads"}
    assert all(value > 0 for value in ratios.values())


@pytest.mark.slow
def test_others_are_compared_with_the_core(tmp_path):
    target = tmp_path / "peers.json"
    run("bench_peers", "--sequences", 1, "--rounds", 1, "--json", target)
    ratios = json.loads(target.read_text())
    assert set(ratios) == {"torch expression", "aeon dtw_distance", "tslearn cdist_dtw"}
    assert all(value > 0 for value in ratios.values())


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_searches_over_a_container_are_compared(tmp_path):
    target = tmp_path / "search.json"
    run("bench_search", "--sequences", 60, "--json", target)
    assert json.loads(target.read_text())


@pytest.mark.slow
def test_extraction_is_compared_with_plain_decoding(tmp_path):
    videos, _ = make_order_videos(2, random_state=0)
    for i, frames in enumerate(videos):
        write_video(tmp_path / f"{i}.mp4", frames)
    options = ["--rounds", 1, "--minutes", 0.02, 0.03]
    printed = run("bench_extract", tmp_path, *options)
    for pattern in (r"(\S+) of plain decoding", r"overlap: (\S+) of the sum"):
        assert float(re.search(pattern, printed)[1]) > 0
    peaks = re.findall(r"minute\(s\): (\d+) MB", printed)
    assert len(peaks) == 4
    assert all(int(peak) > 50 for peak in peaks)


@pytest.mark.slow
def test_extraction_is_compared_with_the_encoder_alone():
    options = ["--device", "cpu", "--size", "tiny", "--videos", 2, "--frames", 20, "--rounds", 1]
    printed = run("bench_pipeline", *options)
    assert float(re.search(r"alone: (\S+) windows/s", printed)[1]) > 0
    assert float(re.search(r"ratio: (\S+) ", printed)[1]) > 0


@pytest.fixture
def benchmarks(monkeypatch):
    """Import a module of the benchmarks."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.mark.slow
def test_an_evaluation_goes_on_where_it_stopped(tmp_path):
    results = tmp_path / "results.jsonl"
    sets = ["--set", "OrderOfEvents", "--set", "BasicMotions"]
    quick = ["--model", "DejaVid(n_epochs=2, n_timesteps=4)", "--seeds", 2, *sets]
    quick += ["--jobs", 1, "--results", results]
    run("evaluate", *quick)
    first = results.read_text().splitlines()
    assert len(first) == 4
    results.write_text("\n".join(first[:3]) + "\n")
    printed = run("evaluate", *quick, "--model", "mean + logistic", "--model", "1-NN DTW")
    records = [json.loads(line) for line in results.read_text().splitlines()]
    assert [json.dumps(record) for record in records[:3]] == first[:3]
    assert len(records) == 4 + 2 + 2  # the last two are deterministic: one seed
    for record in records:
        assert 0 <= record["accuracy"] <= 1
        assert record["log-loss"] >= 0 < record["fit seconds"]
        assert 0 <= record["calibration error"] <= 1
    ours = [record["accuracy"] for record in records if record["model"].startswith("DejaVid")]
    assert f"| mean | {100 * np.mean(ours):.1f} |" in printed


@pytest.mark.slow
@NO_H5PY
@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")  # in QUANT
def test_every_model_learns(benchmarks):
    models, sets = benchmarks("models"), benchmarks("sets")
    X, y, *_ = sets.load("OrderOfEvents")
    blind_to_order = {"mean + logistic", "supersampling"}
    for name in models.MODELS:
        narrow = "(n_components=2)" if name == "DejaVid on components" else ""
        model = models.make(name + narrow, 0).fit(X, y)
        np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, rtol=1e-5)
        assert (model.predict(X) == y).mean() > (0.2 if name in blind_to_order else 0.6), name


def test_folds_are_parts_of_the_training_part(benchmarks):
    data = benchmarks("sets").load("OrderOfEvents")
    labels = {bytes(x): label for x, label in zip(data.X_train, data.y_train, strict=True)}
    assert len(labels) == len(data.X_train)
    tested = []
    for fold in (data.fold(number, 3) for number in range(3)):
        learned = {bytes(x): label for x, label in zip(fold.X_train, fold.y_train, strict=True)}
        judged = {bytes(x): label for x, label in zip(fold.X_test, fold.y_test, strict=True)}
        assert learned | judged == labels
        assert not learned.keys() & judged.keys()
        tested += judged
    assert sorted(tested) == sorted(labels)


@NO_H5PY
def test_specifications_are_names_with_parameters(benchmarks):
    parse = benchmarks("models").parse
    assert parse("8 steps + logistic") == ("8 steps + logistic", {})
    assert parse("DejaVid(differences=None, n_timesteps=8)") == (
        "DejaVid",
        {"differences": None, "n_timesteps": 8},
    )


@NO_H5PY
def test_the_papers_tables_compare_models_that_can_be_made(benchmarks):
    paper_tables, models = benchmarks("paper_tables"), benchmarks("models")
    listed = dict(paper_tables.tables())
    assert len(listed) == 5
    for rows in listed.values():
        assert len(rows) == len(set(rows)) >= 4
        for model in rows.values():
            models.make(model, 0)
    published = paper_tables.specification("published settings", {"diagonal": False})
    assert published == "paper on logits(learning_rate=0.008)"  # the default of paper()
    defaults = paper_tables.specification("defaults", {"diagonal": False})
    assert defaults == "DejaVid on logits(diagonal=False)"


@NO_H5PY
def test_the_definition_is_slower_than_the_native_core(benchmarks):
    data = benchmarks("sets").load("OrderOfEvents")
    plain, native = benchmarks("paper_tables").plain_against_native(data)
    assert plain > 10 * native > 0


def test_scores_of_probabilities_are_their_definitions(benchmarks):
    scores = benchmarks("scores")
    probabilities = np.array([[0.9, 0.1], [0.92, 0.08], [0.3, 0.7], [1.0, 0.0]])
    labels = np.array([0, 1, 1, 1])
    np.testing.assert_allclose(
        scores.clipped_log_loss(probabilities, labels),
        -np.mean(np.log([0.9, 0.08, 0.7, 0.001])),
    )
    # Bins of a fifteenth: {0.9, 0.92} are half right, {0.7} is right, {1.0} is wrong.
    expected = (abs(1 - 1.82) + abs(1 - 0.7) + abs(0 - 1.0)) / 4
    np.testing.assert_allclose(scores.expected_calibration_error(probabilities, labels), expected)


def test_ranks_and_comparisons_count_ties(benchmarks):
    tables = benchmarks("tables")
    accuracies = {("a", 1): 0.9, ("b", 1): 0.9, ("c", 1): 0.5}
    accuracies |= {("a", 2): 0.7, ("b", 2): 0.8, ("c", 2): 0.1}
    ranks = tables.average_ranks(accuracies, [1, 2], ["a", "b", "c"])
    assert ranks == {"a": 1.75, "b": 1.25, "c": 3.0}
    assert tables.compare(accuracies, [1, 2], "a", "b")[0] == "0/1/1"
    assert tables.compare(accuracies, [1, 2], "a", "a") == ("0/2/0", 1.0)


def test_a_model_without_all_sets_has_no_mean_and_no_rank(benchmarks, capsys):
    Fit = benchmarks("evaluate").Fit
    scores = dict.fromkeys(
        ("log-loss", "calibration error", "fit seconds", "predict seconds"), 0.25
    )
    records = {
        Fit(name, 0, model, seed, None, 0): {"accuracy": accuracy, **scores}
        for name, model, seed, accuracy in [
            ("easy", "one", 0, 0.9),
            ("easy", "one", 1, 0.7),
            ("hard", "one", 0, 0.5),
            ("easy", "other", 0, 1.0),
        ]
    }
    benchmarks("tables").print_tables(records, ["easy", "hard"], ["one", "other"])
    printed = capsys.readouterr().out
    assert "| easy | 80.0 | 100.0 |\n| hard | 50.0 | - |\n| mean | 65.0 | - |" in printed
    assert "one has 1 instead of 2 fits of hard." in printed
    assert "other has 0 instead of 1 fits of hard." in printed
    assert printed.rstrip().endswith("| one | 1.00 |  |  | 0.250 | 0.250 | 0.5 | 0.50 |")


def test_results_of_other_data_or_folds_are_not_taken(benchmarks, tmp_path):
    evaluate, sets = benchmarks("evaluate"), benchmarks("sets")
    np.savez(
        tmp_path / "GunPoint.npz",
        **{f"values_{part}": np.zeros((6, 1)) for part in ("train", "test")},
        **{f"offsets_{part}": np.arange(7) for part in ("train", "test")},
        **{f"y_{part}": np.arange(6) % 2 for part in ("train", "test")},
    )
    assert sets.fingerprint("GunPoint", tmp_path) != sets.fingerprint("GunPoint")
    fits = set()
    for folder, folds in ((None, 0), (tmp_path, 0), (None, 2), (None, 3)):
        arguments = SimpleNamespace(folder=folder, folds=folds, seeds=1, model=["DejaVid"])
        fits |= set(evaluate.all_fits(arguments, ["GunPoint"]))
    assert len(fits) == 1 + 1 + 2 + 3


def test_a_line_that_was_cut_off_is_computed_again(benchmarks, tmp_path):
    path = tmp_path / "results.jsonl"
    fit = {"set": "a", "data": 1, "model": "m", "seed": 0, "fold": None, "n_folds": 0}
    whole = json.dumps(fit | {"accuracy": 1.0}) + "\n"
    path.write_text(whole + whole[:20])
    read = benchmarks("evaluate").read
    assert len(read(path)) == 1
    assert path.read_text() == whole


def test_every_benchmark_is_in_the_readme():
    text = (ROOT / "benchmarks" / "README.md").read_text()
    scripts = [path.name for path in (ROOT / "benchmarks").glob("*.py")]
    assert len(scripts) >= 13
    assert [name for name in scripts if f"`{name}`" not in text] == []


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "results").rglob("*.json")))
def test_results_are_readable(path):
    assert json.loads(path.read_text())


@NO_H5PY
@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "benchmarks" / "results" / "accuracy").glob("*.jsonl")),
    ids=lambda path: path.stem,
)
def test_results_are_of_models_that_can_be_made(path, benchmarks):
    records = benchmarks("evaluate").read(path)
    assert len(records) >= 100
    for model in {fit.model for fit in records}:
        benchmarks("models").make(model, 0)


@pytest.fixture
def gpu_check(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("gpu_check")


def test_each_step_of_the_check_of_a_card_is_told_whatever_came_before(
    gpu_check, monkeypatch, capsys
):
    def fail(arguments):
        raise gpu_check.StepError("nvcc said no")

    monkeypatch.setitem(gpu_check.STEPS, "build", fail)
    monkeypatch.setitem(gpu_check.STEPS, "tests", lambda arguments: "7 passed")
    assert gpu_check.main(["--only", "build,tests", "--no-write"]) == 1
    printed = capsys.readouterr().out
    assert "nvcc said no\n-- build FAILED" in printed
    assert "7 passed\n-- tests passed" in printed
    assert gpu_check.main(["--only", "tests", "--no-write"]) == 0
    monkeypatch.setitem(gpu_check.STEPS, "agreement", lambda arguments: json.loads("no JSON"))
    assert gpu_check.main(["--only", "agreement,tests", "--no-write"]) == 1
    printed = capsys.readouterr().out
    assert "JSONDecodeError" in printed
    assert "7 passed\n-- tests passed" in printed


def test_steps_of_that_check_are_named(gpu_check, capsys):
    with pytest.raises(SystemExit):
        gpu_check.main(["--only", "build,fly"])
    assert "unknown steps: fly; use build, tests, sanitizer" in capsys.readouterr().err


def test_that_check_needs_all_dependencies_of_the_package(gpu_check):
    """The check installs the package without its dependencies."""
    names = {"scikit-learn": "sklearn"}
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    required = {re.match(r"[\w-]+", dependency).group() for dependency in dependencies}
    assert {names.get(name, name) for name in required} <= set(gpu_check.NEEDED)


def test_what_a_machine_lacks_for_that_check_is_listed(gpu_check, monkeypatch):
    monkeypatch.setattr(gpu_check, "NEEDED", ("numpy", "no_such_module"))
    monkeypatch.setenv("PATH", "")
    assert gpu_check.missing() == ["no_such_module", "nvcc", "cmake"]
    with pytest.raises(gpu_check.StepError, match="not installed: no_such_module, nvcc"):
        gpu_check.build(None)


def test_a_step_without_a_build_says_so(gpu_check, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_check, "TARGET", tmp_path)
    with pytest.raises(gpu_check.StepError, match="does not contain a build"):
        gpu_check.tests(SimpleNamespace(seconds=1))


def test_a_command_that_fails_or_takes_too_long_is_a_failed_step(gpu_check):
    with pytest.raises(gpu_check.StepError, match="no such thing"):
        gpu_check.run([sys.executable, "-c", "raise SystemExit('no such thing')"], 60)
    with pytest.raises(gpu_check.StepError, match="took longer than 0 s"):
        gpu_check.run([sys.executable, "-c", "import time; time.sleep(60)"], 0.2)


def test_warnings_are_no_part_of_what_a_command_prints(gpu_check):
    program = "import warnings; print('[1]'); warnings.warn('old')"
    assert gpu_check.run([sys.executable, "-c", program], 60) == "[1]\n"


def test_tests_of_a_card_that_are_skipped_are_a_failed_step(gpu_check, monkeypatch):
    printed = "7 passed in 1 s"
    monkeypatch.setattr(gpu_check, "python", lambda *arguments, seconds: printed)
    arguments = SimpleNamespace(seconds=1)
    assert gpu_check.tests(arguments) == {"CUDA device": printed, "CPU core": printed}
    printed = "7 passed, 1 skipped in 1 s"
    with pytest.raises(gpu_check.StepError, match="device were skipped: 7 passed, 1 skipped"):
        gpu_check.tests(arguments)


@pytest.mark.slow
def test_every_file_with_tests_of_a_card_is_run_there(gpu_check):
    command = [sys.executable, "-P", "-m", "pytest", "--collect-only", "-q", "-m", "gpu", "tests"]
    collected = gpu_check.run([*command, "-p", "no:cacheprovider"], 300)
    assert set(re.findall(r"(\w+)\.py::", collected)) == set(gpu_check.ON_CARD)
    for name in (*gpu_check.ON_CARD, "test_core"):
        assert (ROOT / gpu_check.file_of(name)).is_file()


def test_a_sanitizer_that_stops_early_is_a_failed_step(gpu_check, monkeypatch):
    printed = "done\n========= ERROR SUMMARY: 0 errors"
    monkeypatch.setattr(gpu_check.shutil, "which", lambda name: name)
    monkeypatch.setattr(gpu_check, "run", lambda *arguments, **environment: printed)
    arguments = SimpleNamespace(seconds=1)
    assert gpu_check.sanitizer(arguments)["memcheck"] == "ERROR SUMMARY: 0 errors"
    printed = "========= ERROR SUMMARY: 0 errors"
    with pytest.raises(gpu_check.StepError, match="memcheck did not finish"):
        gpu_check.sanitizer(arguments)


def test_results_of_a_card_are_written_under_its_name(gpu_check, monkeypatch, tmp_path, capsys):
    """Each step is written when it ends, because the next one may kill the process."""
    monkeypatch.setattr(gpu_check, "RESULTS", tmp_path)
    monkeypatch.setattr(gpu_check, "card", lambda: "nvidia-h100")
    monkeypatch.setitem(gpu_check.STEPS, "tests", lambda arguments: "7 passed")
    monkeypatch.setitem(gpu_check.STEPS, "agreement", lambda arguments: 1 / 0)
    assert gpu_check.main(["--only", "tests"]) == 0
    assert gpu_check.main(["--only", "agreement"]) == 1
    record = json.loads((tmp_path / "nvidia-h100.json").read_text())
    assert record["tests"]["result"] == "7 passed"
    assert record["agreement"]["state"] == "FAILED"
    assert "ZeroDivisionError: division by zero" in record["agreement"]["result"]
    assert record["tests"]["commit"]
    for case in ("HMDB51", "Kinetics-400"):
        monkeypatch.setitem(gpu_check.STEPS, "benchmarks", lambda arguments, case=case: {case: 1})
        assert gpu_check.main(["--only", "benchmarks"]) == 0
    record = json.loads((tmp_path / "nvidia-h100.json").read_text())
    assert record["benchmarks"]["result"] == {"HMDB51": 1, "Kinetics-400": 1}


def test_what_was_measured_before_a_failure_is_told(gpu_check, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_check, "TARGET", tmp_path / "gpu")

    def fail(script, flag, target, *arguments, seconds):
        target.write_text('{"crossover": 5}')
        raise gpu_check.StepError("time is over")

    monkeypatch.setattr(gpu_check, "python", fail)
    with pytest.raises(gpu_check.StepError, match=r'time is over\n{"crossover": 5}'):
        gpu_check.benchmarks(SimpleNamespace(seconds=1, case=["HMDB51"]))


@pytest.mark.slow
def test_the_programs_that_check_a_card_run(gpu_check, tmp_path):
    """They run on the CPU, instead of a CUDA device."""
    program = gpu_check.AGREEMENT.replace('"cuda"', '"cpu:again"').replace(
        "device=device", "device=device.partition(':')[0], n_epochs=1"
    )
    values, offsets = np.random.default_rng(0).standard_normal((60, 3)), np.arange(0, 61, 5)
    part = {"values": values, "offsets": offsets, "y": np.arange(12) % 2}
    vowels = {f"{name}_{k}": array for k in ("train", "test") for name, array in part.items()}
    np.savez(tmp_path / "vowels.npz", **vowels)
    without_aeon = program.replace('"aeon"', '"no_such_module"')
    for source, path, data in (
        (program, "", "JapaneseVowels"),
        (program, str(tmp_path / "vowels.npz"), "JapaneseVowels"),
        (without_aeon, "", "generated sequences, without --vowels and aeon"),
    ):
        printed = json.loads(gpu_check.run([sys.executable, "-P", "-c", source, path], 300))
        assert printed["data"] == data
        assert printed["cpu"] == printed["cpu:again"] > 0.3
    program = gpu_check.SANITIZED.replace('"cuda"', '"cpu"').replace(".cuda()", "")
    program = program.replace("torch.cuda.synchronize()", "")
    assert gpu_check.run([sys.executable, "-P", "-c", program], 300) == "done\n"


def test_the_speed_of_a_card_is_measured_of_what_training_uses(emulated_cuda, monkeypatch):
    """All measurements of one small data set, with emulated kernels and an invented clock."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    bench_gpu = importlib.import_module("bench_gpu")
    case = bench_gpu.Case(3, 5, 4, 20, 10, 1.0, 1.0)
    monkeypatch.setattr(bench_gpu, "BATCH_SIZE", 4)
    monkeypatch.setattr(bench_gpu, "N_TIMESTEPS", 2)
    monkeypatch.setattr(bench_gpu, "issue_limit", lambda: 1e12)

    def seconds_of(call):
        call()
        return 2.0

    monkeypatch.setattr(bench_gpu, "seconds_of", seconds_of)
    measured = bench_gpu.kernels(case, half_storage=True)
    assert set(measured) == {"paths", "along", "gradient", "adam"}
    n_differences = 4 * 3 * 2 * 4 * 5
    assert measured["paths"]["of issue limit"] == pytest.approx(2 * n_differences / 2e12)
    data = bench_gpu.generate(case, case.n_generated)
    measured = bench_gpu.epochs(case, data, half_storage=False)
    assert measured["sequences"] == "resident"
    assert measured["epoch, path_refresh='batch', seconds"] > 0
    emulated_cuda.free = 0
    measured = bench_gpu.epochs(case, data, half_storage=False)
    assert measured["sequences"] == "streamed from the host"
