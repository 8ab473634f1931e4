"""Tables of other libraries for `fuzz.py`: odd types, missing cells, nesting, lies about sizes."""

import datetime
import decimal

import awkward as ak
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from skdejavid import TSEArray, check_sequences

NAMES = ["id", "time", "x", "y", "label", "", 0, 1.5, None, ("a", 1)]
CELLS = [
    None, np.nan, pd.NA, pd.NaT, np.inf, True, 0, 1, -1, 2**53 + 1, 2**63, 10**400, 1e308, 0.5, 1j,
    "a", "1", "", b"x", [1.0], [[1.0]], [], {"a": 1}, np.ones(2), pd.Series([1.0]), object(),
    decimal.Decimal("0.1"), decimal.Decimal("NaN"), datetime.date(2020, 1, 1),
    datetime.datetime(9999, 1, 1), pd.Timestamp("2020"), pd.Timedelta(1), {1}, ..., float,
]  # fmt: skip
DTYPES = [
    "float32", "Float32", "Int64", "UInt8", "boolean", "string", "category", "object", "float16",
    "datetime64[ns]", "datetime64[ns, UTC]", "timedelta64[ns]", "Sparse[float]", "complex64",
    "double[pyarrow]", "int64[pyarrow]", "string[pyarrow]", "bool[pyarrow]", "date32[pyarrow]",
]  # fmt: skip


def column(rng, n_rows):
    """Return a list of cells, mostly of one kind, that are mostly numbers."""
    kind = rng.randrange(6)
    if kind <= 2:
        cells = [rng.choice([0.0, 1.0, -2.5, 3.0]) for _ in range(n_rows)]
    elif kind == 3:
        cells = [rng.randrange(3) for _ in range(n_rows)]
    elif kind == 4:
        cells = [rng.choice("abc") for _ in range(n_rows)]
    else:
        cells = [[[rng.random()] * rng.randrange(1, 3)] * rng.randrange(3) for _ in range(n_rows)]
    while rng.random() < 0.3 and n_rows:
        cells[rng.randrange(n_rows)] = rng.choice(CELLS)
    return cells


def pandas_frame(rng):
    n_rows, n_columns = rng.choice([0, 1, 2, 5, 8]), rng.randrange(5)
    frame = pd.DataFrame(
        {i: pd.Series(column(rng, n_rows), dtype=object) for i in range(n_columns)}
    )
    for i in range(n_columns):
        if rng.random() < 0.7:
            kind = rng.choice(["infer", *DTYPES])
            try:
                cells = frame[i].infer_objects() if kind == "infer" else frame[i].astype(kind)
            except Exception:  # whatever pandas cannot make
                continue
            frame[i] = cells
    names = NAMES[:n_columns] if rng.random() < 0.6 else [rng.choice(NAMES) for _ in frame.columns]
    frame.columns = pd.Index(names, dtype=object, tupleize_cols=False)
    if rng.random() < 0.3:
        levels = [[rng.randrange(3) for _ in range(n_rows)] for _ in range(rng.randrange(1, 4))]
        names = [rng.choice(["id", "time", None, 0]) for _ in levels]
        frame.index = pd.MultiIndex.from_arrays(levels, names=names)
    return frame


def arrow_table(rng):
    n_rows = rng.choice([0, 1, 2, 5, 8])
    columns, names = [], []
    for name in NAMES[: rng.randrange(1, 5)]:
        try:
            columns.append(pa.array(column(rng, n_rows)))
        except Exception:  # whatever Arrow cannot make
            columns.append(rng.choice([pa.nulls(n_rows), pa.array([[[1.0]]] * n_rows)]))
        names.append(rng.choice([str(name), "id", "x"]) if rng.random() < 0.2 else str(name))
    table = pa.table(columns, names)
    return table if rng.random() < 0.7 else pa.concat_tables([table, table])


def polars_frame(rng):
    try:
        frame = pl.from_arrow(arrow_table(rng))
    except Exception:  # names that polars refuses
        frame = pl.DataFrame({"id": [1, 1], "x": [0.5, None]})
    return frame.lazy() if rng.random() < 0.05 else frame


