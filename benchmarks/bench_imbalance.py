"""Measure the balanced accuracy of classifiers that learned some classes from few sequences.

    python benchmarks/bench_imbalance.py
    python benchmarks/bench_imbalance.py --folder path/to/sets --set RacketSports --seeds 3

The generated sets are those of `make_event_sequences`, with balanced test parts of 1000 sequences.
Of a set in a folder only the training part is used: a third of it is tested, and in the rest every
second class, in a random order that depends on the seed, keeps a tenth of its sequences, at least
two.

"margins n^p" stands for ``class_weight="balanced"`` where a class that is n times as rare as the
most frequent one has a margin of n to the power of p. The library has p = 0.6; with p = 0, classes
only have weights. "statistics" is a logistic regression of mean, standard deviation, maximum and
minimum over time with balanced classes.

Each result is a line of the results file, and lines that exist are not computed again. The tables
show means and standard errors over the seeds; the second one is of differences at the same seeds.
"""

import argparse
import json
import warnings
from itertools import product
from pathlib import Path
from unittest import mock

import numpy as np
import sets
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from tables import rows_of

from skdejavid import DejaVidClassifier
from skdejavid.datasets import make_event_sequences
from skdejavid.training import targets

RESULTS = Path(__file__).parent / "results" / "imbalance.jsonl"
RARE = 10  # in sets of a folder, one sequence of so many is left of the rare classes
N_TEST = 1000

GENERATED = {
    "1000:20": {"weights": [1000, 20]},
    "1000:50": {"weights": [1000, 50]},
    "500:10": {"weights": [500, 10]},
    "800:100:20": {"weights": [800, 100, 20]},
    "1000:20, noise 1": {"weights": [1000, 20], "noise": 1.0},
    "1000:20, longer": {"weights": [1000, 20], "n_features": 12, "lengths": (80, 160)},
}


def generate(name, seed):
    """Return training and test part of a generated set."""
    settings = dict(GENERATED[name])
    weights = settings.pop("weights")
    settings["n_classes"] = len(weights)
    train = make_event_sequences(sum(weights), weights=weights, random_state=seed, **settings)
    return (*train, *make_event_sequences(N_TEST, random_state=10_000 + seed, **settings))


def cut(name, folder, seed):
    """Return a part of the training part of a set with rare classes, and a part to test."""
    data = sets.load(name, folder).fold(seed % 3, 3)
    rng = np.random.RandomState(seed)
    classes = np.unique(data.y_train)
    rare = rng.permutation(classes)[: len(classes) // 2]
    kept = []
    for label in classes:
        members = rng.permutation(np.flatnonzero(data.y_train == label))
        kept.append(members[: max(2, len(members) // RARE)] if label in rare else members)
    kept = np.sort(np.concatenate(kept))
    return data.X_train[kept], data.y_train[kept], data.X_test, data.y_test


def statistics(X):
    """Return mean, standard deviation, maximum and minimum of each feature."""
    return np.stack([np.r_[x.mean(0), x.std(0), x.max(0), x.min(0)] for x in X])


def with_power(power):
    """Replace the margins of the library by those with another power."""
    return mock.patch.object(targets, "MARGIN_POWER", power)


def margins(power, **parameters):
    """Return a function that fits the classifier with margins of a power."""

    def fit(X, y, seed):
        with with_power(power):
            clf = DejaVidClassifier(
                class_weight="balanced", n_jobs=1, random_state=seed, **parameters
            )
            return clf.fit(X, y)

    return fit


def fit_default(X, y, seed):
    """Fit the classifier without weights of classes."""
    return DejaVidClassifier(n_jobs=1, random_state=seed).fit(X, y)


def fit_statistics(X, y, seed):
    """Fit the baseline without order."""
    return make_pipeline(
        FunctionTransformer(statistics),
        StandardScaler(),
        LogisticRegression(class_weight="balanced", max_iter=10_000),
    ).fit(X, y)


MODELS = {
    "default": fit_default,
    "margins n^0": margins(0),
    "margins n^0, early stopping": margins(0, early_stopping=True),
    "margins n^0.25": margins(0.25),
    "margins n^0.5": margins(0.5),
    "margins n^0.6": margins(0.6),
    "margins n^0.75": margins(0.75),
    "statistics": fit_statistics,
}


def measure(name, model, seed, folder):
    """Return one line of results."""
    X, y, X_test, y_test = cut(name, folder, seed) if folder else generate(name, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predicted = MODELS[model](X, y, seed).predict(X_test)
    score = balanced_accuracy_score(y_test, predicted)
    counts = np.unique(y, return_counts=True)[1].tolist()
    return {"set": name, "model": model, "seed": seed, "counts": counts, "balanced accuracy": score}


def compute(names, models, arguments):
    """Return the balanced accuracy of each (set, model, seed); compute those that are missing."""
    path = arguments.results
    lines = path.read_text().splitlines() if path.exists() else []
    records = [json.loads(line) for line in lines]
    scores = {(r["set"], r["model"], r["seed"]): r["balanced accuracy"] for r in records}
    with path.open("a") as file:
        for key in product(names, models, range(arguments.seeds)):
            if key in scores:
                continue
            try:
                record = measure(*key, arguments.folder)
            except ValueError as error:  # for example, too few sequences to hold some out
                print(f"{key}: {error}")
                continue
            scores[key] = record["balanced accuracy"]
            file.write(json.dumps(record) + "\n")
            file.flush()
    return scores


def percent(values):
    """Return mean and standard error in percent."""
    if len(values) == 0:
        return "-"
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{100 * np.mean(values):.1f} ± {100 * error:.1f}"


def print_tables(scores, names, models, n_seeds):
    """Print the scores, and gains over the classifier whose classes only have weights."""

    def of(name, model):
        return {s: scores[name, model, s] for s in range(n_seeds) if (name, model, s) in scores}

    body = [[name, *(percent(list(of(name, m).values())) for m in models)] for name in names]
    print("\n".join(rows_of(["balanced accuracy", *models], body)), end="\n\n")
    rows = []
    for name in names:
        before = of(name, "margins n^0")
        after = [of(name, model) for model in models]
        rows.append([name, *(percent([a[s] - before[s] for s in before if s in a]) for a in after)])
    print("\n".join(rows_of(["gain over margins n^0", *models], rows)))


def main():
    """Compute the missing results and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="folder of <name>.npz files, see sets.py")
    parser.add_argument("--set", action="append", help="names of sets; all by default")
    parser.add_argument("--model", action="append", choices=MODELS, help="all by default")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    names = arguments.set or (sets.names(arguments.folder) if arguments.folder else [*GENERATED])
    models = arguments.model or [*MODELS]
    print_tables(compute(names, models, arguments), names, models, arguments.seeds)


if __name__ == "__main__":
    main()
