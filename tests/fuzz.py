"""Fuzzing with malformed and hostile inputs: each must be accepted, or rejected as documented.

python tests/fuzz.py --inputs 100000
"""

import argparse
import contextlib
import copy
import json
import random
import shutil
import signal
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import safetensors.torch
import scipy.sparse
import torch
from fuzz_tables import Tables
from test_model_file import assembled, fitted, parts_of, small_data

from skdejavid import DejaVidClassifier, TSEArray, TSEStore, check_sequences
from skdejavid.files.foreign_arrays import read_array

SECONDS = 5  # after which an input counts as hanging
REFUSALS = (ValueError, TypeError)
REFUSALS_OF_FILES = (ValueError, OSError)

VALUES = [
    None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**63, -(2**63), 10**400, 0.0, -0.0, 0.5, 1e308,
    1e-320, "", "a", "..", "../../etc/passwd", "\x00", "global", "sample", [], {}, [[]],
    [1], ["a", 1, None], {"a": 1}, [[[[[[]]]]]], {"pairs": [[1, 2]]}, {"type": "numbers"},
]  # fmt: skip


ODDITIES = [
    lambda: iter([1]), set, lambda: range(3), lambda: b"x", lambda: memoryview(b"abcd"), object,
    lambda: np.ma.ones((2, 2)), lambda: scipy.sparse.eye(3), lambda: Path("x"), lambda: ...,
    lambda: np.float64(1), lambda: 1j,
]  # fmt: skip


class HangError(Exception):
    """An input took too long."""


