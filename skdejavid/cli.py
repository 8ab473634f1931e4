"""The command line: from a folder of videos to a store, a model and predictions."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import click
import numpy as np
from click.core import ParameterSource
from numpy.typing import NDArray
from sklearn.metrics import log_loss

from skdejavid._cli_options import Assignment, clip_options, encoder_options, with_options
from skdejavid.classifier import DejaVidClassifier
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

__all__ = ["skdejavid"]

_SOME_FAILED = 3

# Options of extract that concern the store, which is not written with --check.
_OF_STORE = ("store", "shard", "add", "check_content", "retry_failures", "store_dtype", "on_error")

# Parameters of a model that do not change its predictions.
_OF_A_MACHINE = ("device", "n_jobs", "verbose")


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Report errors that a user can fix as one line with exit code 1, without a traceback."""
    try:
        yield
    except BrokenPipeError:  # the reader of the output has closed it, as "| head" does
        raise
    except (OSError, ValueError, TypeError, ImportError, MemoryError, RuntimeError) as error:
        raise click.ClickException(str(error)) from error


_on_error_option = click.option(
    "--on-error",
    type=click.Choice(["warn", "skip", "raise"]),
    default="warn",
    show_default=True,
    help="What to do when a video cannot be read.",
)


_where_option = click.option(
    "--where",
    type=Assignment(),
    multiple=True,
    help="Use only rows of that file with this value in a column, such as split=train.",
)

# Choice of sequences of a store, and their labels.
_label_options = with_options(
    click.option(
        "--labels",
        type=click.Path(exists=True, dir_okay=False),
        help="CSV file with the columns path and label, used instead of the store's labels.",
    ),
    _where_option,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="skdejavid")
def skdejavid() -> None:
    """Classify videos by what happens in them, and when.

    \b
      skdejavid extract videos -o store --encoder MODEL
      skdejavid fit store -o model.safetensors
      skdejavid evaluate model.safetensors other_store
      skdejavid predict model.safetensors other_store

    Exit codes: 0 success, 1 an error that the message explains, 2 wrong usage, 3 finished, but some
    videos could not be read. Messages go to standard error.
    """  # noqa: D301  (click formats after the character, not after its escape)


@skdejavid.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", "store", help="Folder of the store, needed without --check.")
@click.option(
    "--check",
    metavar="FILE",
    help="Encode nothing, but write a contact sheet (PNG) to FILE: frames of the first video, or "
    "of the video FOLDER, and the pixels that the encoder gets of them.",
)
@click.option(
    "--check-windows",
    "n_windows",
    type=click.IntRange(min=1),
    help="Largest number of windows in that file, spread over the video.  [default: 8]",
)
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False),
    help="CSV file with the columns path (inside FOLDER) and label. Without it, all videos in "
    "FOLDER are encoded, and the first folder of a video's path is its label.",
)
@_where_option
@click.option(
    "--allow-outside",
    is_flag=True,
    help="Allow absolute paths and '..' in that file, which lead out of FOLDER.",
)
@click.option(
    "--dtype",
    "store_dtype",
    type=click.Choice(["float32", "float16", "float64"]),
    default="float32",
    show_default=True,
    help="Data type of the stored embeddings.",
)
@click.option(
    "--shard", metavar="RANK/NUMBER", help="Encode only one part of the videos, such as 0/4."
)
@click.option(
    "--add",
    is_flag=True,
    help="Go on using the videos of the store that are not in FOLDER or that file. Without it they "
    "are named and lose their labels, and fit leaves them out.",
)
@click.option(
    "--check-content",
    is_flag=True,
    help="Compare the content of all files that are in the store, not only size and time.",
)
@click.option(
    "--retry-failures",
    is_flag=True,
    help="Try again to read videos that failed before and have not changed since.",
)
@encoder_options
@_on_error_option
@clip_options
def extract(
    folder: Path,
    store: str | None,
    check: str | None,
    n_windows: int | None,
    labels: str | None,
    where: tuple[tuple[str, str], ...],
    allow_outside: bool,
    shard: str | None,
    add: bool,
    encoder: str | None,
    encoder_argument: tuple[str, ...],
    **parameters: Any,
) -> None:
    """Encode the videos of FOLDER into a store.

    Videos that are already in the store are not encoded again: to resume after an interruption,
    repeat the command. Hidden files and folders, and those of operating systems such as __MACOSX,
    are skipped; links are followed.

    FOLDER, or the file of labels, is the list of videos in use. Repeat the command when it has
    changed: new videos are encoded, labels are updated, and videos that are not listed any more
    lose their labels. They stay in the store.
    """
    _check_are_used(("n_windows",) if check is None else _OF_STORE, check)
    if check is None and store is None:
        raise click.UsageError("Missing option '-o' / '--output', the folder of the store.")
    if check is None and folder.is_file():
        raise click.UsageError(f"FOLDER is the file {folder}, expected a folder of videos.")
    with _plain_errors():
        if check is not None:
            from skdejavid.video.contact_sheet import write_contact_sheet  # needs torch

            # Nothing is stored, so that no encoder needs an id.
            parameters["encoder_id"] = parameters["encoder_id"] or "looked at"
            extractor = _extractor(encoder, encoder_argument, **parameters)
            video = _first_video(folder, labels, where, allow_outside)
            options = {} if n_windows is None else {"n_windows": n_windows}
            _say([write_contact_sheet(check, extractor, video, **options)])
            return
        videos = _list_videos(folder, labels, where, allow_outside)
        _say(videos.notes)
        extractor = _extractor(encoder, encoder_argument, store=store, **parameters)
        filled = extractor.extract(
            videos.paths, ids=videos.ids, shard=None if shard is None else _as_shard(shard)
        )
        _say(update_labels(filled, videos, add=add))
    _echo(f"{filled}")
    _report_failures(extractor)


