"""Measure the code base: ``python tests/codebase.py [ROOT]`` prints the table.

A *room* is a folder of the package, or a module that stands alone. `test_codebase.py` asserts
limits on these measurements.
"""

from __future__ import annotations

import ast
import re
import statistics
import sys
from graphlib import TopologicalSorter
from pathlib import Path

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# Each adds a way through a function; a comprehension is a loop, `a and b and c` are two decisions.
BRANCHES = (ast.If, ast.For, ast.While, ast.IfExp, ast.ExceptHandler, ast.comprehension, ast.Assert)
# The cost of the native code, and its derivative, by any name that they have had.
MAGNITUDE_OR_SIGN = re.compile(
    r"\b((__builtin_)?f?abs[fl]?|absolute\w*|magnitude\w*|copysign\w*|signbit\w*|sign|slope)\("
)


def modules_of(root):
    """Return the files of the package by dotted name, without the package's name."""
    package = root / "skdejavid"
    return {
        ".".join(path.relative_to(package).with_suffix("").parts): path
        for path in sorted(package.rglob("*.py"))
        if path.name != "__init__.py"
    }


def modules_and_packages_of(root):
    """Return the files of the package by dotted name, with each ``__init__.py`` as its folder."""
    package = root / "skdejavid"
    return modules_of(root) | {
        ".".join(path.parent.relative_to(package).parts): path
        for path in package.rglob("__init__.py")
    }


def room_of(module):
    """Return the room that a dotted name belongs to."""
    return module.partition(".")[0]


def imported_by(path, modules):
    """Return the modules that a file imports anywhere, or names from; "" is the package itself."""
    return {module for module, _ in _imports(path, modules) if module is not None}


def arrows_between_modules(root):
    """Return, for each module or package, the other ones that it imports anywhere.

    A package stands for its ``__init__.py``. That importing a module of a package runs this file as
    well is not counted.
    """
    files = modules_and_packages_of(root)
    return {
        module: (imported_by(path, files) & set(files)) - {module} for module, path in files.items()
    }


def names_not_exported(root):
    """Return "module.name" of what is imported without being in ``__all__`` of its module."""
    files = modules_and_packages_of(root)
    imported = {pair for path in files.values() for pair in _imports(path, files)}
    exports = {module: exported_by(path) for module, path in files.items()}
    return sorted(
        f"{module}.{name}"
        for module, name in imported
        if name is not None and name not in exports.get(module, {name})
    )


def exported_by(path):
    """Return the names in ``__all__`` of a file."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def _imports(path, modules):
    """Yield the module, and the name or None, of each import inside of the package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = _inside(f"{node.module}.{alias.name}")
                is_module = name in {*modules, "_core"}
                yield (name, None) if is_module else (_inside(node.module), alias.name)
        elif isinstance(node, ast.Import):
            yield from ((_inside(alias.name), None) for alias in node.names)


def _inside(name):
    """Return a dotted name without that of the package, which itself is "", or None."""
    top, _, rest = name.partition(".")
    return rest if top == "skdejavid" else None


def arrows_between_rooms(root):
    """Return, for each room, the other rooms that it imports."""
    arrows = {}
    files = modules_and_packages_of(root)
    for module, path in modules_of(root).items():
        room = room_of(module)
        others = {room_of(name) for name in imported_by(path, files)} - {room, "_core"}
        arrows.setdefault(room, set()).update(others)
    return arrows


def longest_chain(arrows):
    """Return the number of rooms on the longest way along the arrows.

    Raises
    ------
    graphlib.CycleError
        If the arrows form a circle.
    """
    length = {}
    for room in TopologicalSorter(arrows).static_order():
        length[room] = 1 + max((length[other] for other in arrows.get(room, ())), default=0)
    return max(length.values())


def functions_of(path):
    """Yield the qualified name and the node of each function of a file."""

    def visit(node, prefix):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, FUNCTIONS):
                yield f"{prefix}{child.name}", child
            named = isinstance(child, (*FUNCTIONS, ast.ClassDef))
            yield from visit(child, f"{prefix}{child.name}." if named else prefix)

    yield from visit(ast.parse(path.read_text()), "")


def count_lines(function):
    """Return the number of lines of a function without its docstring."""
    n_lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        n_lines -= docstring.end_lineno - docstring.lineno + 1
    return n_lines


def complexity(function):
    """Return the cyclomatic complexity of a function, including functions defined inside it."""
    nodes = list(ast.walk(function))
    n_decisions = sum(isinstance(node, BRANCHES) for node in nodes)
    n_decisions += sum(len(node.values) - 1 for node in nodes if isinstance(node, ast.BoolOp))
    n_decisions += sum(len(node.cases) for node in nodes if isinstance(node, ast.Match))
    return 1 + n_decisions


def native_files_with(root, is_wanted):
    """Name the native files with a statement (without comments and line breaks) that is wanted."""
    names = set()
    for path in (root / "src_cuda").rglob("*.*"):
        code = re.sub(r"//.*", "", path.read_text())
        statements = (" ".join(text.split()) for text in re.split(r"[;{}]", code))
        if any(map(is_wanted, statements)):
            names.add(path.name)
    return names


def cost_files(root):
    """Name the native files that take the magnitude or the sign of a difference."""
    return native_files_with(root, MAGNITUDE_OR_SIGN.search)


def measure(root):
    """Return the measurements by name."""
    modules = modules_of(root)
    arrows = arrows_between_rooms(root)
    sizes = [len(path.read_text().splitlines()) for path in modules.values()]
    functions = [
        (f"{module}.{name}", function)
        for module, path in modules.items()
        for name, function in functions_of(path)
    ]
    lines = {
        name: count_lines(function) for name, function in functions if not name.endswith("__init__")
    }
    complexities = {name: complexity(function) for name, function in functions}
    native = {
        path.name: len(path.read_text().splitlines()) for path in (root / "src_cuda").rglob("*.*")
    }
    longest, hardest = (max(x, key=x.get) for x in (lines, complexities))
    return {
        "modules at the top level": sum("." not in module for module in modules),
        "rooms with more than one module": len({room_of(m) for m in modules if "." in m}),
        "rooms": len(arrows),
        "longest import chain between rooms": longest_chain(arrows),
        "arrows between rooms": sum(map(len, arrows.values())),
        "Python files": len(modules),
        "lines of a Python file, median": statistics.median(sizes),
        "lines of a Python file, maximum": max(sizes),
        "lines of a function, median": statistics.median(lines.values()),
        "lines of a function, maximum": f"{lines[longest]} ({longest})",
        "cyclomatic complexity, maximum": f"{complexities[hardest]} ({hardest})",
        "lines of a native file, median": statistics.median(native.values()),
        "lines of a native file, maximum": max(native.values()),
        "native files that write the cost": len(cost_files(root)),
    }


if __name__ == "__main__":
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    for name, value in measure(root).items():
        print(f"{name:<40}{value}")
