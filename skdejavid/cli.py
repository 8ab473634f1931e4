"""The command line: a folder of videos to a store of sequences, to a model, to predictions."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdejavid.classifier import DejaVidClassifier
from skdejavid.sequences import TSEArray
from skdejavid.store import TSEStore
from skdejavid.video.extractor import TSEExtractor
from skdejavid.video.listing import find_videos, read_folder, read_labels, read_table

__all__ = ["skdejavid"]

_SOME_FAILED = 3
_MODEL_FORMAT = 1
_MODEL_TYPES = frozenset({"skdejavid.classifier.DejaVidClassifier"})


class Length(click.ParamType[Any]):
    """``16`` frames, ``0.2`` of the video, ``1.5s``."""

    name = "length"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float | str:
        """The length as `TSEExtractor` takes it."""
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
        return str(value)


class Choice(click.ParamType[Any]):
    """``NAME=VALUE``."""

    name = "name=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Both parts."""
        name, equals, content = str(value).partition("=")
        if not equals:
            self.fail(f"expected NAME=VALUE, got {value!r}", param, ctx)
        return name, content


@contextmanager
def _plain_errors() -> Iterator[None]:
    """What a user can mend as one line and exit code 1, without a traceback."""
    try:
        yield
    except BrokenPipeError:  # nobody reads the output any more, as after "| head"
        raise
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise click.ClickException(str(error)) from error


