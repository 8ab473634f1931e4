"""The command line: from a folder of videos to a store, a model and predictions."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.metrics import log_loss

from skdejavid.classifier import DejaVidClassifier
from skdejavid.files.atomic import check_target, replace_file
from skdejavid.files.regular import path_of_file
from skdejavid.sequences import TSEArray
from skdejavid.store import TSEStore
from skdejavid.video.extractor import TSEExtractor
from skdejavid.video.listing import find_videos, read_folder, read_labels, read_table

__all__ = ["skdejavid"]

_SOME_FAILED = 3

# The extractor's parameters that a model's file may set: those that decide what an embedding is.
_SETTINGS = (
    *("width", "stride", "clip_length", "layout", "frame_size", "mean", "std", "features", "head"),
    "autocast",
)

# Parameters of a model that do not change its predictions.
_OF_A_MACHINE = ("device", "n_jobs", "verbose")

# The largest number, and size of a clip, that a model's file may set.
_LARGEST_SETTING, _MOST_BYTES_PER_CLIP = 2**24, 2**31


class Length(click.ParamType[Any]):
    """A length of time: ``16`` (frames), ``0.2`` (fraction of the video) or ``1.5s`` (seconds)."""

    name = "length"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float | str:
        """Return the length in the form that `TSEExtractor` takes."""
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
        return str(value)


class Assignment(click.ParamType[Any]):
    """A pair ``NAME=VALUE``."""

    name = "name=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return name and value."""
        name, equals, content = str(value).partition("=")
        if not equals:
            self.fail(f"expected NAME=VALUE, got {value!r}", param, ctx)
        return name, content


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Report errors that a user can fix as one line with exit code 1, without a traceback."""
    try:
        yield
    except BrokenPipeError:  # the reader of the output has closed it, as "| head" does
        raise
    except (OSError, ValueError, TypeError, ImportError, MemoryError) as error:
        raise click.ClickException(str(error)) from error


def _with_options(*options: Callable[..., Any]) -> Callable[..., Any]:
    """Return a decorator that adds several options to a command."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


# How clips are made; the defaults are those of `TSEExtractor`.
_clip_options = _with_options(
    click.option(
        "--width",
        type=Length(),
        multiple=True,
        help="Width of the window: frames (16), fraction of the video (0.2) or seconds (1.5s). "
        "Repeat the option for several windows in parallel.  [default: 0.2]",
    ),
    click.option(
        "--stride",
        type=Length(),
        help="Step between windows, in the form of --width.  [default: 0.025]",
    ),
    click.option("--clip-length", type=int, help="Frames of each window that the encoder sees."),
    click.option(
        "--layout",
        type=click.Choice(["BCTHW", "BTCHW", "BCHW"]),
        help="Axes that the encoder expects; BCHW for encoders of single images.",
    ),
    click.option(
        "--frame-size",
        type=int,
        help="Side of the square to which frames are scaled and cropped.",
    ),
    click.option(
        "--mean",
        type=float,
        multiple=True,
        help="Subtracted from values in [0, 1]; once, or once per channel.",
    ),
    click.option(
        "--std", type=float, multiple=True, help="Divisor of values; once, or once per channel."
    ),
    click.option(
        "--features",
        type=click.Choice(["both", "embedding", "logits"]),
        help="Outputs of the encoder to keep.  [default: both]",
    ),
    click.option("--head", help="Submodule that computes logits from the embedding."),
    click.option(
        "--autocast",
        type=click.Choice(["float16", "bfloat16"]),
        help="Half precision for operations that support it.",
    ),
)


# The encoder, and how to run it.
_encoder_options = _with_options(
    click.option(
        "--encoder",
        help="A Hugging Face model (name or folder), or FILE.py:FUNCTION or "
        "PACKAGE.MODULE:FUNCTION, a function that returns the encoder. Its code is executed.",
    ),
    click.option(
        "--encoder-argument",
        multiple=True,
        help="An argument for that function; repeat the option for several.",
    ),
    click.option(
        "--processor",
        help="A Hugging Face processor (name or folder) that prepares frames.  [default: that of "
        "the encoder]",
    ),
    click.option(
        "--encoder-id",
        help="Name that identifies the encoder, needed if it is not a torch module.",
    ),
    click.option(
        "--batch-size",
        type=int,
        help="Clips (or images) per call of the encoder.  [default: 8]",
    ),
    click.option("--device", help="Device to compute on, such as cuda."),
    click.option(
        "--jobs",
        "n_jobs",
        type=int,
        help="Videos to read in parallel.  [default: number of cores]",
    ),
    click.option(
        "--on-error",
        type=click.Choice(["warn", "skip", "raise"]),
        default="warn",
        show_default=True,
        help="What to do when a video cannot be read.",
    ),
)


_where_option = click.option(
    "--where",
    type=Assignment(),
    multiple=True,
    help="Use only rows of that file with this value in a column, such as split=train.",
)

