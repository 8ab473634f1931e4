"""What a fitted classifier consists of, in a file and out of one, every field checked."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skdejavid.files.array_file import ModelFile, check_field, write_model_file
from skdejavid.files.random_state import GENERATOR_SIZE, describe_generator, read_generator

__all__ = ["Model", "read_model", "write_model"]

_FORMAT, _VERSION = "classifier", 1
_REALS = (np.float32, np.float64)

_HISTORY = ("loss", "accuracy", "learning_rate", "validation_loss", "validation_accuracy")
_ALWAYS_IN_HISTORY = _HISTORY[:3]


class Model(NamedTuple):
    """A fitted classifier's state; the names are those of its attributes, without ``_``."""

    parameters: dict[str, Any]
    classes: NDArray[Any]
    centroids: NDArray[np.floating]
    log_weights: NDArray[np.floating]
    lags: tuple[int | float, ...]
    normalization: str
    distance_scale: float
    history: dict[str, NDArray[np.float64]]
    best_iter: int | None
    n_features_in: int
    feature_names_in: NDArray[np.object_] | None
    metadata: dict[str, Any]  # whatever JSON can hold


def write_model(path: str | PathLike[str], model: Model, version: str) -> None:
    """Write a model of this version of the package.

    Raises
    ------
    ValueError
        If a label or a parameter is of a type that the format does not have; nothing is written.
    """
    parameters, arrays = _described_parameters(model.parameters)
    labels, numbers = _described_labels(model.classes)
    names = model.feature_names_in
    description = {
        "format": _FORMAT,
        "format_version": _VERSION,
        "version": version,
        "parameters": parameters,
        "classes": labels,
        "lags": list(model.lags),
        "normalization": model.normalization,
        "distance_scale": model.distance_scale,
        "best_iter": model.best_iter,
        "n_features_in": model.n_features_in,
        "feature_names_in": None if names is None else [str(name) for name in names],
        "metadata": model.metadata,
    }
    arrays |= numbers | {"centroids": model.centroids, "log_weights": model.log_weights}
    arrays |= {f"history.{name}": values for name, values in model.history.items()}
    write_model_file(Path(fspath(path)), description, arrays)


def read_model(path: str | PathLike[str]) -> Model:
    """Read a model, of which nothing is believed.

    Raises
    ------
    ValueError
        If the file is no model, is damaged, or a field is not what it has to be; the message names
        the file and the field.
    FileNotFoundError, OSError
    """
    with ModelFile(Path(fspath(path)), _FORMAT, _VERSION) as file:
        try:
            return _read_model(file)
        except ValueError as error:
            raise ValueError(f"{fspath(path)} is a corrupt model file: {error}") from error


def _read_model(file: ModelFile) -> Model:
    fields = _Fields(file.description)
    # What says how large the arrays are comes first: of a wrong one nothing is read.
    lags = tuple(fields.take("lags", list))
    for lag in lags:
        check_field(type(lag) in (int, float), "lags", f"holds {lag!r}, expected numbers")
    n_features_in = fields.take("n_features_in", int)
    n_features = n_features_in * (1 + len(lags))
    check_field(n_features_in >= 1, "n_features_in", f"must be at least 1, got {n_features_in}")
    classes = _read_labels(fields.take("classes", dict), file)
    shape = (len(classes), None, n_features)
    centroids = file.array("centroids", shape, _REALS)
    check_field(centroids.shape[1] >= 1, "centroids", "has no time steps")
    log_weights = file.array("log_weights", centroids.shape, (centroids.dtype,))
    with np.errstate(over="ignore", under="ignore"):
        weights = np.exp(log_weights)
    check_field(
        bool(((weights > 0) & np.isfinite(weights)).all()),
        "log_weights", f"holds a number whose exponential is not a positive {weights.dtype}",
    )  # fmt: skip
    normalization = fields.take("normalization", str)
    check_field(
        normalization in ("layer", "global"),
        "normalization", f"must be 'layer' or 'global', got {normalization!r}",
    )  # fmt: skip
    scale = fields.take("distance_scale", (int, float))
    is_good = 0 < scale <= sys.float_info.max  # integers of JSON have no limit
    check_field(is_good, "distance_scale", "must be positive and finite")
    history = _read_history(file)
    n_iter = len(history["loss"])
    best_iter = fields.take("best_iter", (int, type(None)))
    check_field(
        best_iter is None or 0 <= best_iter <= n_iter,
        "best_iter", f"must be null or from 0 to {n_iter}, got {best_iter}",
    )  # fmt: skip
    names = _read_names(fields.take("feature_names_in", (list, type(None))), n_features_in)
    parameters = _read_parameters(fields.take("parameters", dict), file)
    metadata = fields.take("metadata", dict) if "metadata" in file.description else {}
    return Model(
        parameters, classes, centroids, log_weights, lags, normalization, float(scale), history,
        best_iter, n_features_in, names, metadata,
    )  # fmt: skip


