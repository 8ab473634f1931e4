"""Carries out the commands. `main` imports this module when a command runs, not before."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, TypeAlias

import click
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss

from skdejavid.classifier import DejaVidClassifier
from skdejavid.compat.bars import Bar
from skdejavid.files.atomic import check_target, replace_file
from skdejavid.files.regular import path_of_file
from skdejavid.sequences import TSEArray
from skdejavid.store import TSEStore
from skdejavid.video.extractor import TSEExtractor
from skdejavid.video.listing import (
    Listing,
    find_videos,
    read_folder,
    read_labels,
    read_table,
    similar_labels,
)
from skdejavid.video.relisting import update_labels
from skdejavid.video.stored_settings import has_settings, set_settings

__all__ = [
    "check_extraction",
    "evaluate_model",
    "extract_videos",
    "fit_model",
    "predict_classes",
    "verify_store",
]

_SOME_FAILED = 3  # exit code

# Parameters of a model that do not change its predictions.
_OF_A_MACHINE = ("device", "n_jobs", "verbose")

_SEQUENCES_AT_ONCE = 1000  # between two updates of a progress bar

# With so few classes, nearly every class is among the five best.
_FEW_CLASSES = 10

_MOST_RECALLS = 20  # classes whose recalls are printed

_Where: TypeAlias = tuple[tuple[str, str], ...]
_Listed: TypeAlias = tuple[Path, str | None, _Where, bool]  # arguments of `_list_videos`


def check_extraction(
    sheet: str,
    listed: _Listed,
    n_windows: int | None,
    encoder: str | None,
    encoder_argument: tuple[str, ...],
    **parameters: Any,
) -> None:
    """Write the contact sheet of the first video, or of the video that is given."""
    from skdejavid.video.contact_sheet import write_contact_sheet  # needs torch

    # Nothing is stored, so that no encoder needs an id.
    parameters["encoder_id"] = parameters["encoder_id"] or "looked at"
    extractor = _extractor(encoder, encoder_argument, **parameters)
    options = {} if n_windows is None else {"n_windows": n_windows}
    _say([write_contact_sheet(sheet, extractor, _first_video(*listed), **options)])


def extract_videos(
    listed: _Listed,
    encoder: str | None,
    encoder_argument: tuple[str, ...],
    *,
    shard: str | None,
    add: bool,
    **parameters: Any,
) -> None:
    """Encode videos into a store, and update its labels."""
    videos = _list_videos(*listed)
    _say(videos.notes)
    extractor = _extractor(encoder, encoder_argument, **parameters)
    filled = extractor.extract(
        videos.paths, ids=videos.ids, shard=None if shard is None else _as_shard(shard)
    )
    _say(update_labels(filled, videos, add=add))
    _echo(f"{filled}")
    _report_failures(extractor)


def fit_model(
    store: str,
    model: str,
    labels: str | None,
    where: _Where,
    parameters: Mapping[str, str],
    *,
    seed: int,
    verbose: bool,
) -> None:
    """Fit a classifier to the labeled sequences of a store, and write it to a file."""
    check_target(path_of_file(model))  # before hours of fitting
    opened = TSEStore(store)
    X, y = _labeled(opened, labels, where)
    classifier = DejaVidClassifier(random_state=seed, verbose=int(verbose))
    classifier.set_params(**{name: _as_parameter(value) for name, value in parameters.items()})
    classifier.fit(X, y).save(model, metadata={"extraction": opened.fingerprint})
    _echo(f"fitted to {X} of {len(classifier.classes_)} classes: {model}")


def predict_classes(
    model: str,
    inputs: Sequence[str],
    output: str,
    encoder: str | None,
    encoder_argument: tuple[str, ...],
    *,
    has_all: bool,
    **parameters: Any,
) -> None:
    """Write a CSV table of the predictions for a store or for videos; "-" is standard output."""
    extractor = None
    if output != "-":
        check_target(path_of_file(output))  # before hours of encoding
    classifier = _load(model)
    if len(inputs) == 1 and (Path(inputs[0]) / "manifest.json").is_file():
        store = TSEStore(inputs[0])
        ids, X = store.ids, _all_of(store)
    else:
        paths = [path for item in inputs for path in find_videos(item)]
        extractor = _extractor(encoder, encoder_argument, **parameters)
        set_settings(extractor, _settings_of(classifier, model), model)
        X = extractor.transform(paths)
        ids = [paths[i] for i in extractor.kept_]
    found = _probabilities(classifier, X)
    table = _table_of(ids, classifier.classes_, found, has_all=has_all)
    if output == "-":
        _echo(table, nl=False)
    else:
        content = table.encode("utf-8", "surrogateescape")
        replace_file(Path(output), lambda file: file.write(content))
    if extractor is not None:
        _report_failures(extractor)


def evaluate_model(
    model: str, store: str, labels: str | None, where: _Where, *, as_json: bool
) -> None:
    """Print scores of the predictions for the labeled sequences of a store."""
    classifier = _load(model)
    X, y = _labeled(TSEStore(store), labels, where)
    probabilities = _probabilities(classifier, X)
    scores = _scores(y, probabilities, classifier.classes_)
    if as_json:
        click.echo(json.dumps(scores))
        return
    scores |= _recalls(y, classifier.classes_[probabilities.argmax(axis=1)])
    for name, value in scores.items():
        shown = f"{value:.4f}" if isinstance(value, float) else f"{value}"
        click.echo(f"{name:<21} {shown}")


def verify_store(
    store: str,
    folder: str | None,
    encoder: str | None,
    encoder_argument: tuple[str, ...],
    *,
    sample: int,
    tolerance: float,
    seed: int,
    **parameters: Any,
) -> None:
    """Compare a store with its checksums or, if there is a folder, with some of its videos."""
    opened = TSEStore(store)
    if folder is None:
        opened.verify(verbose=1)
        _echo(f"{opened}: all checksums are right")
        return
    extractor = _extractor(encoder, encoder_argument, **parameters)
    if not has_settings(opened.fingerprint):
        raise ValueError(f"{store} was not made by 'skdejavid extract' or TSEExtractor")
    set_settings(extractor, opened.fingerprint, store)
    found = opened.verify(extractor, folder, sample=sample, tolerance=tolerance, random_state=seed)
    _echo(
        f"{len(found.ids)} sequences agree, with differences up to {found.largest_difference:.2g}"
    )
    _say(f"not compared: {id}: {reason}" for id, reason in found.not_compared.items())
    if found.not_compared:
        raise click.exceptions.Exit(_SOME_FAILED)


def _list_videos(folder: Path, labels: str | None, where: _Where, allow_outside: bool) -> Listing:
    if labels:
        return read_table(folder, labels, where, may_leave_folder=allow_outside)
    return read_folder(folder)


def _first_video(folder: Path, *listed: Any) -> str:
    return str(folder) if folder.is_file() else _list_videos(folder, *listed).paths[0]


def _load(model: str) -> DejaVidClassifier:
    """Read a model file, without the parameters that belong to the machine that wrote it."""
    classifier = DejaVidClassifier.load(model)
    defaults = DejaVidClassifier()
    return classifier.set_params(**{name: getattr(defaults, name) for name in _OF_A_MACHINE})


def _extractor(encoder: str | None, arguments: tuple[str, ...], **parameters: Any) -> TSEExtractor:
    """Return an extractor with the parameters that were given on the command line."""
    if encoder is None:
        raise ValueError("encoding videos needs --encoder")
    given = _as_given(parameters)
    if encoder.endswith(".py"):
        raise ValueError(f"--encoder {encoder} names a file: add a function, as in {encoder}:load")
    if Path(encoder).is_file():
        raise ValueError(
            f"--encoder {encoder} is a file, and a file of weights is no model: write a function "
            "that returns the encoder, and give --encoder FILE.py:FUNCTION"
        )
    if ":" in encoder:
        # Imported here because they need torch, and only some commands do.
        from skdejavid.video.fingerprints import needs_id
        from skdejavid.video.named_code import call_named

        loaded = call_named(encoder, *arguments)
        if callable(loaded) and needs_id(loaded) and "encoder_id" not in given:
            raise ValueError(
                f"{encoder} returns a {type(loaded).__name__}, which has no fingerprint of its "
                "own: give --encoder-id, a name unique to each encoder"
            )
        return TSEExtractor(loaded, verbose=1, **given)
    if arguments:
        raise ValueError("--encoder-argument needs an --encoder of the form FILE.py:FUNCTION")
    return TSEExtractor(encoder, verbose=1, **given)


def _as_given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return those parameters of an extractor that were given, as it takes them."""
    given = {name: value for name, value in parameters.items() if value not in (None, ())}
    if given.get("on_error") == "warn":
        given["on_error"] = "skip"  # `_report_failures` names them, in place of Python's warnings
    for name in ("width", "mean", "std"):
        if name in given:
            given[name] = given[name][0] if len(given[name]) == 1 else list(given[name])
    return given