@contextlib.contextmanager
def limited():
    """Raise HangError in a block that takes too long."""

    def end(*_):
        raise HangError

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def mutated_bytes(rng, content):
    """Return the content with some bytes changed, removed, repeated or inserted."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at = rng.randrange(len(changed) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(changed):
            changed[at] = rng.choice([0, 255, 0x7F, ord("{"), ord('"'), ord("9")])
        elif kind == 2:
            changed[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 3:
            del changed[at : at + rng.randrange(1, 200)]
        else:
            changed[at:at] = changed[at : at + rng.randrange(1, 40)]
    return bytes(changed)


def places(tree, path=()):
    """Yield the path of each item of nested dicts and lists."""
    if not isinstance(tree, (dict, list)):
        return
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield (*path, key)
        yield from places(value, (*path, key))


def mutated_tree(rng, tree):
    """Return a copy of a JSON tree with some values replaced, removed or renamed."""
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.choice([1, 1, 2, 4])):
        where = list(places(tree))
        if not where:
            break
        *path, key = rng.choice(where)
        owner = tree
        for part in path:
            owner = owner[part]
        kind = rng.randrange(4)
        if kind == 0:
            del owner[key]
        elif kind == 1 and isinstance(owner, dict):
            owner[rng.choice(["x", "format", "classes", "lags", "shape"])] = owner.pop(key)
        elif kind == 2 and isinstance(owner[key], (int, float)):
            owner[key] = owner[key] * rng.choice([-1, 2, 3]) + rng.choice([0, 1, -1, 2**40])
        else:
            owner[key] = copy.deepcopy(rng.choice(VALUES))  # a later mutation may change it
    return tree


class Models:
    """`DejaVidClassifier.load` of mutated files, with and without valid checksums."""

    refusals = REFUSALS_OF_FILES

    def __init__(self, folder):
        self._path = folder / "model"
        fitted(class_weight={0: 2.0}, random_state=np.random.RandomState(0)).save(self._path)
        self._content, self._parts = self._path.read_bytes(), parts_of(self._path)
        self._X, _ = small_data()

    def make(self, rng):
        kind = rng.randrange(3)
        if kind == 0:
            self._path.write_bytes(mutated_bytes(rng, self._content))
            return
        header, description, body = self._parts
        arrays = {name: value for name, value in header.items() if name != "__metadata__"}
        if kind == 1:
            description = mutated_tree(rng, description)
        else:
            arrays = mutated_tree(rng, arrays)
        if rng.random() < 0.2:
            body = mutated_bytes(rng, body)
        try:
            content = assembled(arrays, json.loads(json.dumps(description)), body)
        except (
            KeyError,
            TypeError,
            AttributeError,
            ValueError,
        ):  # cannot be assembled
            content = rng.randbytes(rng.randrange(300))
        self._path.write_bytes(content)

    def take(self):
        clf = DejaVidClassifier.load(self._path)
        clf.set_params(n_jobs=1, device="cpu").predict_proba(self._X)


class Stores:
    """`TSEStore` of a folder with mutated files."""

    refusals = REFUSALS_OF_FILES

    def __init__(self, folder):
        self._good, self._path = folder / "good", folder / "store"
        store = TSEStore.create(self._good, dtype="float32", fingerprint={"a": [1, None]})
        with store.write() as writer:
            for name, frames in zip("abc", small_data(np.float32)[0], strict=False):
                writer.append(name, frames, np.zeros((len(frames), 2)))
            writer.commit()
        self._names = [path.name for path in self._good.iterdir() if path.is_file()]

    def make(self, rng):
        shutil.rmtree(self._path, ignore_errors=True)
        shutil.copytree(self._good, self._path)
        for name in rng.sample(self._names, rng.choice([1, 1, 2])):
            path = self._path / name
            content = path.read_bytes()
            if name.endswith(".json") and rng.random() < 0.7:
                content = json.dumps(mutated_tree(rng, json.loads(content))).encode()
            elif content:
                content = mutated_bytes(rng, content)
            path.write_bytes(content)
        if rng.random() < 0.05:
            (self._path / rng.choice(self._names)).unlink()

    def take(self):
        store = TSEStore(self._path)
        store.sequences()
        store.verify()


class Hostile:
    """An object with a nonsensical length, shape, dtype and content."""

    def __init__(self, rng):
        self._length = rng.choice([0, 1, -1, 2**70, "x"])
        self._array = rng.choice([None, np.zeros(3), np.zeros((2, 2, 2)), "x"])
        if rng.random() < 0.5:
            self.shape = rng.choice([(), (1,), (-1, 2), "x", None])
            self.ndim = rng.choice([0, 1, 2, 3, None, "x"])
            self.dtype = rng.choice([None, object, "x"])

    def __len__(self):
        return self._length

    def __getitem__(self, key):
        return self._array

    def __array__(self, dtype=None, copy=None):
        return self._array


def anything(rng, depth=0):
    """Return an object of any type, in place of sequences."""
    kind = rng.randrange(16 if depth < 3 else 6)
    if kind < 3:
        return copy.deepcopy(rng.choice(VALUES))
    if kind < 6:
        shape = [rng.choice([0, 1, 2, 3, 5]) for _ in range(rng.randrange(5))]
        dtype = rng.choice(
            ["?", "i1", "u8", "f2", "f4", "f8", ">f8", "c8", "O", "U3", "S2", "M8[s]"]
        )
        array = np.zeros(shape, dtype=dtype)
        if array.size and dtype in ("f4", "f8") and rng.random() < 0.3:
            array.flat[rng.randrange(array.size)] = rng.choice([np.nan, np.inf, 1e308])
        return array
    if kind < 12:
        size = rng.randrange(5)
        if rng.random() < 0.5:  # equal items, which pass more of the checks
            one = anything(rng, depth + 1)
            return [one] * size
        items = [anything(rng, depth + 1) for _ in range(size)]
        return items if rng.random() < 0.8 else tuple(items)
    if kind == 12:
        return {rng.choice("abc"): anything(rng, depth + 1)}
    if kind == 13:
        return rng.choice(ODDITIES)()
    if kind == 14:
        return Hostile(rng)
    items = np.empty(3, dtype=object)
    for i in range(3):
        items[i] = anything(rng, depth + 1)
    return items


class Sequences:
    """`check_sequences` of objects of any type."""

    refusals = REFUSALS

    def __init__(self, folder):
        self._X = None

    def make(self, rng):
        self._X = anything(rng)

    def take(self):
        checked = check_sequences(self._X)
        assert isinstance(checked, TSEArray)
        assert np.isfinite(checked.frames).all()
        assert checked.lengths.min() >= 1


class ForeignArrays:
    """`read_array` of mutated files of NumPy, safetensors and torch."""

    refusals = REFUSALS_OF_FILES

    def __init__(self, folder):
        self._path = folder / "array"
        array = np.arange(24, dtype=np.float32).reshape(4, 6)
        tensor = torch.from_numpy(array)
        kinds = (
            lambda file: np.save(file, array),
            lambda file: np.savez(file, a=array),
            lambda file: np.savez_compressed(file, a=array),
            lambda file: file.write(safetensors.torch.save({"a": tensor})),
            lambda file: file.write(safetensors.torch.save({"a": tensor.bfloat16()})),
            lambda file: torch.save({"a": tensor, "b": [1.5, "c"]}, file),
        )
        self._contents = []
        for write in kinds:
            with self._path.open("wb") as file:
                write(file)
            self._contents.append(self._path.read_bytes())

    def make(self, rng):
        self._path.write_bytes(mutated_bytes(rng, rng.choice(self._contents)))

    def take(self):
        array = read_array(self._path, "a")
        assert array.nbytes <= 2 * self._path.stat().st_size


TARGETS = {
    "load": Models,
    "manifest": Stores,
    "check_sequences": Sequences,
    "tables": Tables,
    "read_array": ForeignArrays,
}


def fuzz(name, n_inputs, seed):
    """Return how many of `n_inputs` inputs were rejected; raise any undocumented error."""
    n_refused = 0
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target = TARGETS[name](Path(folder))
        for i in range(n_inputs):
            target.make(random.Random(f"{seed} {name} {i}"))
            try:
                with limited():
                    target.take()
            except target.refusals:
                n_refused += 1
            except BaseException as error:
                error.add_note(f"input {i} of target {name!r} with seed {seed}")
                raise
    return n_refused


def main():
    """Fuzz all targets, or one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="total number for all targets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=TARGETS, action="append")
    arguments = parser.parse_args()
    names = arguments.target or list(TARGETS)
    n_inputs = -(-arguments.inputs // len(names))
    for name in names:
        begin = time.monotonic()
        n_refused = fuzz(name, n_inputs, arguments.seed)
        seconds = time.monotonic() - begin
        print(f"{name}: {n_inputs} inputs in {seconds:.0f} s, {n_refused} refused, no other error")


if __name__ == "__main__":
    main()
