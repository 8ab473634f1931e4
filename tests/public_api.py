"""Finds everything public of the package, for tests that leave nothing out."""

import importlib
import inspect

MODULES = ["", "alignment", "classifier", "datasets", "inspection", "interchange", "nn", "plotting"]
MODULES += ["preprocessing", "sequences", "store", "video.extractor"]


def public_functions():
    """Yield names and functions of the public modules, methods of their classes included.

    Functions that the package inherits from others are left out.
    """
    for name in MODULES:
        module = importlib.import_module(f"skdejavid.{name}".removesuffix("."))
        for thing in map(module.__dict__.get, module.__all__):
            found = [(thing.__name__, thing)] if inspect.isfunction(thing) else []
            if inspect.isclass(thing):
                found = list(methods_of(thing))
            yield from (pair for pair in found if is_own(pair[1]))


def methods_of(cls):
    """Yield names and functions of the public methods of a class, and of its constructor."""
    for name, function in inspect.getmembers(cls, callable):
        if name == "__init__":
            yield cls.__name__, function
        elif not name.startswith("_"):
            yield f"{cls.__name__}.{name}", function


def is_own(function):
    return (getattr(function, "__module__", None) or "").startswith("skdejavid")
