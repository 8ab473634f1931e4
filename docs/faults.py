"""The page of faults: what happens, and which tests prove it.

python docs/faults.py  # writes docs/faults.md

A test says by ``@pytest.mark.fault(3, 4)`` which faults of faults.toml it is about. conf.py writes
the page anew whenever the documentation is built, and a test compares.
"""

import ast
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "faults.md"
HEAD = """# What can go wrong

Each of these is proven by tests, which fail when the behavior is another one. The page is generated
from their marks (`@pytest.mark.fault`) by `docs/faults.py`.

| | fault | what happens | proven by |
|---|---|---|---|
"""


def known():
    """Of each number the fault, what happens, and why it cannot occur (or nothing)."""
    faults = tomllib.loads((ROOT / "docs" / "faults.toml").read_text())["fault"]
    return {int(number): (*texts, "")[:3] for number, texts in faults.items()}


def proofs():
    """Of each number the tests that are marked with it, as file::function."""
    found = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                for number in marks_of(node):
                    found[number].append(f"{path.relative_to(ROOT / 'tests')}::{node.name}")
    return dict(found)


def marks_of(function):
    """The numbers in the marks of a test."""
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.fault":
            yield from (ast.literal_eval(argument) for argument in decorator.args)


def page():
    """The page as text."""
    proven = proofs()
    rows = []
    for number, (fault, behavior, impossible) in known().items():
        names = [f"`{test.partition('::')[2]}`" for test in sorted(proven.get(number, []))]
        rows.append(
            f"| {number} | {fault} | {behavior or f'cannot occur: {impossible}'} "
            f"| {', '.join(names) or '-'} |"
        )
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