class _Fields:
    """The fields of a description, each of one of some types exactly."""

    def __init__(self, description: Mapping[str, Any]) -> None:
        self._description = description

    def take(self, name: str, types: type | tuple[type, ...]) -> Any:
        check_field(name in self._description, name, "is missing")
        value = self._description[name]
        expected = types if isinstance(types, tuple) else (types,)
        kinds = " or ".join(kind.__name__ for kind in expected)
        check_field(type(value) in expected, name, f"must be {kinds}, got {type(value).__name__}")
        return value


def _described_parameters(
    parameters: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    described: dict[str, Any] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for name, value in parameters.items():
        if isinstance(value, np.random.RandomState):
            generator = describe_generator(value)
            arrays[name] = generator.pop("key")
            described[name] = generator
        elif isinstance(value, Mapping):  # of labels; JSON has no keys but strings
            pairs = [[_plain(part, name) for part in item] for item in value.items()]
            described[name] = {"pairs": pairs}
        elif isinstance(value, PathLike):
            described[name] = fspath(value)
        elif isinstance(value, (list, tuple, np.ndarray)):
            described[name] = [_plain(item, name) for item in value]
        else:
            described[name] = _plain(value, name)
    return described, arrays


def _plain(value: Any, name: str) -> Any:
    """A value that JSON has; of NumPy's numbers those of Python."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is not None and type(value) not in (bool, int, float, str):
        raise ValueError(f"{name} holds a {type(value).__name__}, which a model file cannot hold")
    return value


def _read_parameters(described: Mapping[str, Any], file: ModelFile) -> dict[str, Any]:
    return {name: _read_parameter(name, value, file) for name, value in described.items()}


def _read_parameter(name: str, value: Any, file: ModelFile) -> Any:
    if not isinstance(value, dict):
        return value
    if "pairs" not in value:
        return _read_random_state(name, value, file)
    pairs = _Fields(value).take("pairs", list)
    for pair in pairs:
        is_pair = isinstance(pair, list) and len(pair) == 2
        check_field(
            is_pair and not isinstance(pair[0], (list, dict)), name, "has a pair that is none"
        )
    return dict(pairs)


def _read_random_state(name: str, value: Mapping[str, Any], file: ModelFile) -> Any:
    fields = _Fields(value)
    position, has_gauss = fields.take("position", int), fields.take("has_gauss", int)
    check_field(0 <= position <= GENERATOR_SIZE, name, f"has position {position}")
    check_field(has_gauss in (0, 1), name, f"has has_gauss {has_gauss}")
    key = file.array(name, (GENERATOR_SIZE,), (np.uint32,))
    return read_generator(dict(value) | {"key": key, "gauss": fields.take("gauss", float)})


def _described_labels(
    classes: NDArray[Any],
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Labels that are numbers as an array, strings as JSON."""
    kind = classes.dtype.kind
    if kind in "biuf" and classes.dtype.itemsize <= 8:
        return {"type": "numbers"}, {"classes": classes}
    if kind == "O":
        for label in classes:
            if not isinstance(label, str):
                raise ValueError(
                    f"classes_ of dtype object holds a {type(label).__name__}, and a model file "
                    "can only hold strings or numbers: convert y before fit"
                )
    elif kind not in "UT":
        raise ValueError(f"classes_ of dtype {classes.dtype} cannot be held by a model file")
    type_ = "strings" if kind == "U" else "objects"
    return {"type": type_, "labels": [str(label) for label in classes]}, {}


def _read_labels(described: Mapping[str, Any], file: ModelFile) -> NDArray[Any]:
    fields = _Fields(described)
    type_ = fields.take("type", str)
    check_field(
        type_ in ("numbers", "strings", "objects"), "classes", f"has the unknown type {type_!r}"
    )
    classes: NDArray[Any]
    if type_ == "numbers":
        numbers = tuple(np.dtype(code).type for code in "?bBhHiIlLefd")
        classes = file.array("classes", (None,), numbers)
    else:
        labels = fields.take("labels", list)
        check_field(
            all(type(label) is str for label in labels), "classes", "holds other than strings"
        )
        classes = np.array(labels, dtype=object)
    check_field(len(classes) >= 1, "classes", "is empty")
    check_field(bool((classes[:-1] < classes[1:]).all()), "classes", "is not sorted, or repeats")
    return classes.astype(str) if type_ == "strings" else classes


def _read_history(file: ModelFile) -> dict[str, NDArray[np.float64]]:
    n_iter = None
    history = {}
    for name in _HISTORY:
        field = f"history.{name}"
        if name in _ALWAYS_IN_HISTORY or field in file.headers:
            history[name] = file.array(field, (n_iter,), (np.float64,))
            n_iter = len(history[name])
    return history


def _read_names(names: list[Any] | None, n_features: int) -> NDArray[np.object_] | None:
    if names is None:
        return None
    check_field(all(type(name) is str for name in names), "feature_names_in", "holds no strings")
    check_field(
        len(names) == n_features,
        "feature_names_in", f"has {len(names)} names for {n_features} features",
    )  # fmt: skip
    return np.array(names, dtype=object)
