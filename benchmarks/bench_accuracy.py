"""Test accuracy of DejaVidClassifier on labeled ragged data sets, for any set of parameters.

    python benchmarks/bench_accuracy.py
    python benchmarks/bench_accuracy.py --set diagonal=False --set n_timesteps=8 --seeds 5
    python benchmarks/bench_accuracy.py --paper --set learning_rate=0.008
    python benchmarks/bench_accuracy.py --folder path/to/sets --folds 3

Choices are made with ``--folds``, which looks at the training parts only, and judged without.

Without a folder, the data sets that aeon bundles are used, and generated sequences in which only
the order of events tells the classes apart. A folder holds ``<name>.npz`` files with
``values_train``, ``offsets_train``, ``y_train`` and the same with ``_test``.
"""

import argparse
import ast
import json
import statistics
import time
from pathlib import Path

import numpy as np
from aeon import datasets
from sklearn.model_selection import StratifiedKFold, cross_val_score

import skdejavid
from skdejavid import DejaVidClassifier, TSEArray
from skdejavid.datasets import make_order_sequences

BUNDLED = {
    "BasicMotions": datasets.load_basic_motions,
    "GunPoint": datasets.load_gunpoint,
    "JapaneseVowels": datasets.load_japanese_vowels,
}


def bundled_sets():
    """Yield (name, X_train, y_train, X_test, y_test) of what everybody has."""
    for name, load in BUNDLED.items():
        (X_train, y_train), (X_test, y_test) = load("train"), load("test")
        yield name, TSEArray.from_aeon(X_train), y_train, TSEArray.from_aeon(X_test), y_test
    train, test = (make_order_sequences(n, random_state=i) for i, n in enumerate((90, 300)))
    yield "OrderOfEvents", *train, *test


def sets_in(folder):
    """Yield the same of the files in a folder."""
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as data:
            X_train, X_test = (
                TSEArray.from_packed(data[f"values_{part}"], data[f"offsets_{part}"])
                for part in ("train", "test")
            )
            yield path.stem, X_train, data["y_train"], X_test, data["y_test"]


def parse_setting(text):
    """A pair (name, value) from "name=value"."""
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def accuracy(model, X_train, y_train, X_test, y_test, n_folds):
    """Of the test part, or the mean over folds of the training part."""
    if not n_folds:
        return model.fit(X_train, y_train).score(X_test, y_test)
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
    return cross_val_score(model, X_train, y_train, cv=folds).mean()


def main():
    """Print one line per data set and write everything as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", dest="settings", action="append", default=[], type=parse_setting)
    parser.add_argument("--folds", type=int, default=0)
    parser.add_argument("--paper", action="store_true", help="start from the paper's parameters")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    make = DejaVidClassifier.paper if arguments.paper else DejaVidClassifier

    results = {}
    sets = sets_in(arguments.folder) if arguments.folder else bundled_sets()
    for name, X_train, y_train, X_test, y_test in sets:
        X_train, X_test = X_train.astype(np.float32), X_test.astype(np.float32)
        begin = time.perf_counter()
        accuracies = [
            accuracy(
                make(random_state=seed, **dict(arguments.settings)),
                *(X_train, y_train, X_test, y_test),
                arguments.folds,
            )
            for seed in range(arguments.seeds)
        ]
        seconds = (time.perf_counter() - begin) / arguments.seeds
        results[name] = accuracies
        listed = " ".join(f"{100 * accuracy:.1f}" for accuracy in accuracies)
        print(
            f"{name:28} {100 * statistics.mean(accuracies):6.2f}  ({listed})  {seconds:.1f} s each"
        )
    mean = statistics.mean(statistics.mean(accuracies) for accuracies in results.values())
    print(f"{'mean':28} {100 * mean:6.2f}")
    if arguments.json:
        record = {
            "version": skdejavid.__version__,
            "paper": arguments.paper,
            "folds": arguments.folds,
            "settings": dict(arguments.settings),
            "accuracies": results,
        }
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
