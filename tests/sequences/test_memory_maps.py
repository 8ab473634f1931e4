"""Memory maps are checked before they are read: a file that was cut would kill the process."""

import copy
import mmap
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skdejavid import DejaVidClassifier, TSEArray, TSEStore, check_sequences, dtw_distances
from skdejavid.sequences.memory_maps import check_memory_map
from skdejavid.training.loop import Training

N_BYTES = 2**16


def mapped(path, offset=0, shape=(N_BYTES // 8, 1), dtype=np.float64):
    path.write_bytes(bytes(offset + N_BYTES))
    return np.memmap(path, dtype, mode="r", offset=offset, shape=shape)


@pytest.mark.fault(90)
@given(
    offset=st.integers(0, 20_000).map(lambda number: 8 * number),
    part=st.sampled_from([slice(None), slice(3, 5), slice(None, None, -7)]),
    n_missing=st.integers(1, N_BYTES),
    is_plain=st.booleans(),
)
def test_a_map_of_a_file_that_was_cut_is_refused(
    offset, part, n_missing, is_plain, tmp_path_factory
):
    path = tmp_path_factory.mktemp("map") / "x"
    array = mapped(path, offset)[part]
    array = np.asarray(array) if is_plain else array
    check_memory_map(array)
    os.truncate(path, offset + N_BYTES - n_missing)
    with pytest.raises(ValueError, match=r"x has \d+ bytes, but \d+ are mapped: it has been cut"):
        check_memory_map(array)
    os.truncate(path, offset + N_BYTES)
    check_memory_map(array)


def test_a_file_that_was_renamed_removed_or_grew_is_still_there(tmp_path):
    array = mapped(tmp_path / "x")
    (tmp_path / "x").rename(tmp_path / "y")
    (tmp_path / "x").write_bytes(b"another")
    check_memory_map(array)
    with (tmp_path / "y").open("ab") as file:
        file.write(b"more")
    check_memory_map(array)
    (tmp_path / "y").unlink()
    check_memory_map(array)


def test_other_arrays_are_not_checked():
    for array in (np.zeros(3), np.zeros((0, 2)), np.frombuffer(b"12345678"), np.arange(9)[::2]):
        check_memory_map(array)


@pytest.mark.fault(90)
@pytest.mark.parametrize(
    "use",
    [
        check_sequences,
        lambda X: X[[2, 0]].frames,
        lambda X: X[[2, 0]].packed(),
        lambda X: X.astype("float32"),
        lambda X: X.view(np.array([0])),
        lambda X: next(X.chunks()),
        lambda X: dtw_distances(X, np.zeros((1, 2, 1))),
        lambda X: DejaVidClassifier(n_epochs=1).fit(X, [0, 1, 0, 1]),
        lambda X: TSEArray.from_packed(X.view().values, X.offsets),
        lambda X: X[1],
        lambda X: X[1:3][0],
        list,
        lambda X: X.frames,
        np.asarray,
        pickle.dumps,
        copy.deepcopy,
    ],
)
def test_no_pass_over_the_data_begins_when_they_were_cut(use, tmp_path):
    X = TSEArray.from_packed(mapped(tmp_path / "x"), np.arange(5) * N_BYTES // 32)
    os.truncate(tmp_path / "x", 100)
    with pytest.raises(ValueError, match="it has been cut while it was open"):
        use(X)


@pytest.mark.filterwarnings("ignore:all frames of X are equal")
@pytest.mark.fault(90)
@pytest.mark.parametrize(
    "use",
    [
        TSEArray,
        lambda X: TSEArray([list(x) for x in X]),
        lambda X: TSEArray([x.view(np.int64) for x in X]),
        lambda X: TSEArray(X[0]),
        lambda X: TSEArray(X[0].view(np.int64)),
        lambda X: TSEArray(X[0][None]),
        lambda X: TSEArray.from_packed(X[0].view(np.int64), [0, len(X[0])]),
        lambda X: TSEArray.from_packed(np.asarray(X[0]), [0, len(X[0])]),
        lambda X: TSEArray.from_packed(np.ones((8, 1)), [0, 8], X[0].reshape(-1, 2)[:8]),
        lambda X: DejaVidClassifier(n_epochs=1).fit([X[0], X[1], *X], [0, 1, 0, 1]),
        lambda X: DejaVidClassifier(n_epochs=1).fit([X[1]] * 4, [0, 1, 0, 1]).predict(X),
    ],
)
def test_a_file_that_was_cut_is_not_read_as_a_sequence(use, tmp_path):
    X = [mapped(tmp_path / "x"), mapped(tmp_path / "y")]
    os.truncate(tmp_path / "x", 100)
    with pytest.raises(ValueError, match="it has been cut while it was open"):
        use(X)


@pytest.mark.fault(90)
@pytest.mark.parametrize("part", [slice(None), slice(None, None, -3), slice(5000, 5020)])
@pytest.mark.parametrize(
    "open_map",
    [
        lambda path, map: np.frombuffer(map),
        lambda path, map: np.asarray(memoryview(map).cast("d")),
        lambda path, map: np.ndarray((N_BYTES // 8,), buffer=map),
        lambda path, map: pytest.importorskip("pyarrow").memory_map(str(path)).read_buffer(),
        lambda path, map: (
            (torch := pytest.importorskip("torch"))
            .from_file(str(path), size=N_BYTES // 8, dtype=torch.float64)
            .numpy()
        ),
    ],
    ids=["frombuffer", "memoryview", "buffer", "pyarrow", "torch"],
)
def test_maps_of_other_libraries_are_checked(open_map, part, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes(N_BYTES))
    with path.open("rb") as file:
        map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    opened = open_map(path, map)
    array = (opened if isinstance(opened, np.ndarray) else np.frombuffer(opened))[part]
    check_memory_map(array)
    os.truncate(path, 100)
    with pytest.raises(ValueError, match="it has been cut while it was open"):
        check_memory_map(array)
    os.truncate(path, N_BYTES)
    check_memory_map(array)


@pytest.mark.fault(90)
def test_the_check_leaves_no_file_open(tmp_path):
    array = np.frombuffer(memoryview(bytearray(64)).toreadonly())
    n_open = len(os.listdir("/proc/self/fd"))
    torch = pytest.importorskip("torch")
    for _ in range(10):
        check_memory_map(array)
        check_memory_map(torch.ones(3).numpy())
        check_memory_map(torch.ones((0, 3)).numpy())
    assert len(os.listdir("/proc/self/fd")) == n_open


@pytest.mark.fault(90)
def test_a_file_that_is_cut_during_a_fit_ends_it_at_the_next_batch(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "x"
    path.write_bytes(rng.normal(size=N_BYTES // 8).tobytes())
    numbers = np.memmap(path, np.float64, mode="r", shape=(N_BYTES // 8, 1))
    X = TSEArray.from_packed(numbers, np.arange(65) * N_BYTES // 512)
    epochs = []
    train_epoch = Training.train_epoch

    def cut(self, epoch):
        epochs.append(epoch)
        if epoch == 1:
            os.truncate(path, 100)
        return train_epoch(self, epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "train_epoch", cut)
        with pytest.raises(ValueError, match="it has been cut while it was open"):
            DejaVidClassifier(n_epochs=3, differences=None).fit(X, np.arange(64) % 2)
    assert epochs == [0, 1]


STORE = """
import os, sys
from skdejavid import TSEStore, dtw_distances
X = TSEStore(sys.argv[1]).sequences()
os.truncate(os.path.join(sys.argv[1], "values-00000.npy"), 200)
try:
    dtw_distances(X, [[[0.0, 0.0]]])
except ValueError as error:
    print(error)
"""


@pytest.mark.fault(90)
def test_a_store_that_is_cut_while_it_is_open_does_not_kill_the_process(tmp_path):
    store = TSEStore.create(tmp_path / "store")
    with store.write() as writer:
        writer.append("a", np.ones((5000, 2)))
    command = [sys.executable, "-P", "-c", STORE, store.path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "values-00000.npy has 200 bytes" in done.stdout
