"""Files of others: Arrow, and arrays that were extracted elsewhere. Nothing is unpickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from os import PathLike, fspath
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skdejavid.compat.optional import import_optional
from skdejavid.files.atomic import replace_file
from skdejavid.files.torch_archive import read_tensors
from skdejavid.sequences import TSEArray
from skdejavid.sequences.columnar import rows_of_arrow, rows_to_arrow
from skdejavid.store import TSEStore

__all__ = ["import_sequences", "read_arrow", "write_arrow"]

_SUFFIXES = (".npy", ".npz", ".pt", ".pth")
_BYTES_PER_BATCH = 2**26
_UNREADABLE = (
    *(ArithmeticError, EOFError, MemoryError, OSError, RuntimeError, TypeError, ValueError),
    *(zipfile.BadZipFile, zlib.error),
)


def write_arrow(
    X: Any,
    path: str | PathLike[str],
    ids: Sequence[str] | None = None,
    labels: ArrayLike | None = None,
) -> None:
    """Write sequences to an Arrow IPC file, which pyarrow, polars, DuckDB and others read.

    It has the columns "sequence" (lists of frames, each of `n_features` numbers), "id", "label" and
    "spans" (lists of pairs: begin and end of what each frame stands for, in seconds), the last
    three as far as they are known. A file that is there is replaced, once the new one is whole.

    Parameters
    ----------
    X : TSEArray or sequences
        What to write. A memory map is not read into memory.
    path : str or path
        Of the file.
    ids : sequence of str, optional
        A name for each sequence.
    labels : array of shape (n_sequences,), optional
        Strings or integers.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    ValueError
        If there are not as many ids or labels as sequences, or of other types.
    """
    arrow = import_optional("pyarrow", "arrow", "Writing Arrow files")
    X = TSEArray(X)
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
        if len(column) != len(X):
            raise ValueError(f"{name}s has {len(column)} items, but there are {len(X)} sequences")

    def batch(part: slice) -> Any:
        sequences = X[part]
        arrays = {"sequence": rows_to_arrow(sequences.values, sequences.offsets)}
        arrays |= {name: column[part] for name, column in columns.items()}
        if sequences.spans is not None:
            arrays["spans"] = rows_to_arrow(sequences.spans, sequences.offsets)
        return arrow.record_batch(arrays)

    def write(file: BinaryIO) -> None:
        # By its name: pyarrow's own files take memory as it lies, Python's files only copies.
        with (
            arrow.OSFile(file.name, "wb") as sink,
            arrow.ipc.new_file(sink, batch(slice(0, 0)).schema) as writer,
        ):
            for part in _parts(X):
                writer.write_batch(batch(part))

    replace_file(Path(path), write)


def read_arrow(
    path: str | PathLike[str],
) -> tuple[TSEArray, list[str] | None, NDArray[Any] | None]:
    """Read sequences from an Arrow IPC file.

    Parameters
    ----------
    path : str or path
        A file as `write_arrow` writes it: with a column "sequence" of lists (of any kind) of
        frames, which are lists of `n_features` numbers, and possibly "id", "label" and "spans".

    Returns
    -------
    X : TSEArray
        A view of a memory map of the file, if it holds all sequences in one batch, float32 or
        float64 and not compressed; else a copy.
    ids : list of str, or None
        None if there is no column "id".
    labels : ndarray of shape (n_sequences,), or None
        None if there is no column "label".

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    ValueError
        If it is no such file, or a sequence is missing or empty; the message names the file.
    """
    arrow = import_optional("pyarrow", "arrow", "Reading Arrow files")
    name = fspath(path)
    try:
        with arrow.memory_map(name) as source:
            table = arrow.ipc.open_file(source).read_all()
            table.validate(full=True)
            source.seek(0)
            mapped = source.read_buffer(source.size())
    except FileNotFoundError:
        raise
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(f"{name} is no Arrow IPC file, or damaged: {error}") from error
    if "sequence" not in table.column_names:
        raise ValueError(f"{name} has no column 'sequence', only {table.column_names}")
    values, offsets = rows_of_arrow(table.column("sequence"), f"{name}: column 'sequence'")
    spans = None
    if "spans" in table.column_names:
        what = f"{name}: column 'spans'"
        spans, offsets_of_spans = rows_of_arrow(table.column("spans"), what)
        if not np.array_equal(offsets, offsets_of_spans):
            raise ValueError(f"{what} has not one span for each frame")
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
    """Bring sequences that were extracted elsewhere into a store.

    What the store holds already is not read again, so after an interruption the same call goes on.
    Nothing is unpickled: of files of ``torch.save`` the numbers are read, and whatever else such a
    file asks for is refused.

    Parameters
    ----------
    folder : str or path
        Holds one file per sequence, also in folders of its own: ``.npy``; ``.npz``; ``.pt`` or
        ``.pth`` as ``torch.save`` writes them since version 1.6. Each holds an array
        ``(n_frames, n_features)``. Other files are left alone.
    store_path : str or path
        Folder of the store, made if there is none. A sequence's id is the path of its file inside
        `folder`, with slashes; the order is that of the sorted paths.
    labels : "folders" or mapping of ids, optional
        "folders" labels a sequence with the first folder of its id.
    key : str, optional
        Name of the array in files that hold several: in an ``.npz``, or in a dict that was saved as
        ``.pt``. None takes files that hold one.
    dtype : {"float32", "float64", "float16"}
        Type of the numbers in the store.

    Returns
    -------
    TSEStore

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If there is no file of sequences, or one cannot be read, holds not exactly one array, or no
        finite sequence of as many features as the others; the message names it. What was read
        before stays in the store.
    """
    source = Path(folder)
    if not source.is_dir():
        raise FileNotFoundError(f"there is no folder {source}")
    if isinstance(labels, str) and labels != "folders":
        raise ValueError(f"labels must be 'folders' or a mapping of ids, got {labels!r}")
    target = Path(store_path).resolve()
    paths = {
        path.relative_to(source).as_posix(): path
        for path in sorted(source.rglob("*"))
        if path.suffix.lower() in _SUFFIXES
        and path.is_file()
        and target not in path.resolve().parents
    }
    if not paths:
        raise ValueError(f"no file in {source} is named {' '.join(_SUFFIXES)}")
    label_of = _labels_of(list(paths), labels, source)
    made_by = {"procedure": "import of arrays", "key": key}
    store = TSEStore.create(store_path, dtype=dtype, fingerprint=made_by)
    with store.write() as writer:
        for position, (id, path) in enumerate(paths.items()):
            n_bytes = path.stat().st_size
            if id not in writer:
                values = _read_array(path, key)
                try:
                    writer.append(id, values, n_bytes=n_bytes, position=position)
                except ValueError as error:
                    raise ValueError(f"{path}: {error}") from error
                writer.commit()
            elif writer.n_bytes(id) != n_bytes:
                raise ValueError(
                    f"{path} has {n_bytes} bytes, but had {writer.n_bytes(id)} when it was "
                    "imported: it was changed. Use another store."
                )
    store = TSEStore(store_path)
    if label_of is not None:
        store.set_labels(label_of)
    return store


def _parts(X: TSEArray) -> Iterator[slice]:
    """Which sequences to write together: all that lie one after the other, else a few at a time."""
    if np.array_equal(X.view().starts, X.offsets[:-1]):  # neither writing nor reading copies
        yield slice(0, len(X))
        return
    row_size = X.n_features * X.frame_dtype.itemsize
    part_of = (X.offsets[1:] * row_size) // _BYTES_PER_BATCH
    limits = [0, *(np.flatnonzero(np.diff(part_of)) + 1).tolist(), len(X)]
    for begin, end in pairwise(limits):
        yield slice(begin, end)


def _as_memory_map(values: NDArray[Any], path: str, mapped: Any) -> NDArray[Any]:
    """The same as NumPy's memory map, if they lie in the file: that is shared with processes."""
    offset = values.ctypes.data - mapped.address
    if not 0 <= offset <= mapped.size - values.nbytes:
        return values
    return np.memmap(path, dtype=values.dtype, mode="r", offset=offset, shape=values.shape)


