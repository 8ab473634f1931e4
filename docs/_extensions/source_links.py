"""Tells where the source of a documented object is, for the links [source] of the API pages."""

import ast
import importlib
import inspect
from functools import cache
from pathlib import Path

import skdejavid

PACKAGE = Path(skdejavid.__file__).parent


def place_of(module, name):
    """Return the path below the folder of the package, the first and the last line, or None.

    Native functions, and members that another library provides, have none.
    """
    thing = importlib.import_module(module)
    for part in name.split("."):
        thing = inspect.getattr_static(thing, part)
    if inspect.isclass(thing):
        return places_of_classes()[thing.__name__]
    thing = inspect.unwrap(getattr(thing, "fget", None) or getattr(thing, "__func__", thing))
    if not inspect.isfunction(thing):
        return None
    path = Path(thing.__code__.co_filename)
    if not path.is_relative_to(PACKAGE):
        return None
    lines, first = inspect.getsourcelines(thing)
    return path.relative_to(PACKAGE.parent).as_posix(), first, first + len(lines) - 1


@cache
def places_of_classes():
    """Return the places of all classes by name.

    ``inspect`` looks for a class in its ``__module__``, which is the module that users import.
    """
    places = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                name = path.relative_to(PACKAGE.parent).as_posix()
                places[node.name] = name, node.lineno, node.end_lineno
    return places
