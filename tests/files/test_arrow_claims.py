"""What compressed Arrow files claim, found without reading them."""

import io
import struct
from contextlib import suppress

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skdejavid.files.arrow_claims import decompressed_size

TABLE = pa.table(
    {
        "sequence": pa.array([np.arange(60.0).reshape(20, 3).tolist()] * 5),
        "id": ["a", "b", None, "d", "e"],
        "label": pa.array(["x", "y", "x", "y", "x"]).dictionary_encode(),
    }
)


def written(table, compression, **options):
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression, **options)
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue()


def buffers_of(array):
    """Return the sizes of all buffers, also those of children."""
    return [buffer.size for buffer in array.buffers() if buffer is not None]


@pytest.mark.fault(79)
@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("use_legacy_format", [False, True])
def test_the_claims_are_the_sizes_of_what_is_read(compression, use_legacy_format):
    content = written(TABLE, compression, use_legacy_format=use_legacy_format)
    opened = pa.ipc.open_file(content)
    batches = [opened.get_batch(i) for i in range(opened.num_record_batches)]
    sizes = [size for batch in batches for array in batch for size in buffers_of(array)]
    sizes += buffers_of(batches[0]["label"].dictionary)
    assert len(batches) == 3
    assert decompressed_size(content) == sum(sizes)


@pytest.mark.fault(79)
def test_without_compression_nothing_is_claimed():
    for use_legacy_format in (False, True):
        content = written(TABLE, None, use_legacy_format=use_legacy_format)
        assert decompressed_size(content) == 0
    assert decompressed_size(written(TABLE.slice(0, 0), "zstd")) == 0


@pytest.mark.fault(79)
@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_files_of_other_writers_are_understood(compression):
    file = io.BytesIO()
    numbers = np.arange(10_000.0).reshape(100, 100)
    pl.DataFrame({"a": numbers.tolist()}).write_ipc(file, compression=compression)
    size = decompressed_size(file.getvalue())
    assert numbers.nbytes <= size <= 1.1 * numbers.nbytes


@pytest.mark.fault(79)
@given(
    places=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4),
    value=st.integers(0, 255),
    compression=st.sampled_from([None, "zstd"]),
)
def test_of_damaged_files_there_is_a_number_or_a_value_error(places, value, compression):
    content = bytearray(written(TABLE, compression))
    for place in places:
        content[-1 - int(place**3 * len(content))] = value  # rather in the footer
    with suppress(ValueError):
        assert decompressed_size(content) >= 0


@pytest.mark.fault(79)
@pytest.mark.parametrize("content", [b"", bytes(5), b"\xff" * 100, bytes(90) + b"\x7f" * 10])
def test_what_is_no_footer_is_damaged(content):
    with pytest.raises(ValueError, match="its descriptions of batches are damaged"):
        decompressed_size(content)


def table_of(*fields):
    """Return a table of a flatbuffer: fields of eight bytes, then what they refer to.

    A field is an integer, the bytes of another table, or a list of bytes for an array of structs.
    """
    n_bytes = 8 + 8 * len(fields)
    offsets = struct.pack(f"<{2 + len(fields)}H", 0, 0, *range(8, n_bytes, 8))
    offsets = struct.pack("<H", len(offsets)) + offsets[2:]
    offsets += bytes(-len(offsets) % 8)
    head, tail = struct.pack("<q", 0), b""
    for i, field in enumerate(fields):
        place = 8 + 8 * i
        if isinstance(field, int):
            head += struct.pack("<q", field)
            continue
        begin = n_bytes + len(tail)
        skipped = 0
        if isinstance(field, list):
            items = struct.pack("<I", len(field)) + b"".join(field)
        else:  # a table is stored after the offsets of its fields
            items, (skipped,) = field, struct.unpack_from("<I", field)
        head += struct.pack("<Ii", begin + skipped - place, 0)
        tail += items + bytes(-len(items) % 8)
    root = 4 + len(offsets) + 4
    body = struct.pack("<i", len(offsets)) + head[4:] + tail
    return struct.pack("<I", root) + bytes(4) + offsets + body


@pytest.mark.fault(79)
@pytest.mark.parametrize("n_blocks", [1, 2000])
def test_batches_that_share_a_description_do_not_take_its_time_again_and_again(n_blocks):
    n_buffers = 2000
    buffers = [struct.pack("<qq", 0, 8)] * n_buffers
    batch = table_of(1, [], buffers, table_of(0))
    message = struct.pack("<Ii", 0xFFFFFFFF, 0) + table_of(4, 3, batch)
    body = struct.pack("<q", 7)
    blocks = [struct.pack("<qi4xq", 8, len(message), len(body))] * n_blocks
    footer = table_of(4, 0, [], blocks)
    content = b"ARROW1\0\0" + message + body + footer + struct.pack("<i", len(footer)) + b"ARROW1"
    if n_blocks == 1:
        assert decompressed_size(content) == 7 * n_buffers
    else:
        with pytest.raises(ValueError, match="there are more buffers than descriptions"):
            decompressed_size(content)