@skdejavid.command()
@click.argument("store", type=click.Path(exists=True, file_okay=False))
@click.option(
    "-o", "--output", "model", required=True, help="File to write, such as model.safetensors."
)
@_label_options
@click.option(
    "--set",
    "parameters",
    type=Assignment(),
    multiple=True,
    help="A parameter of DejaVidClassifier, such as n_timesteps=16.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of random numbers.")
@click.option("-v", "--verbose", is_flag=True, help="Show progress.")
def fit(
    store: str,
    model: str,
    labels: str | None,
    where: tuple[tuple[str, str], ...],
    parameters: tuple[tuple[str, str], ...],
    seed: int,
    verbose: bool,
) -> None:
    """Fit a classifier to the sequences of STORE that have labels.

    The file can also be read with DejaVidClassifier.load.
    """
    with _plain_errors():
        check_target(path_of_file(model))  # before hours of fitting
        opened = TSEStore(store)
        X, y = _labeled(opened, labels, where)
        classifier = DejaVidClassifier(random_state=seed, verbose=int(verbose))
        classifier.set_params(**{name: _as_parameter(value) for name, value in parameters})
        classifier.fit(X, y).save(model, metadata={"extraction": opened.fingerprint})
    _echo(f"fitted to {X} of {len(classifier.classes_)} classes: {model}")


