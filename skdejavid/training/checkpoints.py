"""Checkpoints of training: an interrupted fit resumes from one and gives the same result.

A checkpoint is one file that is replaced as a whole after an epoch, so that a killed process leaves
either the previous or the new one. It belongs to one combination of data and parameters, stores
their content hashes, and is named after them: the fits of a search share a folder.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skdejavid.files.array_file import ArrayFile, as_written, check_field, write_array_file
from skdejavid.files.atomic import remove_temporaries
from skdejavid.files.random_state import GENERATOR_SIZE, generator_from_state
from skdejavid.sequences import TSEArray
from skdejavid.training.loop import Training, TrainingState

__all__ = ["Checkpoint", "CheckpointWriter", "check_folder", "content_hash"]

# Version 1 named the parameters of an older release and cannot be resumed.
_FORMAT, _VERSION = "checkpoint", 2
_NAME = "checkpoint-{fingerprint}.safetensors"

# The files of a folder, of which those written last are kept.
_MOST_FILES = 1000

# How many times other processes may disturb the writing of one checkpoint.
_MOST_DISTURBANCES = 20

# Writing takes at most this part of the time of training.
_SHARE_OF_TIME = 0.05


_REMEDY = "Remove the file to start again."


def check_folder(folder: str | PathLike[str] | None) -> None:
    """Check that `checkpoint_dir` names a folder, or one that can be made; None is allowed.

    Raises
    ------
    NotADirectoryError
        If it, or what it should be in, is a file.
    ValueError
        If it is empty, or no name at all.
    """
    if folder is None:
        return
    name = fspath(folder)
    if name == "":
        raise ValueError(
            "checkpoint_dir must be the name of a folder, got '': None writes no checkpoints, and "
            "'.' is the working folder"
        )
    if "\0" in name:
        raise ValueError(f"checkpoint_dir must be the name of a folder, got {name!r}")
    for path in (Path(name), *Path(name).parents):
        if path.is_dir():
            return
        if path.is_symlink() or path.exists():
            raise NotADirectoryError(
                f"checkpoint_dir={name!r} must be a folder, but {str(path)!r} is none: remove it, "
                "or choose another name"
            )


class Checkpoint:
    """The checkpoint of a fit in a folder, which is created if it does not exist.

    Processes that run the same fit at once write to the same file, and each finds a whole state.

    Parameters
    ----------
    folder : str or path
    key : dict of str to str
        Names of the parameters and data that determine the result, and a representation of each
        that differs if its content does.
    """

    def __init__(self, folder: str | PathLike[str], key: Mapping[str, str]) -> None:
        self._folder, self._key = Path(fspath(folder)), dict(key)
        self._folder.mkdir(parents=True, exist_ok=True)
        described = json.dumps(self._key, sort_keys=True).encode()
        name = _NAME.format(fingerprint=sha256(described).hexdigest()[:16])
        self.path = self._folder / name
        remove_temporaries(self.path)
        self._seconds_of_writing = 0.0
        self._written_at = time.monotonic()

    def read(self) -> TrainingState | None:
        """Return the stored state, or None if the file does not exist.

        Raises
        ------
        ValueError
            If the file is damaged, or belongs to other data or parameters; the message names those
            that differ, and the remedy.
        """
        if not self.path.exists():
            return None
        try:
            with ArrayFile(self.path, _FORMAT, _VERSION) as file:
                self._check_key(file.description)
                return _read_state(file)
        except (AttributeError, KeyError, OverflowError, TypeError) as error:
            raise ValueError(f"{self.path} is corrupt: {error!r}. {_REMEDY}") from error
        except ValueError as error:
            named = str(error) if str(self.path) in str(error) else f"{self.path}: {error}"
            raise ValueError(f"{named.rstrip('.')}. {_REMEDY}") from error

    def write_if_due(self, state: Callable[[], TrainingState]) -> None:
        """Write the state that `state` returns, if the last write is long enough ago."""
        waited = time.monotonic() - self._written_at
        if waited * _SHARE_OF_TIME >= self._seconds_of_writing:
            self.write(state())

    def write(self, state: TrainingState) -> None:
        """Write a state; a crash leaves either the previous file or the new one."""
        begin = time.monotonic()
        arrays = {f"array.{name}": array for name, array in state.arrays.items()}
        arrays |= {f"history.{name}": values for name, values in state.history.items()}
        description = {"format": _FORMAT, "format_version": _VERSION}
        description |= {"version": version("skdejavid"), "key": self._key}
        for name in ("initial_generator", "generator"):
            generator = dict(getattr(state, name))
            arrays[name] = generator.pop("key")
            description[name] = generator
        description |= {
            "arrays": list(state.arrays),
            "history": list(state.history),
            "distance_scale": state.distance_scale,
            "best_epoch": state.best_epoch,
        }
        arrays["best_loss"] = np.array([state.best_loss])  # may be infinite, unlike JSON's
        self._replace(description, arrays)
        self._written_at = time.monotonic()
        self._seconds_of_writing = self._written_at - begin

    def _replace(self, description: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        """Write the file; the first time, remove the oldest if the folder has too many."""
        if not self.path.exists():
            files = self._folder.glob(_NAME.format(fingerprint="[0-9a-f]" * 16))
            oldest_first = sorted(files, key=_time_of_writing)
            for path in oldest_first[: max(0, len(oldest_first) - _MOST_FILES + 1)]:
                path.unlink(missing_ok=True)
        for _ in range(_MOST_DISTURBANCES):
            # Another process that begins the same fit takes the temporary file of this one for
            # that of a crash, and several may begin one after the other.
            with suppress(FileNotFoundError):
                return write_array_file(self.path, description, arrays)
            self._folder.mkdir(parents=True, exist_ok=True)
        write_array_file(self.path, description, arrays)

    def _check_key(self, description: Mapping[str, Any]) -> None:
        number = description["format_version"]
        check_field(
            number == _VERSION,
            "format_version",
            f"is {number}: a checkpoint of an older version of skdejavid cannot be resumed",
        )
        key = description.get("key")
        check_field(isinstance(key, dict), "key", "is missing")
        assert isinstance(key, dict)
        names = sorted({*key, *self._key})
        differing = [name for name in names if key.get(name) != self._key.get(name)]
        if differing:
            raise ValueError(
                f"it is the checkpoint of another fit, whose {', '.join(differing)} differ(s), "
                "and has been renamed or edited"
            )


class CheckpointWriter:
    """Observer that writes checkpoints: always after the last epoch, before that if one is due."""

    def __init__(self, checkpoint: Checkpoint, initial_generator: dict[str, Any]) -> None:
        self._checkpoint, self._initial_generator = checkpoint, initial_generator

    def write(self, training: Training) -> None:
        """Write the state of a training now."""
        self._checkpoint.write(self._state(training))

    def on_epoch_begin(self) -> None:
        """Do nothing."""

    def on_epoch_end(self, record: dict[str, float], training: Training) -> None:
        """Write a checkpoint after the last epoch, or if one is due."""
        if training.is_over:
            self.write(training)
        else:
            self._checkpoint.write_if_due(lambda: self._state(training))

    def _state(self, training: Training) -> TrainingState:
        return replace(training.state(), initial_generator=self._initial_generator)


def _time_of_writing(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:  # removed by another process
        return 0.0


def _read_state(file: ArrayFile) -> TrainingState:
    description = file.description

    def numbers(name: str) -> NDArray[Any]:
        check_field(name in file.headers, name, "is missing")
        dtype, shape = file.headers[name]
        return file.array(name, shape, (dtype,), must_be_finite=False)

    generators = [
        {**description[name], "key": file.array(name, (GENERATOR_SIZE,), (np.uint32,))}
        for name in ("initial_generator", "generator")
    ]
    for generator in generators:
        generator_from_state(generator)
    scale, best_epoch = description["distance_scale"], description["best_epoch"]
    is_positive = type(scale) in (int, float) and 0 < scale <= sys.float_info.max
    check_field(is_positive, "distance_scale", f"must be positive and finite, got {scale!r}")
    history = _read_history(file)
    n_epochs = len(next(iter(history.values()), ()))
    is_epoch = best_epoch is None or (type(best_epoch) is int and 0 <= best_epoch <= n_epochs)
    problem = f"must be null or from 0 to {n_epochs}, got {best_epoch!r}"
    check_field(is_epoch, "best_epoch", problem)
    best_loss = float(file.array("best_loss", (1,), (np.float64,), must_be_finite=False)[0])
    check_field(not math.isnan(best_loss), "best_loss", "is NaN")
    return TrainingState(
        arrays={name: numbers(f"array.{name}") for name in description["arrays"]},
        history=history,
        distance_scale=float(scale),
        best_epoch=best_epoch,
        best_loss=best_loss,
        initial_generator=generators[0],
        generator=generators[1],
    )


def _read_history(file: ArrayFile) -> dict[str, NDArray[np.float64]]:
    """Read one number per epoch for each metric."""
    history: dict[str, NDArray[np.float64]] = {}
    n_epochs = None
    for name in file.description["history"]:
        values = file.array(f"history.{name}", (n_epochs,), (np.float64,), must_be_finite=False)
        history[name], n_epochs = values, len(values)
    check_field("loss" in history, "history", "has no loss")
    return history


def content_hash(*parts: TSEArray | NDArray[Any]) -> str:
    """Return a content hash of arrays and sequences, independent of their layout in memory."""
    hashed = sha256()
    for part in parts:
        if isinstance(part, TSEArray):
            hashed.update(np.ascontiguousarray(part.lengths).data)
            for _, frames in part.chunks():
                hashed.update(np.ascontiguousarray(frames).data)
        elif part.dtype.kind in "OUT":
            hashed.update(repr(part.tolist()).encode())
        else:
            hashed.update(as_written(part).view(np.uint8).data)  # times have no buffer
        hashed.update(b"|")
    return hashed.hexdigest()
