"""A training run on disk, so that one that was interrupted ends as if it had not been.

A checkpoint is one file, replaced as a whole after epochs: whenever the process dies, the one
before is there. It belongs to one set of data and parameters, of which it holds checksums.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skdejavid.files.array_file import ModelFile, check_field, write_model_file
from skdejavid.files.atomic import remove_temporaries
from skdejavid.files.random_state import GENERATOR_SIZE
from skdejavid.sequences import TSEArray

__all__ = ["Checkpoint", "TrainingState", "content_hash"]

_FORMAT, _VERSION = "checkpoint", 1
_NAME = "checkpoint.safetensors"

# Writing takes at most this part of the time of training.
_SHARE_OF_TIME = 0.05


@dataclass(frozen=True)
class TrainingState:
    """All that the rest of a training run depends on, between two of its epochs."""

    arrays: dict[str, NDArray[Any]]
    history: dict[str, NDArray[np.float64]]
    distance_scale: float
    best_epoch: int | None
    best_loss: float
    initial_generator: dict[str, Any]  # before the run drew anything, see `describe_generator`
    generator: dict[str, Any]  # now


class Checkpoint:
    """The checkpoint of a run in a folder, which is made if it is not there.

    Parameters
    ----------
    folder : str or path
    run : dict of str
        What the run is of: of each thing a name, and a text that differs if it does.
    """

    def __init__(self, folder: str | PathLike[str], run: Mapping[str, str]) -> None:
        self._folder, self._run = Path(fspath(folder)), dict(run)
        self._folder.mkdir(parents=True, exist_ok=True)
        self.path = self._folder / _NAME
        remove_temporaries(self.path)
        self._seconds_of_writing = 0.0
        self._written_at = time.monotonic()

    def read(self) -> TrainingState | None:
        """Where the run was interrupted; None if it has not begun.

        Raises
        ------
        ValueError
            If the file is damaged, or the checkpoint of another run; the message names what
            differs.
        """
        if not self.path.exists():
            return None
        with ModelFile(self.path, _FORMAT, _VERSION) as file:
            try:
                self._require_same_run(file.description.get("run"))
                return _read_state(file)
            except (AttributeError, KeyError, OverflowError, TypeError) as error:
                raise ValueError(f"{self.path} is corrupt: {error!r}") from error
            except ValueError as error:
                raise ValueError(f"{self.path}: {error}") from error

    def write_if_due(self, state: Any) -> None:
        """Write what `state` returns, if that has not been done for long enough."""
        waited = time.monotonic() - self._written_at
        if waited * _SHARE_OF_TIME >= self._seconds_of_writing:
            self.write(state())

    def write(self, state: TrainingState) -> None:
        """Write a state; at any moment either the old one or the new one is there, whole."""
        begin = time.monotonic()
        arrays = {f"array.{name}": array for name, array in state.arrays.items()}
        arrays |= {f"history.{name}": values for name, values in state.history.items()}
        description = {"format": _FORMAT, "format_version": _VERSION}
        description |= {"version": version("skdejavid"), "run": self._run}
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
        arrays["best_loss"] = np.array([state.best_loss])  # may be infinite, which JSON has not
        write_model_file(self.path, description, arrays)
        self._written_at = time.monotonic()
        self._seconds_of_writing = self._written_at - begin

    def _require_same_run(self, run: Any) -> None:
        check_field(isinstance(run, dict), "run", "is missing")
        names = sorted({*run, *self._run})
        differing = [name for name in names if run.get(name) != self._run.get(name)]
        if differing:
            raise ValueError(
                f"it is the checkpoint of another fit, of which {', '.join(differing)} differ(s). "
                "Give another checkpoint_dir, or remove the file to begin anew."
            )


def _read_state(file: ModelFile) -> TrainingState:
    description = file.description

    def numbers(name: str) -> NDArray[Any]:
        check_field(name in file.headers, name, "is missing")
        dtype, shape = file.headers[name]
        return file.array(name, shape, (dtype,), must_be_finite=False)

    generators = [
        {**description[name], "key": file.array(name, (GENERATOR_SIZE,), (np.uint32,))}
        for name in ("initial_generator", "generator")
    ]
    best_epoch = description["best_epoch"]
    check_field(best_epoch is None or type(best_epoch) is int, "best_epoch", "is no number")
    return TrainingState(
        arrays={name: numbers(f"array.{name}") for name in description["arrays"]},
        history={name: numbers(f"history.{name}") for name in description["history"]},
        distance_scale=float(description["distance_scale"]),
        best_epoch=best_epoch,
        best_loss=float(file.array("best_loss", (1,), (np.float64,), must_be_finite=False)[0]),
        initial_generator=generators[0],
        generator=generators[1],
    )


def content_hash(*parts: TSEArray | NDArray[Any]) -> str:
    """A text that differs if what it is made of does, whatever of it lies in which file."""
    hashed = sha256()
    for part in parts:
        if isinstance(part, TSEArray):
            hashed.update(np.ascontiguousarray(part.lengths).data)
            for _, frames in part.chunks():
                hashed.update(np.ascontiguousarray(frames).data)
        elif part.dtype.kind in "OU":
            hashed.update(repr(part.tolist()).encode())
        else:
            hashed.update(np.ascontiguousarray(part).data)
        hashed.update(b"|")
    return hashed.hexdigest()
