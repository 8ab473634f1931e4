import copy
import io
import logging
import threading
import weakref
from collections import deque
from functools import lru_cache, partial

import numpy as np
import pytest
import torch
from torch import nn

from skdejavid.video.rebuilding import SHARED, Memo, is_plain, is_rebuilt, links_to, path_to


class Owner:
    """An object whose attributes belong to it, and functions that lead back to it."""

    def __init__(self):
        self.items = []

    def method(self):
        return self


def owned_by(*items):
    return {id(item): item for item in items}


def rebuild(item, owner):
    """Return copies of an object and of what it leads to."""
    links = links_to(owned_by(owner, owner.items), [item])
    memo = Memo(links.shared, links.rebuilt)
    return copy.deepcopy(item, memo), copy.deepcopy(owner, memo)


def uses(owner):
    return lambda: owner


def with_default(owner):
    def function(value=owner, *, other=(owner,)):
        """Return both."""
        return value, other

    function.note = [owner]
    return function


CALLED = {
    "closure": (uses, lambda f: f()),
    "default": (with_default, lambda f: f()[0]),
    "keyword": (with_default, lambda f: f()[1][0]),
    "attribute": (with_default, lambda f: f.note[0]),
    "method": (lambda owner: owner.method, lambda f: f()),
    "partial": (lambda owner: partial(lambda x: x, owner), lambda f: f()),
    "cached": (lambda owner: lru_cache(4)(uses(owner)), lambda f: f()),
    "weak": (weakref.ref, lambda f: f()),
    "proxy": (weakref.proxy, lambda f: f.method()),
    "weak method": (lambda owner: weakref.WeakMethod(owner.method), lambda f: f()()),
    "nested": (lambda owner: uses(uses(owner)), lambda f: f()()),
    "tuple": (lambda owner: (uses(owner),), lambda f: f[0]()),
    "array": (lambda owner: np.array([uses(owner)]), lambda f: f[0]()),
}


@pytest.mark.fault(124)
@pytest.mark.parametrize("kind", CALLED)
def test_what_leads_to_an_owner_is_rebuilt_for_its_copy(kind):
    make, call = CALLED[kind]
    owner = Owner()
    item = make(owner)
    copied, other = rebuild(item, owner)
    assert other is not owner
    assert call(copied) is other
    assert call(item) is owner


def test_methods_of_native_containers_are_those_of_the_copy():
    owner = Owner()
    append, other = rebuild(owner.items.append, owner)
    append(1)
    assert (owner.items, other.items) == ([], [1])


def test_functions_are_described_like_the_original():
    owner = Owner()
    function = with_default(owner)
    copied, _ = rebuild(function, owner)
    names = ("__name__", "__qualname__", "__doc__", "__module__", "__code__", "__annotations__")
    assert all(getattr(copied, name) == getattr(function, name) for name in names)


def test_settings_of_a_cache_are_kept_and_its_results_are_not():
    owner = Owner()
    cached = lru_cache(maxsize=3, typed=True)(uses(owner))
    cached()
    copied, _ = rebuild(cached, owner)
    assert copied.cache_parameters() == {"maxsize": 3, "typed": True}
    assert (cached.cache_info().currsize, copied.cache_info().currsize) == (1, 0)


def test_variables_are_shared_as_before_and_may_have_no_value():
    owner, others = Owner(), []

    def write(value):
        nonlocal owner
        others.append(value)
        owner = value

    def read():
        return owner, late

    original = owner
    (write_copy, read_copy), _ = rebuild((write, read), owner)
    write_copy(3)
    with pytest.raises(NameError, match="late"):
        read_copy()
    assert write_copy.__closure__[1] is read_copy.__closure__[1]
    assert owner is original
    assert others == [3]  # what does not lead to the owner is no copy
    late = 1
    assert read() == (owner, late)


def test_what_does_not_lead_to_an_owner_is_shared():
    owner, stored = Owner(), {}
    kept, leading = partial(stored.update), uses(owner)
    links = links_to(owned_by(owner, owner.items), [kept, leading])
    assert links.shared[id(kept)] is kept
    assert links.shared[id(stored)] is stored
    assert id(leading) in links.rebuilt
    assert id(leading) not in links.shared
    assert id(owner) not in links.rebuilt


def test_constants_and_objects_of_the_process_lead_nowhere():
    owner, logger = Owner(), logging.getLogger("rebuilding")
    owner.shape, owner.dtype, owner.log = (1, 2), torch.float32, logger
    owned = owned_by(owner, owner.shape, owner.dtype, owner.log)
    functions = [uses(owner.shape), uses(owner.dtype), uses(logger)]
    assert links_to(owned, functions).rebuilt == {}


def test_an_owned_variable_that_a_function_assigns_leads_to_its_owner():
    value = None

    def write(new):
        nonlocal value
        value = new

    def read():
        return value

    cell = read.__closure__[0]
    assert links_to(owned_by(cell), [read]).rebuilt == {}
    assert id(read) in links_to(owned_by(cell), [read, write]).rebuilt
    assert links_to({}, [read, write]).rebuilt == {}


def test_weak_references_to_what_is_not_owned_are_not_rebuilt():
    owner = Owner()
    owner.outer = outer = Owner()
    outer.inner = owner
    assert links_to(owned_by(owner), [weakref.ref(outer)]).rebuilt == {}


def test_the_way_to_one_of_the_ends_is_the_shortest():
    end, other = Owner(), Owner()
    root = [1, {"a": [other, uses(end)]}, end]
    assert path_to(owned_by(end), root, "root") == ("root[2]", end)
    del root[2]
    assert path_to(owned_by(end), root, "root") == ("root[1]['a'][1].__closure__['owner']", end)
    assert path_to(owned_by(end), root[1]["a"][:1], "root") is None
    root.append(root)
    assert path_to({}, root, "root") is None


@pytest.mark.parametrize("item", [threading.RLock(), io.TextIOWrapper(io.BytesIO()), logging.root])
def test_what_belongs_to_the_process_is_shared(item):
    assert isinstance(item, SHARED)
    assert not is_plain(item)
    assert path_to(owned_by(item.__class__), [item], "root") is None


def test_kinds_of_objects():
    owner = Owner()
    assert is_plain(owner)
    assert is_plain(nn.Linear(2, 2))
    assert not any(map(is_plain, (torch.zeros(1), np.zeros(1), torch.float32, deque())))
    assert all(map(is_rebuilt, (uses(owner), owner.method, owner.items.append, weakref.ref(owner))))
    assert is_rebuilt(weakref.proxy(owner))
    assert not any(map(is_rebuilt, (owner, [], partial(print), torch.zeros(1))))
