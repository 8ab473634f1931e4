"""Tells which objects and members the API pages document, and which of them a text names."""

import importlib
import inspect
import re

PACKAGE = "skdejavid"
NAME = re.compile(r"[A-Za-z_][\w.]*")
# Routing of metadata is explained by scikit-learn, once for all estimators.
UNLISTED = re.compile(r"_.*|set_\w+_request|get_metadata_routing")


def members_of(cls):
    """Return the names of own members, and of methods that scikit-learn provides."""
    own, inherited = [], []
    for attribute in inspect.classify_class_attrs(cls):
        module = attribute.defining_class.__module__
        if UNLISTED.fullmatch(attribute.name) or not inspect.getdoc(attribute.object):
            continue
        if attribute.kind == "data" and not inspect.isroutine(attribute.object):
            continue
        if module.startswith(PACKAGE):
            own.append(attribute.name)
        elif module.startswith("sklearn."):
            inherited.append(attribute.name)
    return {"own": own, "inherited": inherited}


def members_by_name(names):
    """Return the members of the classes among some full names of objects."""
    objects = {name: object_of(name) for name in names}
    return {name: members_of(cls) for name, cls in objects.items() if inspect.isclass(cls)}


def object_of(name):
    """Return the object of a full name."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def documented_names(page):
    """Return the full names of the objects in the summary tables of a page."""
    names, module = [], PACKAGE
    for line in page.splitlines():
        if found := re.match(r"\.\. currentmodule:: (\S+)", line):
            module = found[1]
        elif found := re.fullmatch(r" {3}([A-Za-z_]\w*)", line):
            names.append(f"{module}.{found[1]}")
    return names


def find_object(kinds, text):
    """Return the full name that a text names, or None; `kinds` has the kind of each full name.

    It may leave out the package, and all modules of a class or function: `TSEArray.from_long`,
    `interchange.read_arrow`, `read_arrow`. A method alone is not looked for: `fit` says nothing.
    """
    text = text.removesuffix("()")
    if not NAME.fullmatch(text):
        return None
    if text in kinds or f"{PACKAGE}.{text}" in kinds:
        return text if text in kinds else f"{PACKAGE}.{text}"
    found = [
        name
        for name, kind in kinds.items()
        if name.endswith(f".{text}") and kind in {"class", "exception", "function"}
    ]
    return found[0] if len(found) == 1 else None
