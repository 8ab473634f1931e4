"""Types and groups of options of the command line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

__all__ = ["Assignment", "as_options", "clip_options", "encoder_options", "with_options"]


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


def with_options(*options: Callable[..., Any]) -> Callable[..., Any]:
    """Return a decorator that adds several options to a command, in their order."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def as_options(message: str, command: click.Command) -> str:
    """Return a message of the package with options of a command in place of Python's parameters.

    ``layout='BCHW'`` becomes ``--layout BCHW``, and ``batch_size`` becomes ``--batch-size``; a
    single word without a value may be none of the parameters.
    """
    for parameter in command.params:
        name, option = parameter.name or "", parameter.opts[-1]
        if option.startswith("--"):
            word = rf"(?<![\w/.'\"-]){name}"
            message = re.sub(rf"{word}=(['\"]?)([\w.]+)\1", rf"{option} \2", message)
            if "_" in name:
                message = re.sub(rf"{word}(?![\w/.'\"=-]\w)", option, message)
    return message


# How clips are made; the defaults are those of `TSEExtractor`.
clip_options = with_options(
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
encoder_options = with_options(
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
        help="Name that identifies the encoder, needed if it has no fingerprint of its own.",
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
)
