from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skdejavid.video import content_hashes
from skdejavid.video.content_hashes import hash_of_array, hash_of_tensor

N = 2**17 * 2 + 1000  # float32, more than one block of the checksum


@pytest.fixture
def numbers(rng):
    return rng.normal(size=N).astype(np.float32)


@pytest.mark.parametrize("n", [0, 1, 1000, 2**15, N])
def test_hashes_are_sha256_of_the_numbers(n, numbers):
    expected = sha256(numbers[:n].tobytes()).digest()
    for _ in range(2):  # the second one is known
        assert hash_of_array(numbers[:n]) == expected
        assert hash_of_tensor(torch.from_numpy(numbers[:n])) == expected


@given(place=st.integers(0, N - 1), bit=st.integers(0, 31))
def test_a_change_of_any_bit_is_noticed(place, bit):
    numbers = np.arange(N, dtype=np.uint32)
    before = hash_of_array(numbers)
    numbers[place] ^= np.uint32(1 << bit)
    assert hash_of_array(numbers) == sha256(numbers.tobytes()).digest() != before


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
@pytest.mark.parametrize(
    "change",
    [
        lambda x: np.negative(x, out=x),
        lambda x: x[:2].__setitem__(slice(None), -x[:2]),
        lambda x: x.__setitem__(slice(None), x[::-1].copy()),
        lambda x: x[[0, 1]].sort() or x.__setitem__([0, 1], x[[1, 0]]),
        lambda x: x.__setitem__([5, 2**17 + 5], x[[2**17 + 5, 5]]),
        lambda x: x.__setitem__(slice(0, 2**17), np.roll(x[: 2**17], 8)),
    ],
    ids=["signs", "two signs", "order", "two numbers", "two blocks", "moved"],
)
def test_changes_that_keep_sums_are_noticed(dtype, change, rng):
    numbers = rng.integers(1, 100, size=2**19).astype(dtype)
    before = hash_of_array(numbers)
    change(numbers)
    assert hash_of_array(numbers) == sha256(numbers.tobytes()).digest() != before


def test_strides_and_conjugates_do_not_matter(rng):
    numbers = torch.from_numpy(rng.normal(size=(300, 400)) + 1j * rng.normal(size=(300, 400)))
    expected = hash_of_tensor(numbers)
    assert hash_of_tensor(numbers.t().contiguous().t()) == expected
    assert hash_of_tensor(numbers.conj().resolve_conj().conj()) == expected
    assert hash_of_tensor(numbers.conj()) != expected
    assert hash_of_array(np.asfortranarray(numbers.numpy())) == expected


def test_the_checksum_is_the_same_on_every_device(numbers):
    words = numbers[: N // 2 * 2].view(np.int64)
    on_device = content_hashes._checksum_on_device(torch.from_numpy(words))
    assert on_device == content_hashes._checksum(words)


def test_what_is_known_is_not_hashed_again(numbers, monkeypatch):
    expected = hash_of_array(numbers)
    monkeypatch.setattr(content_hashes, "_remember", lambda key, content: pytest.fail("again"))
    assert hash_of_array(numbers) == hash_of_array(numbers.copy()) == expected


def test_only_a_number_of_hashes_is_remembered(monkeypatch, rng):
    monkeypatch.setattr(content_hashes, "_hashes", {})
    monkeypatch.setattr(content_hashes, "_MOST_HASHES", 3)
    for seed in range(8):
        hash_of_array(np.full(2**14, seed))
        assert len(content_hashes._hashes) <= 3


@pytest.mark.slow
def test_threads_that_change_their_own_numbers_get_their_own_hashes():
    def work(seed):
        numbers = np.random.default_rng(seed).normal(size=2**15)
        for i in range(50):
            numbers[i] += 1
            assert hash_of_array(numbers) == sha256(numbers.tobytes()).digest()
        return seed

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(8))) == [*range(8)]
