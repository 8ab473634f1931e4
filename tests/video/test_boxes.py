import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skdejavid.video.boxes import (
    ElementHeader,
    iterate_boxes,
    iterate_elements,
    read_element_header,
    read_range,
)

NAMES = [b"\xae", b"\x54\xcc", b"\x22\xb5\x9c", b"\x1a\x45\xdf\xa3"]


def box(kind, content, *, is_large=False):
    size = len(content) + (16 if is_large else 8)
    if is_large:
        return (1).to_bytes(4, "big") + kind + size.to_bytes(8, "big") + content
    return size.to_bytes(4, "big") + kind + content


def element(name, content, n_size):
    return name + (len(content) + (1 << 7 * n_size)).to_bytes(n_size, "big") + content


@given(boxes=st.lists(st.tuples(st.binary(min_size=4, max_size=4), st.binary(), st.booleans())))
def test_boxes_are_found_with_their_contents(boxes):
    content = b"".join(box(kind, inner, is_large=large) for kind, inner, large in boxes)
    file = io.BytesIO(b"before" + content + b"after")
    found = iterate_boxes(file, 6, 6 + len(content))
    expected = [(kind, inner) for kind, inner, _ in boxes]
    assert [(kind, read_range(file, begin, end)) for kind, begin, end in found] == expected


def test_a_box_without_size_reaches_to_the_end():
    file = io.BytesIO(box(b"free", b"12") + bytes(4) + b"mdat" + b"345")
    assert list(iterate_boxes(file, 0, 21)) == [(b"free", 8, 10), (b"mdat", 18, 21)]


@given(
    elements=st.lists(st.tuples(st.sampled_from(NAMES), st.binary(max_size=100), st.integers(1, 8)))
)
def test_elements_are_found_with_their_contents(elements):
    content = b"".join(element(*parts) for parts in elements)
    file = io.BytesIO(b"before" + content + b"after")
    found = iterate_elements(file, 6, 6 + len(content))
    expected = [(name, inner) for name, inner, _ in elements]
    assert [(name, read_range(file, begin, end)) for name, begin, end in found] == expected


@pytest.mark.parametrize("n_size", range(1, 9))
def test_an_element_of_unknown_size_reaches_to_the_end(n_size):
    unknown = ((2 << 7 * n_size) - 1).to_bytes(n_size, "big")
    header = read_element_header(b"\xae" + unknown + b"123")
    assert header == ElementHeader(b"\xae", 1 + n_size, None)
    file = io.BytesIO(element(b"\x54\xcc", b"7", 1) + b"\xae" + unknown + b"123")
    assert list(iterate_elements(file, 0, 8 + n_size)) == [
        (b"\x54\xcc", 3, 4),
        (b"\xae", 5 + n_size, 8 + n_size),
    ]


@pytest.mark.parametrize("head", [b"", b"\0", b"\0\x81", b"\xae", b"\x54", b"\x54\xcc\x40"])
def test_what_is_no_header_is_none(head):
    assert read_element_header(head) is None


@given(content=st.binary(max_size=60))
def test_any_bytes_end(content):
    file = io.BytesIO(content)
    for iterate in (iterate_boxes, iterate_elements):
        places = [(begin, end) for _, begin, end in iterate(file, 0, len(content))]
        ends = [end for _, end in places]
        assert all(begin > 0 for begin, _ in places)
        assert ends == sorted(ends)
