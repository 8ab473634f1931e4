"""A few inputs of fuzz.py; `make fuzz` runs many."""

import random

import pytest
from fuzz import TARGETS, fuzz, mutated_bytes, mutated_tree


@pytest.mark.parametrize(
    ("target", "n_inputs"),
    [("load", 1500), ("manifest", 700), ("check_sequences", 5000), ("tables", 1500)],
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
