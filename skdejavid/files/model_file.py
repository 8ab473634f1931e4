"""Files of fitted estimators: each attribute is a field that is checked when it is read."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skdejavid.compat.parameters import as_python
from skdejavid.files.array_file import (
    ArrayFile,
    ArraySource,
    UnwrittenFile,
    as_written,
    check_field,
    write_array_file,
)
from skdejavid.files.random_state import GENERATOR_SIZE, generator_from_state, generator_state

__all__ = [
    "Array",
    "Choice",
    "Count",
    "FeatureNames",
    "FeatureScale",
    "Features",
    "Field",
    "Flag",
    "History",
    "Labels",
    "Lags",
    "LogWeights",
    "Model",
    "PositiveNumber",
    "read_model",
    "write_model",
]

_VERSION = 2
_REALS = (np.float32, np.float64)

# Readers of JSON are recursive, and how deep they can go depends on their caller.
_MOST_LEVELS_OF_METADATA = 100

Arrays: TypeAlias = dict[str, NDArray[Any]]


class Model(NamedTuple):
    """The state of a fitted estimator."""

    parameters: dict[str, Any]
    attributes: dict[str, Any]  # by name; one whose value is None may be missing
    metadata: dict[str, Any]  # anything that JSON can store


class Field(Protocol):
    """The kind of one fitted attribute: how a file stores it, and which values are allowed.

    A field is called by the name of its attribute without the underscore.
    """

    def describe(self, name: str, value: Any) -> tuple[dict[str, Any], Arrays]:
        """Return the entries of the description and the arrays that store a value."""

    def read(self, name: str, reader: Reader) -> Any:
        """Return the value, or raise ValueError if the file stores none that is allowed."""


@dataclass
class Reader:
    """A file, and the sizes that fields read before have given to named dimensions."""

    file: ArraySource
    description: Mapping[str, Any]
    sizes: dict[str, int] = field(default_factory=dict)

    def take(self, name: str, types: type | tuple[type, ...]) -> Any:
        """Return an entry of the description, which must be of exactly one of the types."""
        check_field(name in self.description, name, "is missing")
        value = self.description[name]
        expected = types if isinstance(types, tuple) else (types,)
        kinds = " or ".join(kind.__name__ for kind in expected)
        check_field(type(value) in expected, name, f"must be {kinds}, got {type(value).__name__}")
        return value


class _Described:
    """A field that the description stores as it is."""

    def describe(self, name: str, value: Any) -> tuple[dict[str, Any], Arrays]:
        return {name: as_python(value)}, {}


class Lags:
    """A tuple of numbers."""

    def describe(self, name: str, value: Any) -> tuple[dict[str, Any], Arrays]:
        return {name: [as_python(lag) for lag in value]}, {}

    def read(self, name: str, reader: Reader) -> tuple[int | float, ...]:
        lags = reader.take(name, list)
        for lag in lags:
            check_field(type(lag) in (int, float), name, f"contains {lag!r}, expected numbers")
        reader.sizes["n_lags"] = len(lags)
        return tuple(lags)


class Features(_Described):
    """The number of features of a frame; read after `Lags`, which multiply it in centroids."""

    def read(self, name: str, reader: Reader) -> int:
        number: int = reader.take(name, int)
        check_field(number >= 1, name, f"must be at least 1, got {number}")
        reader.sizes["n_features_in"] = number
        reader.sizes["n_features"] = number * (1 + reader.sizes["n_lags"])
        return number


class FeatureNames:
    """Names of the features, or None."""

    def describe(self, name: str, value: Any) -> tuple[dict[str, Any], Arrays]:
        return {name: None if value is None else [as_python(item) for item in value]}, {}

    def read(self, name: str, reader: Reader) -> NDArray[np.object_] | None:
        names = reader.take(name, (list, type(None)))
        if names is None:
            return None
        check_field(all(type(item) is str for item in names), name, "must contain only strings")
        n_features = reader.sizes["n_features_in"]
        check_field(
            len(names) == n_features, name, f"has {len(names)} names for {n_features} features"
        )
        return np.array(names, dtype=object)


@dataclass(frozen=True)
class Array:
    """A floating-point array of finite numbers.

    Parameters
    ----------
    dimensions : tuple of str
        Names of the dimensions. The first array that has a dimension decides its size, which is at
        least 1.
    """

    dimensions: tuple[str, ...]

    def describe(self, name: str, value: Any) -> tuple[dict[str, Any], Arrays]:
        return {}, {name: as_written(value)}

    def read(self, name: str, reader: Reader) -> NDArray[np.floating]:
        shape = tuple(reader.sizes.get(dimension) for dimension in self.dimensions)
        array = reader.file.array(name, shape, _REALS)
        for dimension, size in zip(self.dimensions, array.shape, strict=True):
            check_field(size >= 1, name, f"must have a {dimension} of at least 1")
            reader.sizes[dimension] = size
        return array


@dataclass(frozen=True)
class LogWeights:
    """Logarithms of weights, an array of the shape and dtype of another one.

    Minus infinity is the logarithm of the weight 0, which switches a feature off.
    """

    like: str

    def describe(self, name: str, value: Any) -> tuple[dict[str, Any], Arrays]:
        return {}, {name: as_written(value)}

    def read(self, name: str, reader: Reader) -> NDArray[np.floating]:
        dtype, shape = reader.file.headers[self.like]
        array = reader.file.array(name, shape, (dtype,), must_be_finite=False)
        check_field(not bool(np.isnan(array).any()), name, "contains NaN")
        with np.errstate(over="ignore", under="ignore"):
            is_good = bool(np.isfinite(np.exp(array)).all())
        check_field(is_good, name, f"contains a number whose exponential is not a finite {dtype}")
        return array


class FeatureScale:
    """A positive number for each feature of centroids; None in files of versions without it."""

    def describe(self, name: str, value: Any) -> tuple[dict[str, Any], Arrays]:
        return {}, {} if value is None else {name: value}

    def read(self, name: str, reader: Reader) -> NDArray[np.floating] | None:
        if name not in reader.file.headers:
            return None
        scale = reader.file.array(name, (reader.sizes["n_features"],), _REALS)
        check_field(bool((scale > 0).all()), name, "must be positive")
        return scale


@dataclass(frozen=True)
class Choice(_Described):
    """One of a fixed set of strings."""

    options: tuple[str, ...]

    def read(self, name: str, reader: Reader) -> str:
        value: str = reader.take(name, str)
        wanted = " or ".join(map(repr, self.options))
        check_field(value in self.options, name, f"must be {wanted}, got {value!r}")
        return value


class Flag(_Described):
    """True, False, or None if it is unknown, as in files that were written before there was one."""

    def read(self, name: str, reader: Reader) -> bool | None:
        if name not in reader.description:
            return None
        value: bool | None = reader.take(name, (bool, type(None)))
        return value


class PositiveNumber(_Described):
    """A positive and finite number."""

    def read(self, name: str, reader: Reader) -> float:
        value = reader.take(name, (int, float))
        is_good = 0 < value <= sys.float_info.max  # integers of JSON have no limit
        check_field(is_good, name, "must be positive and finite")
        return float(value)


@dataclass(frozen=True)
class Count(_Described):
    """A number from 0 to the size of a dimension, or None."""

    up_to: str

    def read(self, name: str, reader: Reader) -> int | None:
        value: int | None = reader.take(name, (int, type(None)))
        most = reader.sizes[self.up_to]
        is_good = value is None or 0 <= value <= most
        check_field(is_good, name, f"must be null or from 0 to {most}, got {value}")
        return value


@dataclass(frozen=True)
class History:
    """A dict of one array per metric, each with one number per epoch."""

    always: tuple[str, ...]
    optional: tuple[str, ...] = ()

    def describe(self, name: str, value: Any) -> tuple[dict[str, Any], Arrays]:
        for metric in value:
            if metric not in self.always + self.optional:
                raise ValueError(f"it contains the unknown metric {metric!r}")
        arrays = {key: as_written(values, np.float64) for key, values in value.items()}
        return {}, {f"{name}.{metric}": values for metric, values in arrays.items()}

    def read(self, name: str, reader: Reader) -> dict[str, NDArray[np.float64]]:
        history = {}
        for metric in self.always + self.optional:
            key = f"{name}.{metric}"
            if metric in self.always or key in reader.file.headers:
                shape = (reader.sizes.get("n_epochs"),)
                history[metric] = reader.file.array(key, shape, (np.float64,))
                reader.sizes["n_epochs"] = len(history[metric])
        return history


@dataclass(frozen=True)
class Labels:
    """Sorted class labels: numbers as an array, strings in the description.

    Parameters
    ----------
    dimension : str
        The dimension whose size is the number of classes.
    """

    dimension: str

    def describe(self, name: str, value: Any) -> tuple[dict[str, Any], Arrays]:
        value = as_written(value)
        kind = value.dtype.kind
        if kind in "biuf" and value.dtype.itemsize <= 8:
            return {name: {"type": "numbers"}}, {name: value}
        if kind == "O":
            for label in value:
                if not isinstance(label, str):
                    raise ValueError(
                        f"{name}_ of dtype object contains a {type(label).__name__}, but a model "
                        "file can store only strings or numbers: convert y before fit"
                    )
        elif kind not in "UT":
            raise ValueError(
                f"{name}_ has dtype {value.dtype}, which a model file cannot store: convert y to "
                "strings or numbers before fit"
            )
        type_ = "strings" if kind == "U" else "objects"
        return {name: {"type": type_, "labels": [str(label) for label in value]}}, {}

    def read(self, name: str, reader: Reader) -> NDArray[Any]:
        entry = Reader(reader.file, reader.take(name, dict))
        type_ = entry.take("type", str)
        is_type = type_ in ("numbers", "strings", "objects")
        check_field(is_type, name, f"has the unknown type {type_!r}")
        labels: NDArray[Any]
        if type_ == "numbers":
            numbers = tuple(np.dtype(code).type for code in "?bBhHiIlLefd")
            labels = reader.file.array(name, (None,), numbers)
        else:
            strings = entry.take("labels", list)
            is_good = all(type(label) is str for label in strings)
            check_field(is_good, name, "must contain only strings")
            # NumPy cuts the null characters off.
            is_kept = type_ == "objects" or not any(label.endswith("\0") for label in strings)
            check_field(is_kept, name, "contains a label that ends with a null character")
            labels = np.array(strings, dtype=object)
        check_field(len(labels) >= 1, name, "is empty")
        check_field(
            bool((labels[:-1] < labels[1:]).all()), name, "is not sorted, or contains duplicates"
        )
        reader.sizes[self.dimension] = len(labels)
        return labels.astype(str) if type_ == "strings" else labels


def write_model(
    path: str | PathLike[str],
    model: Model,
    *,
    kind: str,
    fields: Mapping[str, Field],
    version: str,
    check: Callable[[Model], object] = lambda model: None,
) -> None:
    """Write a model file, after a check that `read_model` would read it.

    Parameters
    ----------
    path : str or path
    model : Model
    kind : str
        Kind of estimator, such as "classifier".
    fields : dict of str to Field
        The fields of the attributes, by name.
    version : str
        Version of the package, for messages of `read_model`.
    check : callable, optional
        Raises TypeError or ValueError if the model, as it would be read, cannot be used.

    Raises
    ------
    ValueError
        If an attribute, a parameter or the metadata cannot be stored, or would not be read; nothing
        is written.
    OSError
        If the file cannot be written; an existing one stays as it is.
    """
    _check_metadata(model.metadata)
    description, arrays = _describe_parameters(model.parameters)
    description = {"parameters": description, "metadata": model.metadata}
    for attribute, kind_of_field in fields.items():
        entries, more_arrays = _describe(attribute, kind_of_field, model.attributes.get(attribute))
        description |= entries
        arrays |= more_arrays
    source = UnwrittenFile(description, arrays)
    try:
        check(_read(source, source.description, fields))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{fspath(path)} is not written, it could not be read: {error}") from error
    header = {"format": kind, "format_version": _VERSION, "version": version}
    write_array_file(Path(fspath(path)), header | description, arrays)


def read_model(
    path: str | PathLike[str],
    *,
    kind: str,
    fields: Mapping[str, Field],
    upgrade: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Model:
    """Read a model file, and check every field of it.

    Parameters
    ----------
    path, kind, fields
        As in `write_model`. Attributes are read in the order of `fields`: a field that decides a
        size has to come before those that need it, so that a wrong size is found in the headers,
        before its array is read.
    upgrade : callable, optional
        Returns the description of a file of an older format version in the current form.

    Raises
    ------
    ValueError
        If the file is not a model of this kind, is damaged, or a field is not allowed; the message
        names the file and the field.
    FileNotFoundError, OSError
    """
    with ArrayFile(Path(fspath(path)), kind, _VERSION) as file:
        is_older = file.description["format_version"] < _VERSION
        description = upgrade(dict(file.description)) if is_older else file.description
        try:
            return _read(file, description, fields)
        except ValueError as error:
            raise ValueError(f"{fspath(path)} is a corrupt model file: {error}") from error


def _describe(attribute: str, field: Field, value: Any) -> tuple[dict[str, Any], Arrays]:
    """Return what a field stores of an attribute; name the attribute if that is impossible."""
    try:
        return field.describe(attribute.removesuffix("_"), value)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{attribute} cannot be stored in a model file: {error}") from error


def _read(
    source: ArraySource, description: Mapping[str, Any], fields: Mapping[str, Field]
) -> Model:
    reader = Reader(source, description)
    attributes = {
        attribute: kind_of_field.read(attribute.removesuffix("_"), reader)
        for attribute, kind_of_field in fields.items()
    }
    described = reader.take("parameters", dict)
    parameters = {name: _read_parameter(name, described[name], source) for name in described}
    metadata = reader.take("metadata", dict) if "metadata" in description else {}
    return Model(parameters, attributes, metadata)


def _check_metadata(metadata: dict[str, Any]) -> None:
    """Check that metadata would be the same after storing them."""
    try:
        json.dumps(metadata, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata must contain only what JSON can store: {error}") from error
    except RecursionError:
        pass  # refused below
    level: list[Any] = [metadata]
    for _ in range(_MOST_LEVELS_OF_METADATA):
        level = [part for value in level for part in _parts_of_metadata(value)]
    if level:
        raise ValueError(
            f"metadata is nested deeper than {_MOST_LEVELS_OF_METADATA} levels: flatten it"
        )


def _parts_of_metadata(value: Any) -> Iterable[Any]:
    if not isinstance(value, dict):
        return value if isinstance(value, (list, tuple)) else ()
    for key in value:
        if not isinstance(key, str):
            raise ValueError(
                f"metadata has the key {key!r}, which JSON would turn into a string: use only "
                "strings as keys"
            )
    return value.values()


def _describe_parameters(parameters: Mapping[str, Any]) -> tuple[dict[str, Any], Arrays]:
    described: dict[str, Any] = {}
    arrays: Arrays = {}
    for name, parameter in parameters.items():
        value = as_python(parameter)
        if isinstance(value, np.random.RandomState):
            generator = generator_state(value, f"parameter {name}")
            arrays[name] = generator.pop("key")
            described[name] = generator
        elif isinstance(value, Mapping):  # class weights, whose keys JSON would turn into strings
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
    """Return a value as one of the types of JSON."""
    value = as_python(value)
    if value is not None and type(value) not in (bool, int, float, str):
        raise ValueError(
            f"parameter {name} contains a {type(value).__name__}, which a model file cannot store"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"parameter {name} contains {value}, which a model file cannot store")
    return value


def _read_parameter(name: str, value: Any, file: ArraySource) -> Any:
    if not isinstance(value, dict):
        return value
    entry = Reader(file, value)
    if "pairs" not in value:
        return _read_random_state(name, entry)
    pairs = entry.take("pairs", list)
    for pair in pairs:
        is_pair = isinstance(pair, list) and len(pair) == 2
        is_good = is_pair and not isinstance(pair[0], (list, dict))
        check_field(is_good, name, "has a pair that is not a label and a number")
    return dict(pairs)


def _read_random_state(name: str, entry: Reader) -> np.random.RandomState:
    position, has_gauss = entry.take("position", int), entry.take("has_gauss", int)
    check_field(0 <= position <= GENERATOR_SIZE, name, f"has position {position}")
    check_field(has_gauss in (0, 1), name, f"has has_gauss {has_gauss}")
    key = entry.file.array(name, (GENERATOR_SIZE,), (np.uint32,))
    return generator_from_state(
        {
            "key": key,
            "position": position,
            "has_gauss": has_gauss,
            "gauss": entry.take("gauss", float),
        }
    )