def _labels_of(
    ids: list[str], labels: str | Mapping[str, Any] | None, folder: Path
) -> dict[str, Any] | None:
    if labels is None:
        return None
    for id in ids:
        if isinstance(labels, str) and "/" not in id:
            raise ValueError(f"{folder / id} is in no folder of {folder} that would be its label")
        if not isinstance(labels, str) and id not in labels:
            raise ValueError(f"labels has none for {id!r}")
    if isinstance(labels, str):
        return {id: id.partition("/")[0] for id in ids}
    return {id: labels[id] for id in ids}


def _read_array(path: Path, key: str | None) -> NDArray[Any]:
    """The one array of a file, whatever its name says it is."""
    with path.open("rb") as file:
        begin = file.read(6)
    if begin == b"\x93NUMPY":
        try:
            with np.errstate(over="raise"):  # of the size that the file says it has
                return np.load(path, mmap_mode="r", allow_pickle=False)
        except _UNREADABLE as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
    if begin[:4] != b"PK\x03\x04":
        if begin[:1] == b"\x80":
            raise ValueError(f"{path} is a pickle; nothing is unpickled")
        raise ValueError(f"{path} is no file of NumPy or torch")
    arrays = read_tensors(path) if _is_of_torch(path) else _read_npz(path)
    if key is None and len(arrays) == 1:
        return next(iter(arrays.values()))
    if key is None or key not in arrays:
        what = "holds several arrays, name one with key" if key is None else f"has no {key!r}"
        raise ValueError(f"{path} {what}: {', '.join(map(str, arrays))}")
    return arrays[key]


def _is_of_torch(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except _UNREADABLE as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
