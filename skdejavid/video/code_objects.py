"""What of compiled code decides: instructions, constants and names, but no places in a file."""

from __future__ import annotations

import dis
import re
from bisect import bisect_left
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise
from types import CodeType
from typing import Any, NamedTuple

__all__ = ["CodeFacts", "atom", "code_facts"]

# They carry line numbers, or larger arguments of the next instruction.
_WITHOUT_EFFECT = {"NOP", "CACHE", "EXTENDED_ARG", "RESUME"}

_JUMPS = {*dis.hasjrel, *dis.hasjabs}
_NAMED = {*dis.hasname, *dis.haslocal, *dis.hasfree}
_GLOBALS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_VARIABLES = {*_GLOBALS, "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"}
_ATTRIBUTES = {"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "LOAD_SUPER_METHOD"}

# As if code read it: any attribute may be meant.
_ALL_ATTRIBUTES = "__dict__"
# A text to format that reads attributes or items, as in "{0.scale}".
_FORMAT_OF_PARTS = re.compile(r"\{[^{}:!]*[.\[]")

# Methods of containers that return nothing; `add` returns the sum of tensors.
_ADDING = {"append", "appendleft", "clear", "extend", "insert", "update"}

# What follows a load if the value is only written to, as in x[i] = ..., x[i] += ..., x.a += ... and
# x.a = ...
_WRITING = (
    ("", "STORE_SUBSCR"),
    ("", "COPY", "COPY", "BINARY_SUBSCR"),
    ("COPY", "LOAD_ATTR"),
    ("STORE_ATTR",),
)
_SIMPLE_INDEX = {"LOAD_CONST", "LOAD_FAST", "LOAD_SMALL_INT", "LOAD_FAST_BORROW"}
_FIRST_IN_PLACE = 13  # argument of BINARY_OP for +=, which further ones follow

# They set attributes once, before the object is used.
_CONSTRUCTORS = {"__init__", "__new__", "__post_init__", "__setstate__"}

# Flags of a code object: variable arguments, and kinds of generators and coroutines.
_FLAGS = 0x04 | 0x08 | 0x20 | 0x80 | 0x100 | 0x200


class CodeFacts(NamedTuple):
    """What a code object does by itself, and what it reads from elsewhere; inner code included."""

    digest: bytes
    globals: frozenset[str]  # names of global or built-in variables that it reads
    attributes: frozenset[str]  # names of attributes that it reads from anything
    bare: frozenset[str]  # names of what it does not merely read attributes of
    reads: frozenset[str]  # names of variables and attributes whose values may have an effect
    writes: frozenset[str]  # names of attributes that it changes, unless it is a constructor
    # Modules that it imports: level, name, and names that it imports from them.
    imports: frozenset[tuple[int, str, tuple[str, ...] | None]]


def atom(value: Any) -> bytes:
    """Return bytes that identify a constant of Python, the same in any process."""
    if isinstance(value, int) and not isinstance(value, bool):
        text = hex(value)  # there is no limit of digits as for decimal ones
    elif isinstance(value, (tuple, frozenset)):
        items = [atom(item) for item in value]
        items = sorted(items) if isinstance(value, frozenset) else items
        inside = b"".join(b"%d " % len(item) + item for item in items)
        return f"{type(value).__name__} {len(items)} ".encode() + inside
    elif isinstance(value, CodeType):
        return b"code " + code_facts(value).digest
    else:
        text = repr(value)
    return f"{type(value).__name__} {text}".encode(errors="surrogatepass")


@lru_cache(maxsize=4096)
def code_facts(code: CodeType) -> CodeFacts:
    """Return what decides of a code object.

    Comments, the docstring, type hints of arguments, and the way in which lines are broken do not
    decide.
    """
    instructions = [i for i in dis.get_instructions(code) if i.opname not in _WITHOUT_EFFECT]
    inner = [code_facts(value) for value in code.co_consts if isinstance(value, CodeType)]
    return CodeFacts(
        _digest(code, instructions),
        _names(instructions, _GLOBALS).union(*(facts.globals for facts in inner)),
        _names(instructions, _ATTRIBUTES).union(*(facts.attributes for facts in inner)),
        _bare_names(instructions).union(*(facts.bare for facts in inner)),
        _names_read(instructions).union(*(facts.reads for facts in inner)),
        _names_written(code, instructions).union(*(facts.writes for facts in inner)),
        frozenset(_imports(instructions)).union(*(facts.imports for facts in inner)),
    )


def _digest(code: CodeType, instructions: list[dis.Instruction]) -> bytes:
    offsets = [instruction.offset for instruction in instructions]
    total = sha256(atom(_signature(code)))
    for instruction in instructions:
        total.update(atom((instruction.opname, _argument(instruction, offsets))))
    for entry in dis.Bytecode(code).exception_entries:  # type: ignore[attr-defined]
        places = [bisect_left(offsets, at) for at in (entry.start, entry.end, entry.target)]
        total.update(atom((*places, entry.depth, entry.lasti)))
    return total.digest()


def _signature(code: CodeType) -> tuple[Any, ...]:
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
    names = (code.co_varnames, code.co_cellvars, code.co_freevars)
    return (*counts, *names, code.co_flags & _FLAGS)


def _argument(instruction: dis.Instruction, offsets: list[int]) -> Any:
    """Return what an instruction works with, independent of where it stands in tables."""
    if instruction.opcode in dis.hasconst:
        return instruction.argval
    if instruction.opcode in _JUMPS:
        return bisect_left(offsets, instruction.argval)
    if instruction.opcode in _NAMED:
        return str(instruction.argval)
    return instruction.arg


def _names(instructions: list[dis.Instruction], operations: set[str]) -> frozenset[str]:
    return frozenset(i.argval for i in instructions if i.opname in operations)


def _bare_names(instructions: list[dis.Instruction]) -> frozenset[str]:
    names = set()
    following = [*(i.opname for i in instructions[1:]), ""]
    for instruction, next_operation in zip(instructions, following, strict=True):
        is_name = instruction.opname in _GLOBALS or instruction.opname in _ATTRIBUTES
        if is_name and next_operation not in _ATTRIBUTES:
            names.add(instruction.argval)
    return frozenset(names)


def _names_read(instructions: list[dis.Instruction]) -> frozenset[str]:
    """Return names of which code does more than to count or to collect what it sees."""
    counted = [
        instruction.argval
        for before, instruction in pairwise(instructions)
        if instruction.opname in ("STORE_GLOBAL", "STORE_DEREF") and _is_in_place(before)
    ]
    names = {_ALL_ATTRIBUTES} if _reads_unnamed(instructions) else set()
    for i, instruction in enumerate(instructions):
        name = instruction.argval
        if instruction.opname in _VARIABLES and name in counted:
            counted.remove(name)
        elif (
            instruction.opname in _VARIABLES or _is_read_attribute(instructions, i)
        ) and not _only_writes(instructions, i):
            names.add(name)
    return frozenset(names)


def _is_read_attribute(instructions: list[dis.Instruction], i: int) -> bool:
    """Return whether an instruction loads an attribute, and not to count in it."""
    is_counted = i > 0 and instructions[i - 1].opname == "COPY"
    return instructions[i].opname in _ATTRIBUTES and not is_counted


def _reads_unnamed(instructions: list[dis.Instruction]) -> bool:
    """Return whether patterns of `match`, or texts to format, read attributes."""
    is_formatting = any(i.opname in _ATTRIBUTES and "format" in i.argval for i in instructions)
    return any(
        i.opname == "MATCH_CLASS"
        or (is_formatting and type(i.argval) is str and _FORMAT_OF_PARTS.search(i.argval))
        for i in instructions
    )


def _is_in_place(instruction: dis.Instruction) -> bool:
    return instruction.opname == "BINARY_OP" and (instruction.arg or 0) >= _FIRST_IN_PLACE


def _only_writes(instructions: list[dis.Instruction], i: int) -> bool:
    """Return whether code writes to what an instruction loads, and does nothing else with it."""
    following = [instruction.opname for instruction in instructions[i + 1 : i + 5]]
    if following and following[0] in _ATTRIBUTES and instructions[i + 1].argval in _ADDING:
        return True
    if following and following[0] in _SIMPLE_INDEX:
        following[0] = ""
    return any(tuple(following[: len(pattern)]) == pattern for pattern in _WRITING)


def _names_written(code: CodeType, instructions: list[dis.Instruction]) -> frozenset[str]:
    if code.co_name in _CONSTRUCTORS:
        return frozenset()
    stored = {i.argval for i in instructions if i.opname == "STORE_ATTR"}
    changed = (
        instruction.argval
        for i, instruction in enumerate(instructions)
        if instruction.opname in _ATTRIBUTES and _only_writes(instructions, i)
    )
    return frozenset(stored.union(changed))


def _imports(
    instructions: list[dis.Instruction],
) -> list[tuple[int, str, tuple[str, ...] | None]]:
    found = []
    for i, instruction in enumerate(instructions):
        if instruction.opname == "IMPORT_NAME":  # follows the level and the names to import
            level, names = (before.argval for before in instructions[i - 2 : i])
            found.append((level, instruction.argval, names))
    return found
