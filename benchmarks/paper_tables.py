"""Reproduce the paper's tables on other data: the effect of each part of the method.

    python benchmarks/paper_tables.py path/to/sets --results results/accuracy/paper.jsonl

Prints the mean and standard deviation over seeds of the accuracy in percent, for each set in the
folder. Frames are embeddings joined with the logits of a linear head trained on them, like the
output of the paper's fine-tuned encoders. Tables are numbered as in the paper.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import sets
from evaluate import all_fits, compute
from models import EmbeddingAndLogits
from tables import rows_of

from skdejavid import DejaVidClassifier, Framewise

ROOT = Path(__file__).parents[1]

LEARNING = {
    "frozen centroids, random weights": {"learn_centroids": False, "weight_init": "random"},
    "frozen centroids, weights from 1": {"learn_centroids": False},
    "frozen weights": {"learn_weights": False},
    "full learning, random weights": {"weight_init": "random"},
    "full learning, weights from 1": {},
}
ALIGNMENT = {
    "diagonal moves off": {"diagonal": False},
    "diagonal moves on": {"diagonal": True},
    "fixed epoch parameters off": {"path_refresh": "batch"},
    "fixed epoch parameters on": {"path_refresh": "epoch"},
}
BASES = {
    "published settings": ("paper on logits", DejaVidClassifier.paper(), {"learning_rate": 0.008}),
    "defaults": ("DejaVid on logits", DejaVidClassifier(), {}),
}


def specification(base, changes):
    """Return a specification for `models.parse`, without parameters that equal the base's."""
    name, classifier, parameters = BASES[base]
    settings = classifier.get_params()
    changed = {**parameters, **{k: v for k, v in changes.items() if settings[k] != v}}
    listed = ", ".join(f"{key}={value!r}" for key, value in changed.items())
    return f"{name}({listed})" if listed else name


def tables():
    """Yield (title, {row: specification of a model})."""
    plain = {"supersampling": "supersampling", "mean + logistic": "mean + logistic"}
    yield (
        "Table 1: matching against averaging over time",
        {
            **plain,
            **{f"DejaVid, {base}": specification(base, {}) for base in BASES},
        },
    )
    for base in BASES:
        yield (
            f"Table 2: what is learned, {base}",
            {row: specification(base, changes) for row, changes in LEARNING.items()},
        )
    for base in BASES:
        yield (
            f"Table 3: how paths are chosen, {base}",
            {row: specification(base, changes) for row, changes in ALIGNMENT.items()},
        )


def mean_and_deviation(records, model, name):
    """Return mean and standard deviation of the accuracy in percent, as text."""
    values = [
        100 * record["accuracy"]
        for fit, record in records.items()
        if (fit.model, fit.set) == (model, name)
    ]
    if len(values) < 2:
        return f"{values[0]:.1f}" if values else "-"
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


def plain_against_native(data):
    """Return the seconds of an epoch of the plain Python reference, and of ours with one thread.

    The reference is timed for one batch and extrapolated to the frames of all sequences.
    """
    sys.path.append(str(ROOT / "tests"))
    import reference

    X = Framewise(EmbeddingAndLogits()).fit(data.X_train, data.y_train).transform(data.X_train)
    clf = DejaVidClassifier.paper(dba_max_iter=0, dba_samples=1, n_jobs=1, random_state=0)
    seconds = {}
    for n_epochs in (10, 1):
        begin = time.process_time()
        clf.set_params(n_epochs=n_epochs).fit(X, data.y_train)
        seconds[n_epochs] = time.process_time() - begin
    batch = np.random.default_rng(0).permutation(len(X))[: clf.batch_size]
    labels = np.searchsorted(clf.classes_, data.y_train)
    begin = time.process_time()
    reference.train(
        list(X), labels, clf.centroids_, clf.log_weights_, [[batch.tolist()]], 0.001, 0.001
    )
    plain = (time.process_time() - begin) / X.lengths[batch].sum() * X.lengths.sum()
    return plain, (seconds[10] - seconds[1]) / 9


def main():
    """Compute the missing results and print all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder of <name>.npz files, see sets.py")
    parser.add_argument("--results", type=Path, default=Path("paper.jsonl"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    arguments.folds = 0
    names = sets.names(arguments.folder)
    listed = list(tables())
    arguments.model = list(dict.fromkeys(model for _, rows in listed for model in rows.values()))
    records = compute(list(all_fits(arguments, names)), arguments)
    for title, rows in listed:
        body = [
            [row, *(mean_and_deviation(records, model, name) for name in names)]
            for row, model in rows.items()
        ]
        print("\n".join(rows_of([title, *names], body)), end="\n\n")

    times = [plain_against_native(sets.load(name, arguments.folder)) for name in names]
    body = [
        ["plain Python", *(f"{plain:.3g} s" for plain, _ in times)],
        ["native", *(f"{native:.3g} s" for _, native in times)],
        ["ratio", *(f"{plain / native:.0f}" for plain, native in times)],
    ]
    print("\n".join(rows_of(["Table 4: an epoch of the published settings", *names], body)))


if __name__ == "__main__":
    main()
