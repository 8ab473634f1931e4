import builtins
import weakref
from collections import deque
from functools import lru_cache, partial
from types import CellType, FunctionType

import numpy as np
import pytest
import torch
from torch import nn

from skdejavid.video.references import (
    attributes_of,
    cells_of,
    content_of,
    original_function,
    references_of,
    target_of,
)


class Target:
    def method(self):
        return self


TARGET = Target()


class Slotted:
    __slots__ = ("__hidden", "unset")

    def __init__(self, value):
        self.__hidden = value


class Both(Slotted):
    def __init__(self, value):
        super().__init__(1)
        self.shown = value


class ItemsAndMore(dict):
    """A container with attributes."""


def closure(value):
    return lambda: value


def with_attribute(value):
    def function():
        pass

    function.note = value
    return function


def with_attributes(value):
    items = ItemsAndMore(number=1)
    items.note = value
    return items


def generator(value):
    def numbers(kept):
        yield kept

    return numbers(value)


def tensor(value):
    tensor = torch.zeros(1)
    tensor.note = value
    return tensor


HOLDERS = {
    "weak": (weakref.ref, "()"),
    "proxy": (weakref.proxy, "()"),
    "cell": (CellType, ""),
    "default": (lambda v: lambda x=v: x, ".__defaults__[0]"),
    "keyword": (lambda v: lambda *, x=v: x, ".__kwdefaults__['x']"),
    "closure": (closure, ".__closure__['value']"),
    "attribute": (with_attribute, ".note"),
    "method": (lambda v: v.method, ".__self__"),
    "native method": (lambda v: [v].append, ".__self__[0]"),
    "cached": (lambda v: lru_cache(closure(v)), ".__wrapped__.__closure__['value']"),
    "function": (lambda v: partial(closure(v)), ".func.__closure__['value']"),
    "argument": (lambda v: partial(print, v), ".args[0]"),
    "keyword argument": (lambda v: partial(print, end=v), ".keywords['end']"),
    "dict": (lambda v: {"a": v}, "['a']"),
    "key": (lambda v: {v: 1}, ".keys()[...]"),
    "any key": (lambda v: {(1, 2): v}, "[...]"),
    "attribute of dict": (with_attributes, ".note"),
    **{
        kind.__name__: (lambda v, kind=kind: kind([v]), "[0]")
        for kind in (list, tuple, set, frozenset, deque)
    },
    "tensor": (tensor, ".note"),
    "array": (lambda v: np.array([[1, v]], dtype=object), "[1]"),
    "slot": (Slotted, "._Slotted__hidden"),
    "slot and dict": (Both, ".shown"),
    "generator": (generator, ""),
    "iterator": (lambda v: map(print, [v]), "[0]"),
    "compiled": (lambda v: torch.compile(closure(v)), "._torchdynamo_orig_callable"),
}


def paths_of(item, depth=4):
    """Return the expressions by which one gets from an object to TARGET."""
    found = set()
    for suffix, part in references_of(item):
        if part is TARGET:
            found.add(suffix)
        elif depth:
            found |= {suffix + inner for inner in paths_of(part, depth - 1)}
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile
@pytest.mark.parametrize("kind", HOLDERS)
def test_what_an_object_refers_to_is_found_with_the_way_to_it(kind):
    make, path = HOLDERS[kind]
    paths = paths_of(make(TARGET))
    assert any(found.startswith(path) for found in paths)
    other = Target()
    assert not paths_of(make(other))


def test_classes_code_globals_and_what_is_in_modules_of_python_do_not_count():
    assert [part for _, part in references_of(paths_of)] == [(4,)]
    assert references_of(closure(1))[0][1].cell_contents == 1
    assert all(part is not Target for _, part in references_of(Target()))
    assert references_of([np, 1, "a", None, 2.0, Target]) == [("[0]", np)]
    assert references_of(np) == []
    assert references_of(len) == [(".__self__", builtins)]


def test_modules_have_their_attributes():
    module = nn.Linear(2, 2)
    named = dict(references_of(module))
    assert named["._parameters"] is module._parameters
    assert named["._forward_hooks"] is module._forward_hooks


def test_attributes_are_those_in_slots_and_others():
    assert attributes_of(Slotted(3)) == {"_Slotted__hidden": 3}
    assert attributes_of(Both(4)) == {"_Slotted__hidden": 1, "shown": 4}
    assert attributes_of(3) == {}


def test_cells_are_those_of_the_variables_of_a_closure():
    function = closure(5)
    assert isinstance(function, FunctionType)
    assert {name: content_of(cell) for name, cell in cells_of(function).items()} == {"value": 5}
    assert content_of(CellType()) is None
    assert cells_of(paths_of) == {}


def test_weak_references_have_a_target_while_it_lives():
    target = Target()
    weak, proxy = weakref.ref(target), weakref.proxy(target)
    assert target_of(weak) is target_of(proxy) is target
    assert target_of(weakref.WeakMethod(target.method)) == target.method
    del target
    assert target_of(weak) is target_of(proxy) is None
    assert references_of(weak) == references_of(proxy) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_original_of_a_compiled_function_is_known():
    function = closure(1)
    assert original_function(torch.compile(function)) is function
    assert original_function(function) is None
