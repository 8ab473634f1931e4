"""The page of faults: what happens, and which tests prove it.

python docs/faults.py  # writes docs/faults.md

A test says by ``@pytest.mark.fault(3, 4)`` which faults of faults.toml it is about; another one
compares the page with them.
"""

import ast
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
MARK = "pytest.mark.fault"
CASE = "fault"  # what makes one case with that mark, in tables of cases
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
    found = defaultdict(set)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text())
        tables = {
            target.id: statement.value
            for statement in tree.body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                for number in marks_of(node, tables):
                    found[number].add(f"{path.relative_to(ROOT / 'tests')}::{node.name}")
    return {number: sorted(tests) for number, tests in found.items()}


def marks_of(function, tables):
    """The numbers in the marks of a test, and in those of its cases.

    These may stand in a table of the module, to which a decorator refers by name.
    """
    for decorator in function.decorator_list:
        for node in ast.walk(decorator):
            places = [node, *(ast.walk(tables[node.id]) if is_table(node, tables) else ())]
            for place in places:
                called = ast.unparse(place.func) if isinstance(place, ast.Call) else None
                numbers = {MARK: place.args, CASE: place.args[:1]}.get(called, ()) if called else ()
                yield from map(ast.literal_eval, numbers)


def is_table(node, tables):
    return isinstance(node, ast.Name) and node.id in tables


def page():
    """The page as text."""
    proven = proofs()
    rows = []
    for number, (fault, behavior, impossible) in known().items():
        names = [f"`{test.partition('::')[2]}`" for test in proven.get(number, [])]
        rows.append(
            f"| {number} | {fault} | {behavior or f'cannot occur: {impossible}'} "
            f"| {', '.join(names) or '-'} |"
        )
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
