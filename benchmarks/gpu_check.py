"""Run every check that needs a CUDA device: build, tests, sanitizers, agreement, speed.

python benchmarks/gpu_check.py
python benchmarks/gpu_check.py --only build,tests,agreement --vowels JapaneseVowels.npz
python benchmarks/gpu_check.py --only benchmarks --case HMDB51

Needs nvcc, CMake, pybind11, scikit-build-core, torch with CUDA, the package's other dependencies,
hypothesis and pytest, but no network. The package is built for the first CUDA device into a folder
of its own; nothing is installed. Each step is run and reported even if one before it failed, and
the results are written to `results/gpu/`.
"""

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "build" / "gpu"
RESULTS = ROOT / "benchmarks" / "results" / "gpu"
NEEDED = ("pybind11", "scikit_build_core", "torch", "numpy", "scipy", "sklearn", "safetensors",
          "filelock", "threadpoolctl", "tqdm", "hypothesis", "pytest")  # fmt: skip
TOOLS = ("memcheck", "racecheck", "initcheck")
ON_CARD = (
    *("test_cuda_kernels", "test_cuda_frames", "test_cuda_engine", "test_devices"),
    "test_transfers",
)

# Errors in torch's own kernels, and failed driver calls that torch handles, are not reported.
OWN_KERNELS = ("--kernel-name", "kns=skdejavid", "--report-api-errors", "no")

# Calls every kernel at odd sizes; short, because sanitizers make it a hundred times slower.
SANITIZED = """
import numpy as np
from skdejavid import DejaVidClassifier, dtw_distances
from skdejavid.backends import cuda_engine
from skdejavid.nn import TimeWeightedDTW
import torch
rng = np.random.default_rng(0)
for dtype, half in ((np.float32, False), (np.float32, True), (np.float64, False)):
    X = [rng.standard_normal((n, 21)).astype(dtype) for n in (1, 5, 33, 70, 300, 2, 9)]
    y = np.arange(7) % 3
    for refresh in ("batch", "epoch"):
        clf = DejaVidClassifier(9, differences=None, n_epochs=2, batch_size=3, device="cuda",
                                half_storage=half, path_refresh=refresh, random_state=0)
        clf.fit(X, y).predict_proba(X)
    clf.set_params(transform_timesteps=True).transform(X)
    dtw_distances(X, rng.standard_normal((2, 70, 21)).astype(dtype), device="cuda")
    for centroids in (clf.centroids_, rng.standard_normal((2, 40, 21)).astype(dtype)):
        matcher = TimeWeightedDTW(torch.from_numpy(centroids)).cuda()
        inputs = [torch.from_numpy(x).cuda().requires_grad_() for x in X]
        matcher(inputs).sum().backward()
cuda_engine._KEPT_FREE_BYTES = 2**62  # sequences stream from the host
clf.set_params(transform_timesteps=False).fit(X, y)
torch.cuda.synchronize()
print("done")
"""


class StepError(Exception):
    """A step failed; the message says why."""