def _probabilities(classifier: DejaVidClassifier, X: TSEArray) -> NDArray[np.floating]:
    """Return the probabilities of the classes, and show progress at a terminal."""
    parts = range(0, len(X), _SEQUENCES_AT_ONCE)
    is_hidden = len(parts) <= 1 or not sys.stderr.isatty()
    bar = Bar(total=len(X), desc="predicting", unit="sequence", disable=is_hidden)
    found = []
    with bar:
        for begin in parts:
            part = X[begin : begin + _SEQUENCES_AT_ONCE]
            found.append(classifier.predict_proba(part))
            bar.update(len(part))
    return np.concatenate(found)


def _settings_of(classifier: DejaVidClassifier, path: str) -> dict[str, Any]:
    """Return the settings of the extraction of a model's training data."""
    stored: Any = getattr(classifier, "metadata_", {}).get("extraction")
    if not has_settings(stored):
        raise ValueError(
            f"{path} does not contain the settings to encode videos with. Fit it with 'skdejavid "
            "fit' to a store made by 'skdejavid extract' or TSEExtractor, or extract the videos "
            "into a store and predict that."
        )
    return dict(stored)


def _labeled(store: TSEStore, table: str | None, where: _Where) -> tuple[TSEArray, NDArray[Any]]:
    """Return sequences of a store and their labels: all, or those listed in a table."""
    if table is None:
        if where:
            raise ValueError("--where needs --labels, the file with the column")
        labels, X = store.labels_by_id, _all_of(store)
        if not labels:
            raise ValueError(f"{store.path} has no labels: pass a file of labels with --labels")
        if len(labels) < len(store):
            n_missing = len(store) - len(labels)
            _say([f"{n_missing} sequences of {store.path} have no label and are left out"])
            X = X[[i for i, id in enumerate(store.ids) if id in labels]]
        return X, np.array(list(labels.values()))
    label_of = read_labels(table, where)
    _say(similar_labels(label_of.values()))
    ids = [id for id in label_of if id in store]
    if not ids:
        has = f"it has {store.ids[0]!r}, for example" if len(store) else "it has no sequences"
        raise ValueError(
            f"{store.path} contains none of the {len(label_of)} videos of {table}: {has}, and the "
            f"column path has {next(iter(label_of))!r}. Paths must be as in the store."
        )
    if len(ids) < len(label_of):
        n_missing = len(label_of) - len(ids)
        _say([f"{n_missing} videos of {table} are not in {store.path}"])
    return store.sequences(ids), np.array([label_of[id] for id in ids])


