from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skdejavid.video.object_graphs import IfRead, Node, UnknowableError, digest_of


class Thing:
    """An object with named parts."""

    def __init__(self, kind="thing", ordered=True, nameless=False, **parts):
        self.kind, self.ordered, self.nameless, self.parts = kind, ordered, nameless, parts

    def set(self, **parts):
        self.parts.update(parts)
        return self


def describe(value):
    if isinstance(value, (str, int)):
        return repr(value).encode()
    if value is None:
        raise UnknowableError("is None")
    parts = [(f".{name}", part) for name, part in value.parts.items()]
    return Node(value.kind, parts, value.ordered, nameless=value.nameless)


digest = partial(digest_of, describe=describe, name="it")


def test_equal_trees_have_the_same_digest_whether_parts_are_shared_or_not():
    shared = Thing(a=1)
    assert digest(Thing(x=shared, y=shared)) == digest(Thing(x=Thing(a=1), y=Thing(a=1)))
    different = [Thing(x=shared), Thing(y=shared), Thing(x=1), Thing(x="1"), Thing("other", x=1)]
    assert len({digest(thing) for thing in different}) == 5


def test_the_order_of_parts_counts_unless_they_have_none():
    one, other = {"x": 1, "y": 2}, {"y": 2, "x": 1}
    assert digest(Thing(**one)) != digest(Thing(**other))
    assert digest(Thing(ordered=False, **one)) == digest(Thing(ordered=False, **other))


def test_it_does_not_matter_how_often_a_circle_is_unrolled():
    circle = Thing()
    circle.set(next=circle)
    two = Thing()
    two.set(next=Thing(next=two))
    assert digest(circle) == digest(two) == digest(Thing(next=circle))
    longer = Thing()
    longer.set(next=Thing("other", next=longer))
    assert digest(longer) != digest(circle)
    assert digest(longer) != digest(longer.parts["next"])


def test_where_a_circle_closes_counts():
    def make(scale, parent):
        inner, first, second = Thing(), Thing(scale=1), Thing(scale=2)
        first.set(inner=inner)
        second.set(inner=inner if parent == "first" else Thing(parent=second))
        return Thing(a=first, b=second), inner.set(parent=first).set(scale=scale)

    assert digest(make(1, "first")[0]) == digest(make(1, "first")[0])
    assert digest(make(1, "first")[0]) != digest(make(2, "first")[0])
    assert digest(make(1, "first")[0]) != digest(make(1, "own")[0])


@st.composite
def graphs(draw):
    """Draw kinds and edges of a graph of up to 6 objects."""
    n = draw(st.integers(1, 6))
    kinds = draw(st.lists(st.sampled_from("ab"), min_size=n, max_size=n))
    targets = st.lists(st.integers(0, n - 1), min_size=1, max_size=2)
    return kinds, draw(st.lists(targets, min_size=n, max_size=n))


def things_of(kinds, edges):
    things = [Thing(kind) for kind in kinds]
    for thing, targets in zip(things, edges, strict=True):
        thing.set(**{f"part{i}": things[target] for i, target in enumerate(targets)})
    return things


def unrolled(kinds, edges, i, depth):
    """Return what can be seen from an object with a number of steps."""
    if depth == 0:
        return None
    return kinds[i], tuple(unrolled(kinds, edges, target, depth - 1) for target in edges[i])


@given(graphs(), graphs())
def test_digests_are_the_same_if_and_only_if_no_path_leads_to_a_difference(one, other):
    # With at most 12 objects in both graphs, 12 steps show every difference.
    seen = [unrolled(*graph, 0, 12) for graph in (one, other)]
    digests = [digest(things_of(*graph)[0]) for graph in (one, other)]
    assert (digests[0] == digests[1]) == (seen[0] == seen[1])


def test_objects_without_content_are_known_by_where_they_are_stored():
    def encoder(how):
        low, high = Thing(nameless=True), Thing(nameless=True)
        return Thing(how=low if how == "low" else high, LOW=low, HIGH=high)

    assert digest(encoder("low")) == digest(encoder("low"))
    assert digest(encoder("low")) != digest(encoder("high"))


def test_what_is_written_and_never_read_does_not_count():
    def digest_with(value, reads=(), writes=()):
        code = Node("code", reads=frozenset(reads), writes=frozenset(writes))
        return digest_of(
            "root",
            lambda part: {
                "root": Node("root", [(".count", IfRead("count", value)), (".code", "code")]),
                "code": code,
            }.get(part, repr(part).encode()),
            "it",
        )

    assert digest_with(1) != digest_with(2)
    assert digest_with(1, writes=["count"]) == digest_with(2, writes=["count"])
    assert digest_with(1, ["count"], ["count"]) != digest_with(2, ["count"], ["count"])
    assert digest_with(1, ["getattr"], ["count"]) != digest_with(2, ["getattr"], ["count"])


def test_objects_may_be_nested_as_deeply_as_memory_allows():
    def chain(end):
        for _ in range(20_000):
            end = Thing(inner=end)
        return digest(end)

    assert chain(1) == chain(1) != chain(2)


def test_the_path_to_what_cannot_be_known_is_named():
    with pytest.raises(UnknowableError, match=r"^it\.blocks\.cache is None$"):
        digest(Thing(first=1, blocks=Thing(cache=None)))


def test_errors_of_what_is_read_name_the_path():
    with pytest.raises(UnknowableError, match=r"^it\.x cannot be read \(AttributeError: .*parts"):
        digest(Thing(x=2.5))


def test_large_contents_are_hashed_in_threads_with_the_same_result():
    def digest_with(n_bytes):
        leaves = [Node("leaf", content=lambda i=i: bytes([i]), n_bytes=n_bytes) for i in (1, 2)]
        root = Node("root", [(f"[{i}]", leaf) for i, leaf in enumerate(leaves)])
        return digest_of(root, lambda node: node, "it")

    assert digest_with(10) == digest_with(2**23)