def run(command, seconds, **environment):
    """Return the standard output of a command, or raise StepError if it fails or takes too long."""
    try:
        done = subprocess.run(
            list(map(str, command)), cwd=ROOT, text=True, capture_output=True, timeout=seconds,
            env=os.environ | environment,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise StepError(f"{command[0]} took longer than {seconds:.0f} s") from error
    if done.returncode != 0:
        printed = done.stdout + done.stderr
        raise StepError(f"{' '.join(map(str, command[:4]))} ...\n{printed[-6000:]}")
    return done.stdout


def python(*arguments, seconds):
    """Run Python on the package that the step build has built."""
    if not (TARGET / "skdejavid").is_dir():
        raise StepError(f"{TARGET} does not contain a build: run the step build first")
    return run([sys.executable, "-P", *arguments], seconds, PYTHONPATH=str(TARGET))


def missing():
    """Return the names of missing packages and tools."""
    found = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    return found + [tool for tool in ("nvcc", "cmake") if shutil.which(tool) is None]


def architecture():
    """Return the architecture of the first CUDA device in CMake's notation."""
    import torch

    if not torch.cuda.is_available():
        raise StepError(f"torch {torch.__version__} sees no CUDA device")
    major, minor = torch.cuda.get_device_capability(0)
    return f"{major}{minor}-real"


def build(arguments):
    """Build the package for the first CUDA device into a folder of its own."""
    lacking = missing()
    if lacking:
        raise StepError(f"not installed: {', '.join(lacking)}")
    shutil.rmtree(TARGET, ignore_errors=True)
    run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
            "--no-index", "--target", TARGET,
            "--config-settings=cmake.define.SKDEJAVID_CUDA=ON",
            f"--config-settings=cmake.define.SKDEJAVID_CUDA_ARCHITECTURES={architecture()}",
            f"--config-settings=build-dir={TARGET}-build", ".",
        ],
        arguments.seconds,
    )  # fmt: skip
    printed = python("-c", "import skdejavid; skdejavid.show_versions()", seconds=arguments.seconds)
    first = next((line for line in printed.splitlines() if "cuda:0:" in line), "")
    if not first.endswith(", usable"):
        raise StepError(printed)
    return printed.strip()


def tests(arguments):
    """Run all tests that need a CUDA device, and those of the CPU core of this build."""
    on_card = pytest_summary(arguments, "-m", "gpu", *map(file_of, ON_CARD))
    if "skipped" in on_card:
        raise StepError(f"tests of the CUDA device were skipped: {on_card}")
    return {"CUDA device": on_card, "CPU core": pytest_summary(arguments, file_of("test_core"))}


def file_of(name):
    """Return the path of a test module from the root of the repository."""
    (path,) = (ROOT / "tests").rglob(f"{name}.py")
    return path.relative_to(ROOT).as_posix()


def pytest_summary(arguments, *options):
    """Return the last line that pytest prints, or raise StepError if a test failed."""
    # Warnings are not errors here, because the machine may have other versions of packages.
    printed = python(
        "-m", "pytest", "-q", "-W", "default", "-p", "no:cacheprovider", *options,
        seconds=arguments.seconds,
    )  # fmt: skip
    return printed.strip().splitlines()[-1]


def sanitizer(arguments):
    """Look for memory errors, races in shared memory, and reads of uninitialized memory."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        raise StepError("compute-sanitizer, which is part of CUDA, is not installed")
    summaries_by_tool = {}
    for tool in TOOLS:
        # An access out of bounds that ends in memory of torch's cache would not be reported.
        printed = run(
            [program, "--tool", tool, "--error-exitcode", 9, *OWN_KERNELS, sys.executable, "-P",
             "-c", SANITIZED],
            arguments.seconds, PYTHONPATH=str(TARGET), PYTORCH_NO_CUDA_MEMORY_CACHING="1",
        )  # fmt: skip
        summaries = re.findall(r"=+ ((?:ERROR|RACECHECK) SUMMARY.*)", printed)
        if not summaries or "done" not in printed:
            raise StepError(f"{tool} did not finish:\n{printed[-6000:]}")
        summaries_by_tool[tool] = summaries[-1]
    return summaries_by_tool


AGREEMENT = """
import importlib.util, json, sys
import numpy as np
from skdejavid import DejaVidClassifier, TSEArray
from skdejavid.datasets import make_order_sequences
name = "JapaneseVowels"
if sys.argv[1]:
    data = np.load(sys.argv[1])
    parts = {k: (TSEArray.from_packed(data[f"values_{k}"].astype(np.float32), data[f"offsets_{k}"]),
                 data[f"y_{k}"]) for k in ("train", "test")}
elif importlib.util.find_spec("aeon"):
    from aeon.datasets import load_japanese_vowels
    loaded = {k: load_japanese_vowels(k) for k in ("train", "test")}
    parts = {k: (TSEArray.from_aeon(X), y) for k, (X, y) in loaded.items()}
else:
    name = "generated sequences, without --vowels and aeon"
    parts = {k: make_order_sequences(n, noise=1.0, random_state=n)
             for k, n in (("train", 300), ("test", 600))}
