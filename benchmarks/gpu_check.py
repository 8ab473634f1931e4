"""Everything that needs a CUDA card, in one command: build, tests, sanitizers, agreement, speed.

python benchmarks/gpu_check.py
python benchmarks/gpu_check.py --only build,tests,agreement --vowels JapaneseVowels.npz
python benchmarks/gpu_check.py --only benchmarks --case HMDB51

Works on a machine without network that has nvcc, CMake, pybind11, scikit-build-core, torch with
CUDA, NumPy, SciPy, scikit-learn, hypothesis and pytest. The package is built for the card at hand
into a folder of its own; nothing is installed. Each step is reported, whatever became of those
before it, and the results go to `results/gpu/`.
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
NEEDED = ("pybind11", "scikit_build_core", "torch", "numpy", "scipy", "sklearn", "hypothesis",
          "pytest")  # fmt: skip
TOOLS = ("memcheck", "racecheck", "initcheck")
ON_CARD = ("test_cuda_kernels", "test_cuda_frames", "test_cuda_engine", "test_devices")

# Torch's own kernels, and questions that it asks the driver in vain, are not judged here.
OWN_KERNELS = ("--kernel-name", "kns=skdejavid", "--report-api-errors", "no")

# The package shows progress with tqdm where it is asked to, which nothing here does.
STAND_IN_FOR_TQDM = '''"""Stands in for tqdm on a machine without it: shows nothing."""

class tqdm:
    def __init__(self, iterable=(), **options):
        self.iterable = iterable

    def __iter__(self):
        return iter(self.iterable)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def update(self, n=1):
        pass

    def set_postfix(self, **values):
        pass
'''

# Every entry point at odd sizes, short enough for a sanitizer that makes it a hundred times slower.
SANITIZED = """
import numpy as np
from skdejavid import DejaVidClassifier, cuda_engine, dtw_distances
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
    """A step did not do what it should; the message says what."""


def run(command, seconds, **environment):
    """What a command prints, without its warnings; its failure is that of the step."""
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
    """Runs Python on the build that was made here."""
    if not (TARGET / "skdejavid").is_dir():
        raise StepError(f"{TARGET} holds no build: run the step build first")
    return run([sys.executable, "-P", *arguments], seconds, PYTHONPATH=str(TARGET))


def missing():
    """What the machine lacks."""
    found = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    return found + [tool for tool in ("nvcc", "cmake") if shutil.which(tool) is None]


def architecture():
    """Of the card, as CMake writes it."""
    import torch

    if not torch.cuda.is_available():
        raise StepError(f"torch {torch.__version__} sees no CUDA device")
    major, minor = torch.cuda.get_device_capability(0)
    return f"{major}{minor}-real"


def build(arguments):
    """The package for this card, into a folder that Python is pointed to."""
    lacking = missing()
    if lacking:
        raise StepError(f"not on this machine: {', '.join(lacking)}")
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
    if importlib.util.find_spec("tqdm") is None:
        (TARGET / "tqdm.py").write_text(STAND_IN_FOR_TQDM)
    printed = python("-c", "import skdejavid; skdejavid.show_versions()", seconds=arguments.seconds)
    first = next((line for line in printed.splitlines() if "cuda:0:" in line), "")
    if not first.endswith(", usable"):
        raise StepError(printed)
    return printed.strip()


def tests(arguments):
    """All tests that need a card, and those of the CPU core of this build."""
    on_card = pytest_summary(arguments, "-m", "gpu", *map(file_of, ON_CARD))
    if "skipped" in on_card:
        raise StepError(f"the card was not used: {on_card}")
    return {"card": on_card, "core": pytest_summary(arguments, file_of("test_core"))}


def file_of(name):
    return f"tests/{name}.py"


