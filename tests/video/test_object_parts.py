import abc
import collections
import functools
import inspect
import io
import logging
import operator
import random
import threading
import types
import typing
import weakref

import numpy as np
import pytest
import torch
from encoder_pairs import values_of_kinds

from skdejavid.video.object_graphs import UnknowableError, digest_of
from skdejavid.video.object_parts import describe


def digest(value):
    return digest_of(value, describe, "it")


def test_values_of_all_kinds_are_distinct_and_equal_to_their_copies():
    pairs = [values_of_kinds(np.random.default_rng(0)) for _ in range(2)]
    values = [[value for both in drawn.values() for value in both] for drawn in pairs]
    digests = [[digest(value) for value in drawn] for drawn in values]
    assert digests[0] == digests[1]
    assert len({*digests[0]}) == len(digests[0]) - 1  # one tensor occurs twice


class Float(float):
    pass


class Items(list):
    def __iter__(self):
        return iter(())


class Odd(dict):
    def items(self):
        return []


class Empty:
    pass


class Renamed:
    __class__ = dict  # pretends to be one


T = typing.TypeVar("T")


class Protocol(typing.Protocol):
    def f(self): ...


class Abstract(abc.ABC):
    @abc.abstractmethod
    def f(self): ...


def test_classes_derived_from_built_in_ones_count_with_their_contents():
    def with_attribute(value):
        value.x = 1
        return value

    kinds = [
        *(2.0, Float(2.0), Float(3.0), with_attribute(Float(2.0))),
        *([1], Items([1]), Items([2]), with_attribute(Items([1]))),
        *({1: 2}, Odd({1: 2}), Odd({1: 3})),
        *(Empty(), with_attribute(Empty()), Empty, Renamed(), Protocol, Abstract),
        *(collections.Counter("ab"), collections.defaultdict(list), collections.defaultdict(set)),
        *(collections.deque([1]), collections.deque([1], 3)),
        *(typing.Any, typing.Callable, list[int], int | None, T),
    ]
    assert len({digest(value) for value in kinds}) == len(kinds)


def test_the_order_of_an_ordered_dictionary_counts_and_that_of_sets_does_not():
    ordered = collections.OrderedDict(a=1, b=2)
    moved = collections.OrderedDict(b=2, a=1)
    assert digest(ordered) != digest(moved)
    moved.move_to_end("b")
    assert digest(ordered) == digest(moved)
    assert digest({*map(str, range(50))}) == digest({*map(str, reversed(range(50)))})


def test_generators_of_random_numbers_count_by_their_state():
    makers = [random.Random, np.random.default_rng, np.random.RandomState]
    makers.append(lambda seed: torch.Generator().manual_seed(seed))
    for make in makers:
        assert digest(make(1)) == digest(make(1)) != digest(make(2))


def test_devices_loggers_and_what_functions_have_cached_do_not_count():
    assert digest(torch.device("cpu")) == digest(torch.device("cuda:1"))
    assert digest(logging.getLogger("a")) == digest(logging.getLogger("b"))

    @functools.lru_cache
    def cached(x):
        return x

    before = digest(cached)
    cached(3)
    assert digest(cached) == before


def test_callables_count_by_what_they_call():
    callables = [
        *(operator.itemgetter(1), operator.itemgetter(2), operator.attrgetter("x")),
        *(operator.methodcaller("x"), operator.methodcaller("x", 1)),
        *(functools.partial(len), functools.partial(max), functools.partial(max, 1)),
        *(np.sqrt, np.exp, slice(1), slice(2), ValueError("a"), ValueError("b")),
        *(types.MappingProxyType({"a": 1}), types.SimpleNamespace(a=1), bytearray(b"a")),
    ]
    assert len({digest(value) for value in callables}) == len(callables)


HIDDEN = {
    "lock": threading.Lock,
    "BytesIO": io.BytesIO,
    "generator": lambda: (i for i in ()),
    "list_iterator": lambda: iter([]),
    "memoryview": lambda: memoryview(b"x"),
    "_local": threading.local,
    "ReferenceType": lambda: weakref.ref(Empty),
    "UntypedStorage": lambda: torch.ones(2).untyped_storage(),
}


@pytest.mark.fault(125)
@pytest.mark.parametrize("kind", HIDDEN)
def test_what_has_a_hidden_state_is_refused_with_its_path(kind):
    class Derived:
        def __init__(self):
            self.inside = HIDDEN[kind]()

    value = {"x": [1, Derived()]}
    with pytest.raises(UnknowableError, match=rf"^it\['x'\]\[1\]\.inside is a {kind}, whose state"):
        digest(value)


def test_functions_of_unknown_native_code_are_refused():
    with pytest.raises(UnknowableError, match="it is compiled code, which cannot be compared"):
        digest(np.frompyfunc(len, 1, 1))


def _make(kind):
    for arguments in ((), (2,), (2, 2), (2, 2, 1), (2, 2, 2, 2), (torch.nn.ReLU(),), (2, [2])):
        try:
            return kind(*arguments)
        except (TypeError, ValueError, NotImplementedError):
            continue
    return None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:enable_nested")  # by constructors
def test_all_layers_of_torch_are_known_and_distinct():
    kinds = [
        kind
        for _, kind in inspect.getmembers(torch.nn, inspect.isclass)
        if issubclass(kind, torch.nn.Module) and "Lazy" not in kind.__name__
    ]
    torch.manual_seed(0)
    made = [layer for layer in map(_make, kinds) if layer is not None]
    assert len(made) > 140
    digests = [digest(layer) for layer in made]
    assert digests == [digest(layer) for layer in made]
    assert len({*digests}) == len({type(layer) for layer in made})
