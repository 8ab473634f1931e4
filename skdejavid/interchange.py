"""Arrow files, and import of arrays that were extracted elsewhere. No file can execute code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from os import PathLike, fsencode, fspath
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skdejavid.compat.claims import most_bytes
from skdejavid.compat.optional import import_optional
from skdejavid.files.arrow_claims import decompressed_size
from skdejavid.files.atomic import replace_file
from skdejavid.files.foreign_arrays import SUFFIXES, read_array
from skdejavid.files.identity import identify, is_same_file
from skdejavid.files.regular import path_of_file, refuse_irregular
from skdejavid.sequences import TSEArray
from skdejavid.sequences.columnar import rows_of_arrow, rows_to_arrow
from skdejavid.store import TSEStore

__all__ = ["import_sequences", "read_arrow", "write_arrow"]

_BYTES_PER_BATCH = 2**26
_BYTES_OF_COMPRESSED = 2**26  # may be decompressed, however small a file is
_COLUMNS = ("sequence", "id", "label", "spans")


def write_arrow(
    X: Any,
    path: str | PathLike[str],
    ids: Sequence[str] | None = None,
    labels: ArrayLike | None = None,
) -> None:
    """Write sequences to an Arrow IPC file, which pyarrow, polars, DuckDB and others read.

    The file has the columns "sequence" (lists of frames, each a list of `n_features` numbers) and,
    where available, "id", "label" and "spans" (lists of pairs: begin and end of each frame in
    seconds). An existing file is replaced atomically.

    Parameters
    ----------
    X : TSEArray or sequences
        The sequences. A memory map is not read into memory.
    path : str or path
        The file to write.
    ids : sequence of str, optional
        A name for each sequence.
    labels : array of shape (n_sequences,), optional
        Strings or integers.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    ValueError
        If `ids` or `labels` have another length than `X`, or an unsupported type.
    """
    arrow = import_optional("pyarrow", "arrow", "Writing Arrow files")
    X = TSEArray(X)
    columns = _checked_columns(arrow, len(X), ids, labels)

    def batch(part: slice) -> Any:
        sequences = X[part]
        arrays = {"sequence": rows_to_arrow(sequences.frames, sequences.offsets)}
        arrays |= {name: column[part] for name, column in columns.items()}
        if sequences.spans is not None:
            arrays["spans"] = rows_to_arrow(sequences.spans, sequences.offsets)
        return arrow.record_batch(arrays)

    def write(file: BinaryIO) -> None:
        # Opened again by its name: pyarrow writes to its own files without copying arrays.
        with (
            arrow.OSFile(fsencode(file.name), "wb") as sink,
            arrow.ipc.new_file(sink, batch(slice(0, 0)).schema) as writer,
        ):
            for part in _batches(X):
                writer.write_batch(batch(part))

    replace_file(path_of_file(path), write)


def read_arrow(
    path: str | PathLike[str],
) -> tuple[TSEArray, list[str] | None, NDArray[Any] | None]:
    """Read sequences from an Arrow IPC file.

    Parameters
    ----------
    path : str or path
        A file as written by `write_arrow`: with a column "sequence" of lists (of any Arrow list
        type) of frames, which are lists of `n_features` numbers, and optionally the columns "id",
        "label" and "spans".

    Returns
    -------
    X : TSEArray
        A view of a memory map of the file if all sequences are in one batch, float32 or float64 and
        not compressed; otherwise a copy.
    ids : list of str, or None
        None if the file has no column "id".
    labels : ndarray of shape (n_sequences,), or None
        None if the file has no column "label".

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    ValueError
        If the file is not such a file, has a column twice, claims to become far larger than it is
        when it is decompressed, or a sequence or frame is missing or empty. The message names the
        file. Numbers that are missing become NaN.
    """
    arrow = import_optional("pyarrow", "arrow", "Reading Arrow files")
    name = fspath(path)
    table, mapped = _map_table(arrow, name)
    if "sequence" not in table.column_names:
        raise ValueError(f"{name} has no column 'sequence', only {table.column_names}")
    values, offsets = rows_of_arrow(table.column("sequence"), f"{name}: column 'sequence'")
    spans = None
    if "spans" in table.column_names:
        field = f"{name}: column 'spans'"
        spans, span_offsets = rows_of_arrow(table.column("spans"), field)
        if not np.array_equal(offsets, span_offsets):
            raise ValueError(f"{field} must have one span for each frame")
    try:
        X = TSEArray.from_packed(_as_memory_map(values, name, mapped), offsets, spans)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    ids = table.column("id").to_pylist() if "id" in table.column_names else None
    labels = np.array(table.column("label")) if "label" in table.column_names else None
    return X, ids, labels


def import_sequences(
    folder: str | PathLike[str],
    store_path: str | PathLike[str],
    *,
    labels: str | Mapping[str, Any] | None = None,
    key: str | None = None,
    dtype: str = "float32",
) -> TSEStore:
    """Import sequences that were extracted elsewhere into a store.

    Repeating the call after an interruption resumes the import: files that are already in the store
    are not read again. No file can execute code: pickled objects are refused, and files of
    ``torch.save`` are read with ``torch.load(weights_only=True)``.

    Parameters
    ----------
    folder : str or path
        A folder with one file per sequence, also in subfolders: ``.npy``, ``.npz``,
        ``.safetensors``, or ``.pt`` and ``.pth`` as written by ``torch.save``. Each contains an
        array ``(n_frames, n_features)``. Other files are ignored.
    store_path : str or path
        Folder of the store, created if it does not exist. A sequence's id is the path of its file
        inside `folder`, with slashes; sequences are in the order of their sorted paths.
    labels : "folders" or mapping of ids, optional
        "folders" labels each sequence with the first folder of its id.
    key : str, optional
        Name of the array in files with several arrays: in an ``.npz`` or ``.safetensors`` file, or
        in a dict saved as ``.pt``. If None, each file must contain exactly one array.
    dtype : {"float32", "float64", "float16"}
        Data type of the numbers in the store.

    Returns
    -------
    TSEStore

    Raises
    ------
    FileNotFoundError
        If `folder` does not exist.
    ImportError
        If there are ``.pt`` files and torch is missing or older than 2.10.
    ValueError
        If `folder` contains no such file; or if a file cannot be read, does not contain exactly one
        array, or its array is not a finite sequence with as many features as the others. The
        message names the file. Sequences read before it stay in the store.
    """
    source, target = Path(folder), Path(store_path).resolve()
    paths = _find_arrays(source, target)
    label_of = _labels_of(list(paths), labels, source)
    settings = {"procedure": "import of arrays", "key": key}
    store = TSEStore.create(store_path, dtype=dtype, fingerprint=settings)
    with store.write() as writer:
        for position, (id, path) in enumerate(paths.items()):
            if id not in writer:
                _append(writer, id, path, key, position=position)
            elif not is_same_file(path, writer.file(id)):
                now, before = path.stat().st_size, writer.n_bytes(id)
                what = f"{now} bytes, but had {before}" if now != before else "another content than"
                raise ValueError(
                    f"{path} has {what} when it was imported. Import changed files into another "
                    "store."
                )
    store = TSEStore(store_path)
    if label_of is not None:
        store.set_labels(label_of)
    return store


def _checked_columns(
    arrow: Any, n_sequences: int, ids: Sequence[str] | None, labels: ArrayLike | None
) -> dict[str, Any]:
    """Return the given columns "id" and "label" as arrays of Arrow."""
    columns: dict[str, Any] = {}
    if ids is not None:
        if isinstance(ids, str) or not all(isinstance(id, str) for id in ids):
            raise ValueError("ids must be strings, one for each sequence")
        columns["id"] = arrow.array(list(ids), arrow.string())
    if labels is not None:
        items = np.asarray(labels).tolist()
        if not all(isinstance(x, str) for x in items) and not all(type(x) is int for x in items):
            raise ValueError("labels must all be strings or all be integers")
        columns["label"] = arrow.array(items)
    for name, column in columns.items():
        if len(column) != n_sequences:
            raise ValueError(
                f"{name}s has {len(column)} items, but there are {n_sequences} sequences"
            )
    return columns


def _batches(X: TSEArray) -> Iterator[slice]:
    """Yield the sequences of each record batch: all if contiguous in memory, else a few."""
    if np.array_equal(X.view().starts, X.offsets[:-1]):  # neither writing nor reading copies
        yield slice(0, len(X))
        return
    row_size = X.n_features * X.frame_dtype.itemsize
    batch_of = (X.offsets[1:] * row_size) // _BYTES_PER_BATCH
    limits = [0, *(np.flatnonzero(np.diff(batch_of)) + 1).tolist(), len(X)]
    for begin, end in pairwise(limits):
        yield slice(begin, end)


def _map_table(arrow: Any, name: str) -> tuple[Any, Any]:
    """Return the table of a file, and the buffer of its memory map."""
    refuse_irregular(name)
    try:
        with arrow.memory_map(fsencode(name)) as source:
            opened = arrow.ipc.open_file(source)
            source.seek(0)
            mapped = source.read_buffer(source.size())
            _check_claims(mapped)
            table = opened.read_all()
            table.validate(full=True)
            names = table.column_names  # decoded here
    except FileNotFoundError:
        raise
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{name} is not an Arrow IPC file, or is damaged: {error}") from error
    for column in _COLUMNS:
        if names.count(column) > 1:
            raise ValueError(f"{name} has {names.count(column)} columns {column!r}, expected one")
    return table, mapped


def _check_claims(content: Any) -> None:
    """Check the sizes of compressed buffers, which Arrow allocates before it reads them."""
    size, most = decompressed_size(content), most_bytes(content.size, _BYTES_OF_COMPRESSED)
    if size > most:
        raise ValueError(
            f"its {content.size} bytes claim to be {size} when decompressed, and at most {most} "
            "are read. If this is meant, write the file without compression"
        )


def _as_memory_map(values: NDArray[Any], path: str, mapped: Any) -> NDArray[Any]:
    """Return values inside the file as NumPy's memory map, which processes share; else `values`."""
    offset = values.ctypes.data - mapped.address
    if not 0 <= offset <= mapped.size - values.nbytes:
        return values
    return np.memmap(path, dtype=values.dtype, mode="r", offset=offset, shape=values.shape)