def pytest_summary(arguments, *options):
    """The last line of pytest, if nothing failed."""
    # What other versions of other packages warn of is no fault of the card.
    printed = python(
        "-m", "pytest", "-q", "-W", "default", "-p", "no:cacheprovider", *options,
        seconds=arguments.seconds,
    )  # fmt: skip
    return printed.strip().splitlines()[-1]


def sanitizer(arguments):
    """Memory errors, races in shared memory, and memory that is read before it is written."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        raise StepError("compute-sanitizer is not on this machine (it comes with CUDA)")
    told = {}
    for tool in TOOLS:
        # Torch keeps memory for later, in which an access out of bounds would not be seen.
        printed = run(
            [program, "--tool", tool, "--error-exitcode", 9, *OWN_KERNELS, sys.executable, "-P",
             "-c", SANITIZED],
            arguments.seconds, PYTHONPATH=str(TARGET), PYTORCH_NO_CUDA_MEMORY_CACHING="1",
        )  # fmt: skip
        summaries = re.findall(r"=+ ((?:ERROR|RACECHECK) SUMMARY.*)", printed)
        if not summaries or "done" not in printed:
            raise StepError(f"{tool} did not come to its end:\n{printed[-6000:]}")
        told[tool] = summaries[-1]
    return told


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
    name = "generated sequences: there is neither --vowels nor aeon"
    parts = {k: make_order_sequences(n, noise=1.0, random_state=n)
             for k, n in (("train", 300), ("test", 600))}
accuracies = {
    device: DejaVidClassifier(random_state=0, device=device).fit(*parts["train"])
    .score(*parts["test"]) for device in ("cpu", "cuda")
}
print(json.dumps({"data": name, **accuracies}))
"""


def agreement(arguments):
    """A whole fit on both devices must be as accurate within half a point."""
    vowels = arguments.vowels.resolve() if arguments.vowels else ""
    printed = python("-c", AGREEMENT, vowels, seconds=arguments.seconds)
    told = json.loads(printed.strip().splitlines()[-1])
    if abs(told["cpu"] - told["cuda"]) > 0.005:
        raise StepError(json.dumps(told))
    return told


def benchmarks(arguments):
    """What bench_gpu.py measures; what it had measured before it failed is kept."""
    script = ROOT / "benchmarks" / "bench_gpu.py"
    target = TARGET.with_name("bench_gpu.json")
    target.unlink(missing_ok=True)
    cases = [part for case in arguments.case for part in ("--case", case)]
    try:
        python(script, "--json", target, *cases, seconds=arguments.seconds)
    except StepError as failure:
        measured = target.read_text() if target.exists() else "nothing was measured"
        raise StepError(f"{failure}\n{measured}") from failure
    return json.loads(target.read_text())


STEPS = {step.__name__: step for step in (build, tests, sanitizer, agreement, benchmarks)}


def commit():
    """Of the sources, if they are in a repository."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, text=True, capture_output=True
    )
    return done.stdout.strip() or "unknown"


def card():
    """Its name, as that of a file; none if there is no card."""
    try:
        import torch

        return re.sub(r"\W+", "-", torch.cuda.get_device_name(0)).lower()
    except (ImportError, RuntimeError, AssertionError):
        return None


def write(name, result, state):
    """One step's result, into the file of this card, beside those of other steps.

    Single data sets of the benchmarks add up, as long as the sources are the same.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{card()}.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    before = record.get(name, {})
    adds_up = before.get("commit") == commit() and before["state"] == state == "passed"
    if adds_up and isinstance(result, dict):
        result = before["result"] | result
    record[name] = {"commit": commit(), "state": state, "result": result}
    path.write_text(json.dumps(record, indent=2) + "\n")
    return path


def parse(arguments):
    """The command line."""
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
        parser.error(f"unknown steps: {', '.join(sorted(unknown))}; there are {', '.join(STEPS)}")
    return parsed


def main(arguments=None):
    """Run the steps; the number of those that failed is the exit status.

    What was done without a card is printed, and not written down.
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