@skdejavid.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.argument("inputs", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("-o", "--output", default="-", help="CSV file; - is standard output.  [default: -]")
@click.option(
    "--probabilities", is_flag=True, help="Add a column with the probability of each class."
)
@encoder_options
@_on_error_option
def predict(
    model: str,
    inputs: tuple[str, ...],
    output: str,
    probabilities: bool,
    encoder: str | None,
    encoder_argument: tuple[str, ...],
    **parameters: Any,
) -> None:
    """Predict the classes of INPUTS: one store, or videos and folders of videos.

    Videos are encoded with the settings of the model's training data, which are in the model's
    file if "skdejavid fit" wrote it. Give the same --encoder.
    """
    extractor = None
    with _plain_errors():
        if output != "-":
            check_target(path_of_file(output))  # before hours of encoding
        classifier = _load(model)
        if len(inputs) == 1 and (Path(inputs[0]) / "manifest.json").is_file():
            store = TSEStore(inputs[0])
            ids, X = store.ids, store.sequences()
        else:
            paths = [path for item in inputs for path in find_videos(item)]
            extractor = _extractor(encoder, encoder_argument, **parameters)
            set_settings(extractor, _settings_of(classifier, model), model)
            X = extractor.transform(paths)
            ids = [paths[i] for i in extractor.kept_]
        found = classifier.predict_proba(X)
        table = _table_of(ids, classifier.classes_, found, has_all=probabilities)
        if output != "-":
            replace_file(
                Path(output), lambda file: file.write(table.encode("utf-8", "surrogateescape"))
            )
            table = ""
        _echo(table, nl=False)
    if extractor is not None:
        _report_failures(extractor)


@skdejavid.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.argument("store", type=click.Path(exists=True, file_okay=False))
@_label_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(
    model: str,
    store: str,
    labels: str | None,
    where: tuple[tuple[str, str], ...],
    as_json: bool,
) -> None:
    """Compare the predictions for the sequences of STORE with their labels."""
    with _plain_errors():
        classifier = _load(model)
        X, y = _labeled(TSEStore(store), labels, where)
        scores = _scores(y, classifier.predict_proba(X), classifier.classes_)
    if as_json:
        click.echo(json.dumps(scores))
        return
    for name, value in scores.items():
        click.echo(f"{name:<22}{value:.4f}" if isinstance(value, float) else f"{name:<22}{value}")


@skdejavid.command()
@click.argument("store", type=click.Path(exists=True, file_okay=False))
@click.argument("folder", type=click.Path(exists=True, file_okay=False), required=False)
@click.option(
    "--sample", type=int, default=10, show_default=True, help="Number of videos to encode again."
)
@click.option(
    "--tolerance",
    type=float,
    default=1e-3,
    show_default=True,
    help="Largest difference, as a fraction of the largest value of the sequence.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of random numbers.")
@encoder_options
def verify(
    store: str,
    folder: str | None,
    sample: int,
    tolerance: float,
    seed: int,
    encoder: str | None,
    encoder_argument: tuple[str, ...],
    **parameters: Any,
) -> None:
    """Compare the files of STORE with their checksums.

    With FOLDER, the videos that "skdejavid extract" was given, some of them are encoded again and
    compared with the store. Give the same --encoder.
    """
    with _plain_errors():
        opened = TSEStore(store)
        if folder is None:
            if encoder is not None:
                raise click.UsageError(
                    "--encoder has no effect without FOLDER, the videos that 'skdejavid extract' "
                    "was given."
                )
            opened.verify()
            _echo(f"{opened}: all checksums are right")
            return
        extractor = _extractor(encoder, encoder_argument, **parameters)
        if not has_settings(opened.fingerprint):
            raise ValueError(f"{store} was not made by 'skdejavid extract' or TSEExtractor")
        set_settings(extractor, opened.fingerprint, store)
        found = opened.verify(
            extractor, folder, sample=sample, tolerance=tolerance, random_state=seed
        )
    _echo(
        f"{len(found.ids)} sequences agree, with differences up to {found.largest_difference:.2g}"
    )
    _say(f"not compared: {id}: {reason}" for id, reason in found.not_compared.items())
    if found.not_compared:
        raise click.exceptions.Exit(_SOME_FAILED)


def _list_videos(
    folder: Path, labels: str | None, where: tuple[tuple[str, str], ...], allow_outside: bool
) -> Listing:
    if labels:
        return read_table(folder, labels, where, may_leave_folder=allow_outside)
    return read_folder(folder)


def _check_are_used(unused: Sequence[str], check: str | None) -> None:
    """Check that none of the parameters that have no effect with, or without, --check was given."""
    context = click.get_current_context()
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in unused and source is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{parameter.opts[-1]} has no effect {'without' if check is None else 'with'} "
                "--check, which writes a contact sheet and no store."
            )


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
    given = {name: value for name, value in parameters.items() if value not in (None, ())}
    for name in ("width", "mean", "std"):
        if name in given:
            given[name] = given[name][0] if len(given[name]) == 1 else list(given[name])
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


def _labeled(
    store: TSEStore, table: str | None, where: tuple[tuple[str, str], ...]
) -> tuple[TSEArray, NDArray[Any]]:
    """Return sequences of a store and their labels: all, or those listed in a table."""
    if table is None:
        if where:
            raise ValueError("--where needs --labels, the file with the column")
        labels, X = store.labels_by_id, store.sequences()
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
        raise ValueError(f"{store.path} contains none of the {len(label_of)} videos of {table}")
    if len(ids) < len(label_of):
        n_missing = len(label_of) - len(ids)
        click.echo(f"{n_missing} videos of {table} are not in {store.path}", err=True)
    return store.sequences(ids), np.array([label_of[id] for id in ids])


def _table_of(
    ids: Sequence[str],
    classes: NDArray[Any],
    probabilities: NDArray[np.floating],
    *,
    has_all: bool,
) -> str:
    """Return one CSV row per sequence, with the probabilities of all classes if `has_all`."""
    table = StringIO()
    writer = csv.writer(table)
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
    """Return scores of predictions by name."""
    unknown = sorted(set(y.tolist()) - set(classes.tolist()))
    if unknown:
        raise ValueError(f"the model was not fitted with the labels {unknown}")
    number = {label: i for i, label in enumerate(classes.tolist())}
    truth = np.array([number[label] for label in y.tolist()])
    of_truth = probabilities[np.arange(len(truth)), truth]
    n_better = (probabilities > of_truth[:, None]).sum(axis=1)
    is_hit = probabilities.argmax(axis=1) == truth
    return {
        "sequences": len(truth),
        "top-1 accuracy": float(is_hit.mean()),
        "top-5 accuracy": float((n_better < 5).mean()),
        "balanced accuracy": float(
            np.mean([is_hit[truth == k].mean() for k in set(truth.tolist())])
        ),
        "log-loss": float(log_loss(truth, probabilities, labels=np.arange(len(classes)))),
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
    for failure in extractor.failures_:
        click.echo(f"left out: {failure.id}: {failure.cause}", err=True)
    click.echo(f"{len(extractor.failures_)} video(s) left out", err=True)
    raise click.exceptions.Exit(_SOME_FAILED)