def _all_of(store: TSEStore) -> TSEArray:
    """Return all sequences of a complete store."""
    if not store.is_complete:
        raise ValueError(
            f"the store {store.path} is incomplete: it is being written, or writing was "
            "interrupted. Repeat 'skdejavid extract', which completes it."
        )
    return store.sequences()


def _table_of(
    ids: Sequence[str],
    classes: NDArray[Any],
    probabilities: NDArray[np.floating],
    *,
    has_all: bool,
) -> str:
    """Return one CSV row per sequence, with the probabilities of all classes if `has_all`."""
    table = StringIO()
    writer = csv.writer(table, lineterminator="\n")
    names = [str(label) for label in classes]
    columns = [f"probability of {name}" for name in names] if has_all else []
    writer.writerow(["path", "label", "probability", *columns])
    for id, row in zip(ids, probabilities, strict=True):
        best = int(row.argmax())
        others = [f"{value:.6g}" for value in row] if has_all else []
        writer.writerow([id, names[best], f"{row[best]:.6g}", *others])
    return table.getvalue()


def _scores(
    y: NDArray[Any], probabilities: NDArray[np.floating], classes: NDArray[Any]
) -> dict[str, Any]:
    """Return scores of predictions by name; top-5 accuracy unless there are few classes."""
    unknown = sorted(set(y.tolist()) - set(classes.tolist()))
    if unknown:
        raise ValueError(f"the model was not fitted with the labels {unknown}")
    number = {label: i for i, label in enumerate(classes.tolist())}
    truth = np.array([number[label] for label in y.tolist()])
    of_truth = probabilities[np.arange(len(truth)), truth]
    n_better = (probabilities > of_truth[:, None]).sum(axis=1)
    is_hit = probabilities.argmax(axis=1) == truth
    has_top_5 = len(classes) > _FEW_CLASSES
    return {
        "sequences": len(truth),
        "top-1 accuracy": float(is_hit.mean()),
        **({"top-5 accuracy": float((n_better < 5).mean())} if has_top_5 else {}),
        "balanced accuracy": float(
            np.mean([is_hit[truth == k].mean() for k in set(truth.tolist())])
        ),
        "log-loss": float(log_loss(truth, probabilities, labels=np.arange(len(classes)))),
    }


