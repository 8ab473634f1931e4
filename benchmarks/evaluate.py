"""Evaluate classifiers on labeled ragged data sets: accuracy, probabilities, ranks and times.

    python benchmarks/evaluate.py
    python benchmarks/evaluate.py --model DejaVid --model "DejaVid(n_timesteps=8)" --seeds 3
    python benchmarks/evaluate.py --folder path/to/sets --results results.jsonl --jobs 2
    python benchmarks/evaluate.py --folder path/to/sets --folds 3

Each fit is a line of the results file. Lines that exist are not computed again: an interrupted
evaluation resumes, and models can be added.

A line is identified by set, checksum of the data, model, seed and fold, not by the code: after a
change of code use a new file.

Use ``--folds``, which splits the training parts only, to select models, and evaluate the selected
ones without it. Each fit has one thread, and its seconds are CPU time. Before the measurement the
model is fitted to five sequences of each class, so that compiling and loading are not included.
"""

import argparse
import json
import os
import sys
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import NamedTuple

THREAD_COUNTS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Fit(NamedTuple):
    """One fit of one model: the key of a line of results."""

    set: str
    data: int  # fingerprint
    model: str
    seed: int
    fold: int | None
    n_folds: int


def evaluate(fit, folder):
    """Fit and score one model, and return its line of results."""
    import models
    import numpy as np
    import sets
    from scores import clipped_log_loss, expected_calibration_error
    from sklearn.metrics import accuracy_score, balanced_accuracy_score

    data = sets.load(fit.set, folder)
    if fit.fold is not None:
        data = data.fold(fit.fold, fit.n_folds)
    few = np.concatenate([np.flatnonzero(data.y_train == c)[:5] for c in np.unique(data.y_train)])
    record = fit._asdict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of peers are not part of the results
        warm = models.make(fit.model, fit.seed).fit(data.X_train[few], data.y_train[few])
        warm.predict(data.X_test[:2])
        begin = time.process_time()
        model = models.make(fit.model, fit.seed).fit(data.X_train, data.y_train)
        fitted = time.process_time()
        predicted = model.predict(data.X_test)
        done = time.process_time()
        probabilities = np.asarray(model.predict_proba(data.X_test), dtype=np.float64)
    if not np.isin(data.y_test, model.classes_).all():
        raise ValueError(f"{fit.set} has test classes that are not in the training part")
    labels = np.searchsorted(model.classes_, data.y_test)
    return record | {
        "accuracy": accuracy_score(data.y_test, predicted),
        "balanced accuracy": balanced_accuracy_score(data.y_test, predicted),
        "log-loss": clipped_log_loss(probabilities, labels),
        "log-loss, no floor": clipped_log_loss(probabilities, labels, floor=sys.float_info.epsilon),
        "calibration error": expected_calibration_error(probabilities, labels),
        "fit seconds": fitted - begin,
        "predict seconds": done - fitted,
    }


def read(path):
    """Return the lines of a results file by `Fit`; remove the last one if it is incomplete."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    if lines and not lines[-1].endswith("\n"):
        path.write_text("".join(lines[:-1]))
        lines.pop()
    records = [json.loads(line) for line in lines]
    return {Fit(*(record[name] for name in Fit._fields)): record for record in records}


def all_fits(arguments, sets):
    """Yield the requested fits; models without randomness have one seed."""
    import models
    from sets import fingerprint

    data = {name: fingerprint(name, arguments.folder) for name in sets}
    folds = range(arguments.folds) if arguments.folds else (None,)
    for name, model, seed, fold in product(sets, arguments.model, range(arguments.seeds), folds):
        if seed == 0 or models.parse(model)[0] not in models.ONE_SEED:
            yield Fit(name, data[name], model, seed, fold, arguments.folds)


def end_with_parent():
    """End this process when its parent ends for any reason."""

    def wait():
        connection.wait([parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def compute(fits, arguments):
    """Evaluate the fits that are not in the results file, which receives each result at once.

    Returns the results of all fits that succeeded.
    """
    done = read(arguments.results)
    missing = [fit for fit in fits if fit not in done]
    if missing:
        compute_missing(missing, arguments)
        done = read(arguments.results)
    return {fit: done[fit] for fit in fits if fit in done}


def compute_missing(fits, arguments):
    """Evaluate in parallel; print and skip the fits that fail."""
    for name in THREAD_COUNTS:
        os.environ[name] = "1"
    executor = ProcessPoolExecutor(
        arguments.jobs, mp_context=get_context("spawn"), initializer=end_with_parent
    )
    try:
        jobs = {executor.submit(evaluate, fit, arguments.folder): fit for fit in fits}
        with arguments.results.open("a") as file:
            for n_done, job in enumerate(as_completed(jobs), start=1):
                fit = jobs[job]
                if (error := job.exception()) is not None:
                    print(f"{fit}: {error!r}", file=sys.stderr)
                    continue
                record = job.result()
                file.write(json.dumps(record) + "\n")
                file.flush()
                print(
                    f"{n_done}/{len(jobs)} {fit.set} {fit.model} seed {fit.seed}: "
                    f"{100 * record['accuracy']:.1f} %, {record['fit seconds']:.1f} s",
                    file=sys.stderr,
                )
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def main():
    """Compute the missing results and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="folder of <name>.npz files, see sets.py")
    parser.add_argument("--set", action="append", help="names of sets; all by default")
    parser.add_argument(
        "--model",
        action="append",
        help="specification, see models.py; DejaVid and its peers by default",
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folds", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=Path, default=Path("evaluation.jsonl"))
    arguments = parser.parse_args()

    import models
    import sets
    from tables import print_tables

    arguments.model = arguments.model or ["DejaVid", *models.PEERS]
    names = arguments.set or sets.names(arguments.folder)
    fits = list(all_fits(arguments, names))
    records = compute(fits, arguments)
    print_tables(records, names, arguments.model)
    if len(records) < len(fits):
        sys.exit(f"{len(fits) - len(records)} of {len(fits)} fits failed")


if __name__ == "__main__":
    main()