accuracies = {
    device: DejaVidClassifier(random_state=0, device=device).fit(*parts["train"])
    .score(*parts["test"]) for device in ("cpu", "cuda")
}
print(json.dumps({"data": name, **accuracies}))
"""


def agreement(arguments):
    """Check that fits on the CPU and on the CUDA device differ by at most 0.005 in accuracy."""
    vowels = arguments.vowels.resolve() if arguments.vowels else ""
    printed = python("-c", AGREEMENT, vowels, seconds=arguments.seconds)
    accuracies = json.loads(printed.strip().splitlines()[-1])
    if abs(accuracies["cpu"] - accuracies["cuda"]) > 0.005:
        raise StepError(json.dumps(accuracies))
    return accuracies


def benchmarks(arguments):
    """Run bench_gpu.py; if it fails, the error includes its results up to then."""
    script = ROOT / "benchmarks" / "bench_gpu.py"
    target = TARGET.with_name("bench_gpu.json")
    target.unlink(missing_ok=True)
    cases = [part for case in arguments.case for part in ("--case", case)]
    try:
        python(script, "--json", target, *cases, seconds=arguments.seconds)
    except StepError as failure:
        measured = target.read_text() if target.exists() else "no results"
        raise StepError(f"{failure}\n{measured}") from failure
    return json.loads(target.read_text())


STEPS = {step.__name__: step for step in (build, tests, sanitizer, agreement, benchmarks)}


def commit():
    """Return the commit of the sources, or "unknown" outside of a repository."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, text=True, capture_output=True
    )
    return done.stdout.strip() or "unknown"


def card():
    """Return the name of the first CUDA device in a form for file names; None without one."""
    try:
        import torch

        return re.sub(r"\W+", "-", torch.cuda.get_device_name(0)).lower()
    except (ImportError, RuntimeError, AssertionError):
        return None


def write(name, result, state):
    """Write one step's result to the file of this device, which has the results of all steps.

    Benchmark results of single data sets are merged if they belong to the same commit.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{card()}.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    before = record.get(name, {})
    is_mergeable = before.get("commit") == commit() and before["state"] == state == "passed"
    if is_mergeable and isinstance(result, dict):
        result = before["result"] | result
    record[name] = {"commit": commit(), "state": state, "result": result}
    path.write_text(json.dumps(record, indent=2) + "\n")
    return path


def parse(arguments):
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(STEPS), help="steps, separated by commas")
    parser.add_argument("--vowels", type=Path, help="JapaneseVowels as .npz with values_train, "
                        "offsets_train, y_train and the same with _test; else aeon's")  # fmt: skip
    parser.add_argument("--case", action="append", default=[],
                        help="only this data set of the benchmarks; can be repeated")  # fmt: skip
    parser.add_argument("--no-write", dest="write", action="store_false",
                        help="only print the results")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=3600.0, help="limit of each step")
    parsed = parser.parse_args(arguments)
    parsed.only = parsed.only.split(",")
    unknown = set(parsed.only) - set(STEPS)
    if unknown:
        parser.error(f"unknown steps: {', '.join(sorted(unknown))}; use {', '.join(STEPS)}")
    return parsed


def main(arguments=None):
    """Run the steps and return the number of those that failed.

    Without a CUDA device, results are printed but not written.
    """
    arguments = parse(arguments)
    n_failed = 0
    for name in arguments.only:
        print(f"== {name}", flush=True)
        begin = time.perf_counter()
        try:
            result, state = STEPS[name](arguments), "passed"
        except Exception as failure:
            expected = isinstance(failure, StepError)
            result = str(failure) if expected else traceback.format_exc()
            state = "FAILED"
            n_failed += 1
        print(result if isinstance(result, str) else json.dumps(result, indent=2))
        print(f"-- {name} {state} in {time.perf_counter() - begin:.0f} s", flush=True)
        if arguments.write and card() is not None:
            print(f"written: {write(name, result, state)}")
    return n_failed


if __name__ == "__main__":
    sys.exit(main())