def _recalls(y: NDArray[Any], predicted: NDArray[Any]) -> dict[str, float]:
    """Return the part of each class that was recognized, unless there are many classes."""
    classes = np.unique(y)
    if len(classes) > _MOST_RECALLS:
        return {}
    return {
        f"recall of {label}": float((predicted[y == label] == label).mean()) for label in classes
    }


def _as_shard(text: str) -> tuple[int, int]:
    rank, _, number = text.partition("/")
    if not (rank.isdigit() and number.isdigit()):
        raise ValueError(f"--shard must be RANK/NUMBER such as 0/4, got {text!r}")
    return int(rank), int(number)


def _as_parameter(text: str) -> Any:
    """Return JSON (a number, null, true, a list) as an object, other text unchanged."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
    except RecursionError as error:
        raise ValueError(f"--set: {text[:20]}... is nested too deeply") from error


def _say(notes: Iterable[str]) -> None:
    """Print notes that are not the result of a command."""
    for note in notes:
        click.echo(note, err=True)


def _echo(text: str, *, nl: bool = True) -> None:
    """Print a result; names of files that are not in UTF-8 as they are."""
    has_bytes = any("\udc80" <= character <= "\udcff" for character in text)
    click.echo(text.encode("utf-8", "surrogateescape") if has_bytes else text, nl=nl)


def _report_failures(extractor: TSEExtractor) -> None:
    """Print the videos that could not be read, and exit with the code for that."""
    if not extractor.failures_:
        return
    _say(f"left out: {failure.id}: {failure.cause}" for failure in extractor.failures_)
    _say([f"{len(extractor.failures_)} video(s) left out"])
    raise click.exceptions.Exit(_SOME_FAILED)