def _options_of_windows(command: Callable[..., None]) -> Callable[..., None]:
    """How videos are encoded; what is not given is as `TSEExtractor` has it."""
    options = [
        click.option(
            "--width",
            type=Length(),
            multiple=True,
            help="Width of the window: frames (16), a fraction of the video (0.2), or seconds "
            "(1.5s). Repeat it for several windows in parallel.  [default: 0.2]",
        ),
        click.option(
            "--stride",
            type=Length(),
            help="Step from window to window, like --width.  [default: 0.025]",
        ),
        click.option("--clip-length", type=int, help="Frames of each window that are shown."),
        click.option(
            "--layout",
            type=click.Choice(["BCTHW", "BTCHW", "BCHW"]),
            help="Axes the encoder expects; BCHW for encoders of single images.",
        ),
        click.option(
            "--frame-size", type=int, help="Side of the square to which frames are scaled and cut."
        ),
        click.option("--mean", type=float, multiple=True, help="Once, or once per channel."),
        click.option("--std", type=float, multiple=True, help="Once, or once per channel."),
        click.option("--features", type=click.Choice(["both", "embedding", "logits"])),
        click.option("--head", help="Submodule that turns the embedding into logits."),
        click.option("--autocast", type=click.Choice(["float16", "bfloat16"])),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _options_of_encoding(command: Callable[..., None]) -> Callable[..., None]:
    """With what videos are encoded."""
    options = [
        click.option(
            "--encoder",
            help="A Hugging Face model (name or folder), or FILE.py:FUNCTION or "
            "PACKAGE.MODULE:FUNCTION, a function that returns the encoder. Its code is run.",
        ),
        click.option(
            "--encoder-argument", multiple=True, help="An argument of that function; repeatable."
        ),
        click.option("--batch-size", type=int, help="Clips (or images) per call.  [default: 8]"),
        click.option("--device", help="Where to compute, such as cuda."),
        click.option("--jobs", "n_jobs", type=int, help="Videos read at once.  [default: cores]"),
        click.option(
            "--on-error",
            type=click.Choice(["warn", "skip", "raise"]),
            default="warn",
            show_default=True,
            help="What to do about a broken video.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _options_of_choice(command: Callable[..., None]) -> Callable[..., None]:
    """Which sequences of a store, and their labels."""
    options = [
        click.option(
            "--labels",
            type=click.Path(exists=True, dir_okay=False),
            help="A CSV file with the columns path and label, instead of the store's labels.",
        ),
        click.option(
            "--where",
            type=Choice(),
            multiple=True,
            help="Only rows of that file with this value in this column, such as split=train.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="skdejavid")
def skdejavid() -> None:
    r"""Classify videos by what happens, and when.

    \b
      skdejavid extract videos -o store --encoder MODEL
      skdejavid fit store -o model
      skdejavid evaluate model other_store
      skdejavid predict model other_store

    Exit codes: 0 success, 1 an error that the message explains, 2 wrong usage, 3 done but for
    videos that could not be read.
    """


@skdejavid.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--output", "store", required=True, help="Folder of the store.")
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False),
    help="A CSV file with the columns path (in FOLDER) and label. Without it, all videos in FOLDER "
    "are taken, and the first folder on the way to a video is its label.",
)
@click.option("--where", type=Choice(), multiple=True, help="Only rows with COLUMN=VALUE.")
@click.option(
    "--dtype",
    "store_dtype",
    type=click.Choice(["float32", "float16", "float64"]),
    default="float32",
    show_default=True,
)
@click.option("--shard", help="This machine's part of the videos: RANK/NUMBER, such as 0/4.")
@_options_of_encoding
@_options_of_windows
def extract(
    folder: Path,
    store: str,
    labels: str | None,
    where: tuple[tuple[str, str], ...],
    shard: str | None,
    encoder: str | None,
    encoder_argument: tuple[str, ...],
    **parameters: Any,
) -> None:
    """Encode the videos of FOLDER into a store.

    What the store holds is not encoded again: after an interruption, the same command goes on.
    """
    with _plain_errors():
        videos = read_table(folder, labels, where) if labels else read_folder(folder)
        extractor = _extractor(encoder, encoder_argument, store=store, **parameters)
        filled = extractor.extract(
            videos.paths, ids=videos.ids, shard=None if shard is None else _as_shard(shard)
        )
        if videos.labels is not None:
            of_id = dict(zip(videos.ids, videos.labels, strict=True))
            filled.set_labels({id: of_id[id] for id in filled.ids if id in of_id})
    click.echo(f"{filled}")
    _report(extractor)


@skdejavid.command()
@click.argument("store", type=click.Path(exists=True, file_okay=False))
@click.option("-o", "--output", "model", required=True, help="File of the model.")
@_options_of_choice
@click.option(
    "--average",
    is_flag=True,
    help="Instead: logistic regression on the mean over time, to compare with.",
)
@click.option(
    "--set",
    "parameters",
    type=Choice(),
    multiple=True,
    help="A parameter of DejaVidClassifier, such as n_timesteps=16.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("-v", "--verbose", is_flag=True, help="Show progress.")
def fit(
    store: str,
    model: str,
    labels: str | None,
    where: tuple[tuple[str, str], ...],
    average: bool,
    parameters: tuple[tuple[str, str], ...],
    seed: int,
    verbose: bool,
) -> None:
    """Learn from the sequences of STORE."""
    from skops import io

    with _plain_errors():
        opened = TSEStore(store)
        X, y = _labeled(opened, labels, where)
        if average:
            classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000))
            classifier.fit(_means(X), y)
        else:
            chosen = {name: _as_parameter(value) for name, value in parameters}
            classifier = DejaVidClassifier(random_state=seed, verbose=int(verbose))
            classifier.set_params(**chosen).fit(X, y)
        content = {
            "format": _MODEL_FORMAT,
            "average": average,
            "classifier": classifier,
            "extraction": json.dumps(opened.fingerprint),
        }
        io.dump(content, model)
    click.echo(f"learned from {X} of {len(set(y.tolist()))} classes: {model}")


@skdejavid.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.argument("inputs", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("-o", "--output", type=click.File("w"), default="-", help="CSV file.  [default: -]")
@click.option("--probabilities", is_flag=True, help="A column for the probability of each class.")
@_options_of_encoding
def predict(
    model: str,
    inputs: tuple[str, ...],
    output: Any,
    probabilities: bool,
    encoder: str | None,
    encoder_argument: tuple[str, ...],
    **parameters: Any,
) -> None:
    """Predict the classes of INPUTS: one store, or videos and folders of them.

    Videos are encoded as the model's training data was, with the --encoder that it was made with.
    """
    extractor = None
    with _plain_errors():
        loaded = _Model(model)
        if len(inputs) == 1 and (Path(inputs[0]) / "manifest.json").is_file():
            store = TSEStore(inputs[0])
            ids, X = store.ids, store.sequences()
        else:
            paths = [path for item in inputs for path in find_videos(Path(item))]
            extractor = _extractor(encoder, encoder_argument, **parameters)
            extractor.set_params(**loaded.windows(extractor))
            X = extractor.transform(paths)
            ids = [paths[i] for i in extractor.kept_]
        found = loaded.probabilities(X)
        writer = csv.writer(output)
        classes = [str(label) for label in loaded.classes]
        columns = [f"probability of {label}" for label in classes] if probabilities else []
        writer.writerow(["path", "label", "probability", *columns])
        for id, row in zip(ids, found, strict=True):
            best = int(row.argmax())
            more = [f"{value:.6g}" for value in row] if probabilities else []
            writer.writerow([id, classes[best], f"{row[best]:.6g}", *more])
    if extractor is not None:
        _report(extractor)


@skdejavid.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.argument("store", type=click.Path(exists=True, file_okay=False))
@_options_of_choice
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(
    model: str,
    store: str,
    labels: str | None,
    where: tuple[tuple[str, str], ...],
    as_json: bool,
) -> None:
    """Compare the predictions for STORE with its labels."""
    with _plain_errors():
        loaded = _Model(model)
        X, y = _labeled(TSEStore(store), labels, where)
        scores = _scores(y, loaded.probabilities(X), loaded.classes)
    if as_json:
        click.echo(json.dumps(scores))
        return
    for name, value in scores.items():
        click.echo(f"{name:<22}{value:.4f}" if isinstance(value, float) else f"{name:<22}{value}")


class _Model:
    """A model file, read without running anything that it holds."""

    def __init__(self, path: str) -> None:
        from skops import io

        try:
            unknown = set(io.get_untrusted_types(file=path)) - _MODEL_TYPES
            if unknown:
                raise ValueError(f"{path}: holds {sorted(unknown)}, which a model does not")
            content = io.load(path, trusted=sorted(_MODEL_TYPES))
        except Exception as error:
            raise ValueError(f"{path} is no model of skdejavid: {error}") from error
        if not isinstance(content, dict) or content.get("format") != _MODEL_FORMAT:
            raise ValueError(f"{path} is no model of skdejavid, or of another version")
        self._average = content["average"]
        self._classifier = content["classifier"]
        self._extraction = json.loads(content["extraction"])

    @property
    def classes(self) -> NDArray[Any]:
        """Labels, in the order of the columns of `probabilities`."""
        return self._classifier.classes_

    def probabilities(self, X: TSEArray) -> NDArray[np.floating]:
        """Probability of each class, (n_sequences, n_classes)."""
        return self._classifier.predict_proba(_means(X) if self._average else X)

    def windows(self, extractor: TSEExtractor) -> dict[str, Any]:
        """The parameters with which the training data was extracted, but for the encoder's own."""
        made_by = dict(self._extraction or {})
        if not made_by:
            raise ValueError("the model was learned from a store that does not say how it was made")
        if extractor.encoder_fingerprint() != made_by["encoder"]:
            raise ValueError("--encoder is another than that of the model's training data")
        own = {"encoder", "procedure"}
        parameters = {name: value for name, value in made_by.items() if name not in own}
        size = parameters["frame_size"]
        parameters["frame_size"] = None if size == [None, None] else tuple(size)
        return parameters


def _extractor(encoder: str | None, arguments: tuple[str, ...], **parameters: Any) -> TSEExtractor:
    """An extractor with those parameters that were given."""
    if encoder is None:
        raise ValueError("videos need --encoder")
    given = {name: value for name, value in parameters.items() if value not in (None, ())}
    for name in ("width", "mean", "std"):
        if name in given:
            given[name] = given[name][0] if len(given[name]) == 1 else list(given[name])
    from skdejavid.video.encoders import call_named

    named = call_named(encoder, *arguments) if ":" in encoder else encoder
    if arguments and named is encoder:
        raise ValueError("--encoder-argument is for a function, but --encoder names none")
    return TSEExtractor(named, verbose=1, **given)


def _labeled(
    store: TSEStore, table: str | None, where: tuple[tuple[str, str], ...]
) -> tuple[TSEArray, NDArray[Any]]:
    """Sequences of a store and their labels: all, or those that a table names."""
    if table is None:
        if where:
            raise ValueError("--where needs --labels: the table in which to look")
        if store.labels is None:
            raise ValueError(f"{store.path} has no labels: give them with --labels")
        return store.sequences(), store.labels
    label_of = read_labels(table, where)
    ids = [id for id in label_of if id in store]
    if not ids:
        raise ValueError(f"{store.path} holds none of the {len(label_of)} videos of {table}")
    if len(ids) < len(label_of):
        n_missing = len(label_of) - len(ids)
        click.echo(f"{n_missing} videos of {table} are not in {store.path}", err=True)
    return store.sequences(ids), np.array([label_of[id] for id in ids])


def _means(X: TSEArray) -> NDArray[np.floating]:
    """The mean over time, (n_sequences, n_features)."""
    return np.stack([sequence.mean(axis=0) for sequence in X])


def _scores(
    y: NDArray[Any], probabilities: NDArray[np.floating], classes: NDArray[Any]
) -> dict[str, Any]:
    unknown = sorted(set(y.tolist()) - set(classes.tolist()))
    if unknown:
        raise ValueError(f"the model knows nothing of the labels {unknown}")
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
    """A number, null, true or a list as JSON has them, else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _report(extractor: TSEExtractor) -> None:
    """Name what was left out, and say so in the exit code."""
    if not extractor.failures_:
        return
    for failure in extractor.failures_:
        click.echo(f"left out: {failure.id}: {failure.cause}", err=True)
    click.echo(f"{len(extractor.failures_)} video(s) left out", err=True)
    raise click.exceptions.Exit(_SOME_FAILED)
