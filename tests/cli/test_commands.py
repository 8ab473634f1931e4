"""Tables and scores of the command line; `test_main.py` runs the commands."""

import json

import numpy as np
import pytest

from skdejavid import DejaVidClassifier, TSEStore
from skdejavid.cli.commands import evaluate_model, fit_model, predict_classes


def stored(folder, n_classes):
    """Return a store of three sequences of each class, and a model of them."""
    rng = np.random.default_rng(0)
    store = TSEStore.create(folder / "store")
    labels = {f"{i}.mp4": f"class {i % n_classes}" for i in range(3 * n_classes)}
    with store.write() as writer:
        for id in labels:
            writer.append(id, rng.standard_normal((4, 3)))
    store.set_labels(labels)
    parameters = {"n_epochs": "1", "n_timesteps": "2", "differences": "null"}
    model = str(folder / "model")
    fit_model(store.path, model, None, (), parameters, seed=0, verbose=False)
    return store.path, model


@pytest.mark.parametrize(("n_classes", "is_scored"), [(10, False), (11, True)])
def test_the_five_best_classes_are_scored_if_there_are_more_than_ten(
    n_classes, is_scored, tmp_path, capsys
):
    store, model = stored(tmp_path, n_classes)
    capsys.readouterr()
    evaluate_model(model, store, None, (), as_json=True)
    scores = json.loads(capsys.readouterr().out)
    assert ("top-5 accuracy" in scores) == is_scored
    if is_scored:
        opened, clf = TSEStore(store), DejaVidClassifier.load(model)
        best = clf.classes_[np.argsort(-clf.predict_proba(opened.sequences()))[:, :5]]
        hits = [label in row for label, row in zip(opened.labels, best, strict=True)]
        assert scores["top-5 accuracy"] == np.mean(hits)


def test_lines_of_tables_end_as_other_programs_of_the_system_end_them(tmp_path, capsys):
    store, model = stored(tmp_path, 2)
    capsys.readouterr()
    table = tmp_path / "predicted.csv"
    predict_classes(model, [store], str(table), None, (), has_all=False)
    predict_classes(model, [store], "-", None, (), has_all=False)
    printed = capsys.readouterr().out
    assert printed.startswith("path,label,probability\n0.mp4,class ")
    assert "\r" not in printed
    assert table.read_bytes() == printed.encode()
