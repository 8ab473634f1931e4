"""The command line: from a folder of videos to a store, a model and predictions."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from skdejavid.cli.options import (
    Assignment,
    as_options,
    clip_options,
    encoder_options,
    with_options,
)

# Each command imports what it runs when it runs: help and errors of usage need not wait for
# scikit-learn.

__all__ = ["skdejavid"]

# Options of extract that concern the store, which is not written with --check. The folder of the
# store is none of them: --check is added to the command that will write it.
_OF_STORE = ("shard", "add", "check_content", "retry_failures", "store_dtype", "on_error")


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Report errors that a user can fix as one line with exit code 1, without a traceback."""
    try:
        yield
    except (BrokenPipeError, click.exceptions.Exit):  # "| head" has closed the output; exit codes
        raise
    except (OSError, ValueError, TypeError, ImportError, MemoryError, RuntimeError) as error:
        command = click.get_current_context().command
        raise click.ClickException(as_options(str(error), command)) from error


_on_error_option = click.option(
    "--on-error",
    type=click.Choice(["warn", "skip", "raise"]),
    default="warn",
    show_default=True,
    help="What to do when a video cannot be read: end with an error (raise), or leave it out and "
    "name it at the end (warn and skip).",
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
      skdejavid demo
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
    help="Encode nothing and write no store, but a contact sheet (PNG) to FILE: frames of the "
    "first video, or of the video FOLDER, and the pixels that the encoder gets of them.",
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
        from skdejavid.cli.commands import check_extraction, extract_videos

        listed = (folder, labels, where, allow_outside)
        if check is not None:
            check_extraction(check, listed, n_windows, encoder, encoder_argument, **parameters)
        else:
            extract_videos(
                listed, encoder, encoder_argument, store=store, shard=shard, add=add, **parameters
            )


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
@click.option(
    "-v/-q",
    "--verbose/--quiet",
    default=None,
    help="Whether to show progress and the time left.  [default: at a terminal]",
)
def fit(
    store: str,
    model: str,
    labels: str | None,
    where: tuple[tuple[str, str], ...],
    parameters: tuple[tuple[str, str], ...],
    seed: int,
    verbose: bool | None,
) -> None:
    """Fit a classifier to the sequences of STORE that have labels.

    The file can also be read with DejaVidClassifier.load.
    """
    with _plain_errors():
        from skdejavid.cli.commands import fit_model

        if verbose is None:
            verbose = sys.stderr.isatty()
        fit_model(store, model, labels, where, dict(parameters), seed=seed, verbose=verbose)


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
    with _plain_errors():
        from skdejavid.cli.commands import predict_classes

        predict_classes(
            model, inputs, output, encoder, encoder_argument, has_all=probabilities, **parameters
        )


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
        from skdejavid.cli.commands import evaluate_model

        evaluate_model(model, store, labels, where, as_json=as_json)


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
    """Compare the files of STORE with their checksums; encode some videos again to compare them.

    Without FOLDER, only the files of STORE are read. With FOLDER, the videos that "skdejavid
    extract" was given, a sample of them (--sample) is encoded again, which takes as long as
    extracting these videos, and compared with STORE. Give the same --encoder.
    """
    if folder is None and encoder is not None:
        raise click.UsageError(
            "--encoder has no effect without FOLDER, the videos that 'skdejavid extract' was given."
        )
    with _plain_errors():
        from skdejavid.cli.commands import verify_store

        verify_store(
            store,
            folder,
            encoder,
            encoder_argument,
            sample=sample,
            tolerance=tolerance,
            seed=seed,
            **parameters,
        )


@skdejavid.command()
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(file_okay=False),
    default="demo_output",
    show_default=True,
    help="Folder for pictures and generated videos.",
)
def demo(folder: str) -> None:
    """Classify a real data set and generated videos, print accuracies, and draw alignments.

    Nothing is downloaded. The videos need torch and PyAV, the pictures matplotlib: pip install
    "skdejavid[demo]".
    """
    with _plain_errors():
        from skdejavid.demo.run import run_demo

        run_demo(folder)


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
