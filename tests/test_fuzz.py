"""A few inputs of fuzz.py; `make fuzz` runs many."""

import random

import fuzz_videos
import pytest
from fuzz import TARGETS, fuzz, mutated_bytes, mutated_tree


@pytest.mark.parametrize(
    ("target", "n_inputs"),
    [
        ("load", 1500),
        ("manifest", 700),
        ("check_sequences", 5000),
        pytest.param("tables", 1500, marks=pytest.mark.fault(78, 79, 80)),
        pytest.param("read_array", 1000, marks=pytest.mark.fault(78, 79, 80)),
    ],
)
def test_nothing_but_the_documented_refusals_is_raised(target, n_inputs):
    n_refused = fuzz(target, n_inputs, seed=1)
    assert n_inputs / 2 < n_refused < n_inputs  # most are bad, and not all


def test_inputs_differ_and_are_the_same_each_time():
    tree = {"a": [1, {"b": None}], "c": "x"}
    trees = [str(mutated_tree(random.Random(i), tree)) for i in range(50)]
    assert trees == [str(mutated_tree(random.Random(i), tree)) for i in range(50)]
    assert len(set(trees)) > 25
    assert tree == {"a": [1, {"b": None}], "c": "x"}
    contents = {mutated_bytes(random.Random(i), b"0123456789" * 30) for i in range(50)}
    assert len(contents) > 45


def test_what_is_neither_taken_nor_refused_is_heard(monkeypatch):
    def crash(self):
        raise KeyError("x")

    monkeypatch.setattr(TARGETS["check_sequences"], "take", crash)
    with pytest.raises(KeyError) as caught:
        fuzz("check_sequences", 3, seed=1)
    assert caught.value.__notes__ == ["input 0 of target 'check_sequences' with seed 1"]


@pytest.mark.slow
@pytest.mark.fault(79)
def test_mutated_videos_are_read_or_refused():
    n_refused, problems = fuzz_videos.fuzz_videos(300, seed=1)
    assert problems == []
    assert 100 < n_refused < 290


def test_mutated_videos_differ_and_are_the_same_each_time():
    contents = [fuzz_videos.mutated(random.Random(i), bytes(range(250))) for i in range(50)]
    assert contents == [fuzz_videos.mutated(random.Random(i), bytes(range(250))) for i in range(50)]
    assert len(set(contents)) > 40


def test_a_crash_is_reported_and_not_the_end():
    reader = fuzz_videos.Reader(fuzz_videos.crash)
    for _ in range(2):
        outcome, seconds, n_bytes = reader.read("a.mp4")
        assert fuzz_videos.problem_of(outcome, seconds, n_bytes, 1) == "crash, exit code -6"
    reader.close()


def test_what_takes_too_long_or_too_much_is_a_problem():
    assert fuzz_videos.problem_of(True, 4.0, 10**8, 1000) is None
    assert fuzz_videos.problem_of(False, 4.0, 300 * 10**6, 10**7) is None
    assert "took 6.0 s" in fuzz_videos.problem_of(True, 6.0, 0, 1000)
    assert "took 300 MB for 1000 bytes" in fuzz_videos.problem_of(False, 1.0, 300 * 10**6, 1000)
    assert "KeyError" in fuzz_videos.problem_of("KeyError('x')", 1.0, 0, 1000)
