"""Hashes of graphs of Python objects, the same wherever and however often an object is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b, sha256
from os import cpu_count
from types import ModuleType
from typing import Any, NamedTuple

__all__ = ["READ_ANY", "IfRead", "Node", "Reads", "UnknowableError", "digest_of"]

# Fewer bytes are hashed before threads have started.
_WORTH_THREADS = 2**22


class UnknowableError(ValueError):
    """Error raised if an object decides in a way that cannot be compared with another one."""


class Node(NamedTuple):
    """What decides of one object: its kind, other objects, and bytes."""

    kind: str
    parts: Sequence[tuple[str, Any]] = ()  # expressions that lead from the object to its parts
    ordered: bool = True  # whether the order of the parts counts
    content: Callable[[], bytes] | None = None  # computes a hash of what else decides
    n_bytes: int = 0  # of what is hashed
    reads: frozenset[str] = frozenset()  # names that code reads, in such a way that they matter
    writes: frozenset[str] = frozenset()  # names of attributes that code changes
    nameless: bool = False  # whether code can distinguish the object only by where it is stored


class Reads(NamedTuple):
    """A Python module, and the names by which code reads attributes of anything."""

    module: ModuleType
    names: frozenset[str]
    bare: frozenset[str]  # names of which the code may read any attribute


class IfRead(NamedTuple):
    """An attribute that counts only if code may read it, or if no code writes it."""

    name: str
    value: Any
    by_name: bool = False  # whether it counts only if code reads it by name


# Names by which code reads attributes whose names it computes.
READ_ANY = {
    *("getattr", "getattr_static", "__getattribute__", "vars", "__dict__", "attrgetter"),
    *("getmembers", "asdict", "astuple", "__getstate__", "__reduce__", "__reduce_ex__"),
}

_Child = int | bytes | None  # number of a node, bytes without parts, or what does not count


class _Graph:
    """All objects that can be reached from one of them."""

    def __init__(self, describe: Callable[[Any], Node | bytes], name: str) -> None:
        self.nodes: list[Node] = []
        self.children: list[list[_Child]] = []
        self._describe = describe
        self._name = name
        self._numbers: dict[Any, int] = {}
        self._origins: list[tuple[int, str]] = []  # number of the object before, and expression

        self._open: list[tuple[int, int, IfRead]] = []  # node, place among its children, attribute
        self._read: set[str] = set()
        self._written: set[str] = set()

    def expand(self, root: Any) -> None:
        self._number(root, -1, "")
        self._expand_all()
        while due := [item for item in self._open if self._counts(item[2])]:
            self._open = [item for item in self._open if not self._counts(item[2])]
            for i, place, attribute in due:
                suffix = self.nodes[i].parts[place][0]
                self.children[i][place] = self._number(attribute.value, i, suffix)
            self._expand_all()

    def _counts(self, attribute: IfRead) -> bool:
        if attribute.name in self._read or attribute.by_name:
            return attribute.name in self._read
        return attribute.name not in self._written or bool(self._read & READ_ANY)

    def _expand_all(self) -> None:
        # Without recursion, since objects may be nested more deeply than Python's stack is.
        while len(self.children) < len(self.nodes):
            i = len(self.children)
            children: list[_Child] = []
            for place, (suffix, part) in enumerate(self.nodes[i].parts):
                if type(part) is IfRead:
                    self._open.append((i, place, part))
                    children.append(None)
                else:
                    children.append(self._number(part, i, suffix))
            self.children.append(children)

    def _number(self, value: Any, origin: int, suffix: str) -> int | bytes:
        """Return the number of an object, or the bytes of one that needs none."""
        key = value if type(value) is Reads else id(value)
        number = self._numbers.get(key)
        if number is not None:
            return number
        try:
            described = self._describe(value)
        except UnknowableError as error:
            raise UnknowableError(f"{self._path(origin)}{suffix} {error}") from error
        except Exception as error:  # attributes may be computed by anybody's code
            reason = f"cannot be read ({type(error).__name__}: {error})"
            raise UnknowableError(f"{self._path(origin)}{suffix} {reason}") from error
        if isinstance(described, bytes):
            return described
        self._numbers[key] = number = len(self.nodes)
        self.nodes.append(described)  # keeps its parts alive, whose ids would be used again
        self._read |= described.reads
        self._written |= described.writes
        self._origins.append((origin, suffix))
        return number

    def _path(self, number: int) -> str:
        suffixes = []
        while number >= 0:
            number, suffix = self._origins[number]
            suffixes.append(suffix)
        return self._name + "".join(reversed(suffixes))


def digest_of(root: Any, describe: Callable[[Any], Node | bytes], name: str) -> bytes:
    """Return a hash of an object and all that it refers to.

    Two objects have the same hash if no path of references leads to a difference. So it does not
    matter whether two equal parts are one object, unless they are nameless.

    Parameters
    ----------
    root : object
    describe : callable
        Returns the node of an object, or bytes that identify an object without parts.
    name : str
        What messages call `root`.

    Returns
    -------
    bytes
        32 bytes, the same in any process.

    Raises
    ------
    UnknowableError
        If `describe` raises it. The message begins with the path to the object, such as
        ``encoder.blocks[3].cache``.
    """
    graph = _Graph(describe, name)
    graph.expand(root)
    if not graph.nodes:
        return sha256(describe(root)).digest()  # type: ignore[arg-type]
    contents = _hash_contents(graph.nodes)
    children = graph.children
    _add_places(graph.nodes, children, contents)
    digests = _digests_of_trees(graph.nodes, children, contents)
    if digests[0] is None:
        return _digest_with_circles(graph.nodes, children, contents, digests)
    return sha256(digests[0]).digest()


def _hash_contents(nodes: Sequence[Node]) -> list[bytes]:
    """Return the hash of the content of each node; large ones are hashed in parallel."""

    def compute(node: Node) -> bytes:
        return b"" if node.content is None else node.content()

    if sum(node.n_bytes for node in nodes) < _WORTH_THREADS:
        return [compute(node) for node in nodes]
    with ThreadPoolExecutor(min(16, cpu_count() or 1)) as pool:
        large = {
            i: pool.submit(compute, node) for i, node in enumerate(nodes) if node.n_bytes > 2**12
        }
        return [large[i].result() if i in large else compute(node) for i, node in enumerate(nodes)]


def _add_places(
    nodes: Sequence[Node], children: Sequence[Sequence[_Child]], contents: list[bytes]
) -> None:
    """Identify objects like ``MEAN = object()`` by the names under which they are stored."""
    places: dict[int, set[str]] = {i: set() for i, node in enumerate(nodes) if node.nameless}
    for node, items in zip(nodes, children, strict=True):
        for (suffix, _), item in zip(node.parts, items, strict=True):
            if isinstance(item, int) and item in places:
                places[item].add(suffix)
    for i, suffixes in places.items():
        contents[i] = repr(sorted(suffixes)).encode()


def _digests_of_trees(
    nodes: Sequence[Node], children: Sequence[Sequence[_Child]], contents: Sequence[bytes]
) -> list[bytes | None]:
    """Return the digest of each node from which no path leads into a circle, else None."""
    digests: list[bytes | None] = [None] * len(nodes)
    parents: list[list[int]] = [[] for _ in nodes]
    n_missing = [0] * len(nodes)
    for i, items in enumerate(children):
        for item in items:
            if isinstance(item, int):
                parents[item].append(i)
                n_missing[i] += 1
    ready = [i for i, n in enumerate(n_missing) if n == 0]
    while ready:
        i = ready.pop()
        digests[i] = _digest(nodes[i], children[i], contents[i], digests)
        for parent in parents[i]:
            n_missing[parent] -= 1
            if n_missing[parent] == 0:
                ready.append(parent)
    return digests


def _digest_with_circles(
    nodes: Sequence[Node],
    children: Sequence[Sequence[_Child]],
    contents: Sequence[bytes],
    digests: Sequence[bytes | None],
) -> bytes:
    """Return a hash of the first node, although paths from it lead into circles.

    Refines the digests of all such nodes until no further ones become distinct. Then two nodes
    have the same digest if and only if nothing that can be reached from them differs.
    """
    unknown = [i for i, digest in enumerate(digests) if digest is None]
    colors = list(digests)
    for i in unknown:
        colors[i] = b""
    n_distinct = 1
    while True:
        refined = list(colors)
        for i in unknown:
            refined[i] = _digest(nodes[i], children[i], contents[i], colors)
        pairs = {(colors[i] or b"", refined[i] or b"") for i in unknown}
        if len({after for _, after in pairs}) == n_distinct:
            break
        colors, n_distinct = refined, len(pairs)
    total = sha256(refined[0] or b"")
    for before, after in sorted(pairs):
        total.update(before + after)
    return total.digest()


def _digest(
    node: Node,
    children: Sequence[_Child],
    content: bytes,
    digests: Sequence[bytes | None],
) -> bytes:
    items = []
    for (suffix, _), child in zip(node.parts, children, strict=True):
        if child is None:
            continue
        part = child if isinstance(child, bytes) else b"\0" + (digests[child] or b"")
        items.append(b"%d %s %d " % (len(suffix), suffix.encode(), len(part)) + part)
    if not node.ordered:
        items.sort()
    total = blake2b(f"{len(node.kind)} {node.kind} {len(items)} ".encode(), digest_size=24)
    total.update(b"".join(items))
    total.update(content)
    return total.digest()