def lists_that_lie(rng):
    """Return a column whose offsets are anything, as Arrow does not check them."""
    numbers = pa.array(np.arange(12.0))
    offsets = [rng.choice([0, 1, 2, 3, 4, -1, 5, 2**31 - 1, -(2**31)]) for _ in range(4)]
    offsets[-1] = rng.randrange(5)
    try:
        inner = rng.choice(
            [
                lambda: pa.FixedSizeListArray.from_arrays(numbers, 3),
                lambda: pa.ListArray.from_arrays(pa.array([0, 3, 6, 9, 12], pa.int32()), numbers),
                lambda: pa.ListArray.from_arrays(pa.array([0, *offsets], pa.int32()), numbers),
            ]
        )()
        lists = rng.choice(
            [
                lambda: pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), inner),
                lambda: pa.LargeListArray.from_arrays(
                    pa.array([i * 2**20 for i in offsets[:-1]] + offsets[-1:], pa.int64()), inner
                ),
                lambda: pa.ListViewArray.from_arrays(
                    pa.array(offsets[:2], pa.int32()), pa.array(offsets[2:], pa.int32()), inner
                ),
            ]
        )()
    except pa.ArrowException:
        return numbers
    return lists if rng.random() < 0.5 else pa.table({"x": lists})


def awkward_array(rng):
    """Return an array of awkward, whose offsets are checked by nobody either."""
    content = ak.contents.NumpyArray(np.arange(12.0).reshape(rng.choice([(12,), (4, 3), (6, 2)])))
    for _ in range(rng.randrange(3)):
        offsets = np.array([rng.choice([0, 1, 2, 3, 4, -1, 10**9]) for _ in range(3)])
        if rng.random() < 0.6:
            offsets = np.sort(np.abs(offsets))
        try:
            content = ak.contents.ListOffsetArray(ak.index.Index64(offsets), content)
        except (ValueError, TypeError):
            break
    return ak.Array(content)


def strides(rng):
    """Return an array that claims any number of numbers with few."""
    shape = [rng.choice([1, 2, 3, 2**20, 2**40]) for _ in range(rng.choice([1, 2, 3]))]
    try:
        found = np.broadcast_to(np.ones(rng.choice([1, shape[-1] if shape[-1] < 9 else 1])), shape)
    except ValueError:
        found = np.ones((2, 3))[::-1, ::-1]
    return found if rng.random() < 0.5 else [found]


MAKERS = [
    pandas_frame,
    pandas_frame,
    arrow_table,
    polars_frame,
    lists_that_lie,
    awkward_array,
    strides,
]


def any_table(rng):
    """Return a table, its only column, or a list of tables."""
    if rng.random() < 0.2:
        make = rng.choice(MAKERS)
        return [make(rng) for _ in range(rng.randrange(4))]
    table = rng.choice(MAKERS)(rng)
    if isinstance(table, pd.DataFrame) and table.shape[1] and rng.random() < 0.2:
        return table.iloc[:, 0]
    return table


def names_of(rng, table):
    names = (
        [*NAMES[:4], *getattr(table, "columns", [])] if isinstance(table, pd.DataFrame) else NAMES
    )
    return {
        "id": rng.choice(names),
        "time": rng.choice([None, *names]),
        "features": rng.choice([None, None, [], ["x"], [rng.choice(names)], "x", 3]),
        "label": rng.choice([None, None, *names]),
    }


class Tables:
    """Every reader of tables; each input goes through one."""

    refusals = (ValueError, TypeError)

    def __init__(self, folder):
        self._read = None

    def make(self, rng):
        table = any_table(rng)
        arguments = names_of(rng, table)
        readers = [
            lambda: TSEArray(table),
            lambda: check_sequences(table),
            lambda: TSEArray.from_long(table, **arguments),
            lambda: TSEArray.from_long(table, **arguments),
            lambda: TSEArray.from_sktime(table),
            lambda: TSEArray.from_padded(table),
            lambda: TSEArray.from_tslearn(table),
        ]
        self._read = rng.choice(readers)

    def take(self):
        found = self._read()
        X = found[0] if isinstance(found, tuple) else found
        assert X.lengths.min() >= 1
        assert X.frames.shape == (X.lengths.sum(), X.n_features)
        if isinstance(found, tuple):
            assert len(found[1]) == len(X)