# Choice of sequences of a store, and their labels.
_label_options = _with_options(
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
    videos could not be read.
    """  # noqa: D301  (click formats after the character, not after its escape)


@skdejavid.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--output", "store", required=True, help="Folder of the store.")
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
@_encoder_options
@_clip_options
def extract(
    folder: Path,
    store: str,
    labels: str | None,
    where: tuple[tuple[str, str], ...],
    allow_outside: bool,
    shard: str | None,
    encoder: str | None,
    encoder_argument: tuple[str, ...],
    **parameters: Any,
) -> None:
    """Encode the videos of FOLDER into a store.

    Videos that are already in the store are not encoded again: to resume after an interruption,
    repeat the command.
    """
    with _plain_errors():
        if labels:
            videos = read_table(folder, labels, where, may_leave_folder=allow_outside)
        else:
            videos = read_folder(folder)
        extractor = _extractor(encoder, encoder_argument, store=store, **parameters)
        filled = extractor.extract(
            videos.paths, ids=videos.ids, shard=None if shard is None else _as_shard(shard)
        )
        if videos.labels is not None:
            label_of = dict(zip(videos.ids, videos.labels, strict=True))
            filled.set_labels({id: label_of[id] for id in filled.ids if id in label_of})
    click.echo(f"{filled}")
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
    """Fit a classifier to the sequences of STORE.

    The file can also be read with DejaVidClassifier.load.
    """
    with _plain_errors():
        check_target(path_of_file(model))  # before hours of fitting
        opened = TSEStore(store)
        X, y = _labeled(opened, labels, where)
        classifier = DejaVidClassifier(random_state=seed, verbose=int(verbose))
        classifier.set_params(**{name: _as_parameter(value) for name, value in parameters})
        classifier.fit(X, y).save(model, metadata={"extraction": opened.fingerprint})
    click.echo(f"fitted to {X} of {len(classifier.classes_)} classes: {model}")


@skdejavid.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.argument("inputs", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("-o", "--output", default="-", help="CSV file; - is standard output.  [default: -]")
@click.option(
    "--probabilities", is_flag=True, help="Add a column with the probability of each class."
)
@_encoder_options
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
            extractor.set_params(**_settings_of(classifier, model, extractor))
            X = extractor.transform(paths)
            ids = [paths[i] for i in extractor.kept_]
        found = classifier.predict_proba(X)
        table = _table_of(ids, classifier.classes_, found, has_all=probabilities)
        if output != "-":
            replace_file(
                Path(output), lambda file: file.write(table.encode("utf-8", "surrogateescape"))
            )
            table = ""
        click.echo(table, nl=False)
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
                f"{encoder} returns a {type(loaded).__name__}, not a torch module: give "
                "--encoder-id, a name unique to each encoder"
            )
        return TSEExtractor(loaded, verbose=1, **given)
    if arguments:
        raise ValueError("--encoder-argument needs an --encoder of the form FILE.py:FUNCTION")
    return TSEExtractor(encoder, verbose=1, **given)


def _settings_of(
    classifier: DejaVidClassifier, path: str, extractor: TSEExtractor
) -> dict[str, Any]:
    """Return the settings of the extraction of a model's training data, without the encoder."""
    stored = getattr(classifier, "metadata_", {}).get("extraction")
    needed = ["encoder", *_SETTINGS]
    if not isinstance(stored, dict) or not all(name in stored for name in needed):
        raise ValueError(
            f"{path} does not contain the settings to encode videos with. Fit it with 'skdejavid "
            "fit' to a store made by 'skdejavid extract' or TSEExtractor, or extract the videos "
            "into a store and predict that."
        )
    if extractor.encoder_fingerprint() != stored["encoder"]:
        raise ValueError(f"--encoder is not the encoder of the training data of {path}")
    settings = {name: stored[name] for name in _SETTINGS}
    if settings["frame_size"] == [None, None]:
        settings["frame_size"] = None
    _check_sizes(settings, path)
    _check_processor(extractor, settings, stored.get("processor"), path)
    return settings


def _check_processor(
    extractor: TSEExtractor, settings: dict[str, Any], expected: Any, path: str
) -> None:
    """Check that frames are prepared as those of the training data."""
    from skdejavid.video.settings import resolve_settings  # needs torch

    found = resolve_settings(clone(extractor).set_params(**settings)).processor
    if found != expected:
        raise ValueError(
            f"frames of the training data of {path} were prepared by the processor {expected}, but "
            f"that of --encoder is {found}: pass the other one with --processor"
        )


def _check_sizes(settings: dict[str, Any], path: str) -> None:
    """Check that the settings in a file make clips that fit into memory."""
    for name, value in settings.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, (int, float)) and not abs(number) <= _LARGEST_SETTING:
                raise ValueError(f"{path} sets {name} to a number beyond {_LARGEST_SETTING}")
    size = settings["frame_size"]
    sides = [side for side in (size if isinstance(size, list) else [size, size]) if side]
    numbers = [settings["clip_length"], *sides]
    n_bytes = 12 * math.prod(n for n in numbers if isinstance(n, int))  # of three float32
    if n_bytes > _MOST_BYTES_PER_CLIP:
        raise ValueError(
            f"{path} sets clip_length and frame_size to {numbers}: a clip would have {n_bytes} "
            f"bytes, and a file may set at most {_MOST_BYTES_PER_CLIP}"
        )


def _labeled(
    store: TSEStore, table: str | None, where: tuple[tuple[str, str], ...]
) -> tuple[TSEArray, NDArray[Any]]:
    """Return sequences of a store and their labels: all, or those listed in a table."""
    if table is None:
        if where:
            raise ValueError("--where needs --labels, the file with the column")
        if store.labels is None:
            raise ValueError(f"{store.path} has no labels: pass a file of labels with --labels")
        return store.sequences(), store.labels
    label_of = read_labels(table, where)
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


def _report_failures(extractor: TSEExtractor) -> None:
    """Print the videos that could not be read, and exit with the code for that."""
    if not extractor.failures_:
        return
    for failure in extractor.failures_:
        click.echo(f"left out: {failure.id}: {failure.cause}", err=True)
    click.echo(f"{len(extractor.failures_)} video(s) left out", err=True)
    raise click.exceptions.Exit(_SOME_FAILED)