def _find_arrays(folder: Path, store: Path) -> dict[str, Path]:
    """Return the files of arrays in a folder, without those of the store, by id."""
    if not folder.is_dir():
        raise FileNotFoundError(f"folder {folder} does not exist")
    paths = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and store not in path.resolve().parents
    }
    if not paths:
        raise ValueError(f"folder {folder} contains no file with suffix {' '.join(SUFFIXES)}")
    return paths


def _labels_of(
    ids: list[str], labels: str | Mapping[str, Any] | None, folder: Path
) -> dict[str, Any] | None:
    if labels is None:
        return None
    if isinstance(labels, str):
        if labels != "folders":
            raise ValueError(f"labels must be 'folders' or a mapping of ids, got {labels!r}")
        for id in ids:
            if "/" not in id:
                raise ValueError(
                    f"labels='folders' needs each file in a subfolder of {folder}, but "
                    f"{folder / id} is not in one"
                )
        return {id: id.partition("/")[0] for id in ids}
    for id in ids:
        if id not in labels:
            raise ValueError(f"labels has no entry for {id!r}")
    return {id: labels[id] for id in ids}


def _append(writer: Any, id: str, path: Path, key: str | None, *, position: int) -> None:
    file = identify(path)
    values = read_array(path, key)
    try:
        writer.append(id, values, position=position, **file._asdict())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    writer.commit()
