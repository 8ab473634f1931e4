import ast
import inspect
import types

import pytest
import torch

from skdejavid.video.code_objects import atom, code_facts


def code_of(source, name="f"):
    variables = {}
    exec(compile(source, "<test>", "exec"), variables)
    return variables[name].__code__


def digest(source):
    return code_facts(code_of(source)).digest


PLAIN = "def f(x, y=2):\n    z = [x + y, 3]\n    return max(z)\n"


@pytest.mark.parametrize(
    "source",
    [
        "# a comment\n\n\n" + PLAIN,
        PLAIN.replace("(x, y=2)", "(\n    x: int,\n    y: 'float' = 2,\n) -> None"),
        PLAIN.replace("    z", '    """Return something."""\n\n    z', 1),
        PLAIN.replace("max(z)", "(\n        max(\n            z\n        )\n    )  # why"),
        PLAIN.replace("y=2", "y=7"),  # a default belongs to the function, not to its code
    ],
    ids=["comment", "signature", "docstring", "lines", "default"],
)
def test_what_does_not_change_the_code_does_not_count(source):
    assert digest(source) == digest(PLAIN)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *[("+", "-"), ("3", "4"), ("3", "3.0"), ("max", "min"), ("x, y=2", "y, x=2")],
        *[("y=2", "*, y=2"), ("max(z)", "max(z) if z else 0"), ("[x + y, 3]", "(x + y, 3)")],
    ],
)
def test_edits_count(old, new):
    assert digest(PLAIN.replace(old, new)) != digest(PLAIN)


def test_which_errors_are_caught_counts():
    inside = (
        "def f(x):\n    try:\n        g(x)\n        h(x)\n    except ValueError:\n        k(x)\n"
    )
    after = "def f(x):\n    try:\n        g(x)\n    except ValueError:\n        k(x)\n    h(x)\n"
    assert digest(inside) != digest(inside.replace("ValueError", "TypeError"))
    assert digest(inside) != digest(after)


@pytest.mark.slow
def test_the_layout_of_real_code_does_not_count():
    def functions(code):
        for inner in code.co_consts:
            if isinstance(inner, types.CodeType):
                yield inner
                yield from functions(inner)

    n_functions, different = 0, []
    for module in (torch.nn.modules.conv, torch.nn.modules.rnn, torch.nn.functional, ast, inspect):
        source = inspect.getsource(module)
        codes = [compile(text, "x", "exec") for text in (source, ast.unparse(ast.parse(source)))]
        for one, other in zip(*map(functions, codes), strict=True):
            n_functions += 1
            if code_facts(one) != code_facts(other):
                different.append(one.co_name)
    # Python's compiler merges jumps of `a and b or c` only within a line.
    assert n_functions > 500
    assert len(different) <= n_functions / 250, different


def test_names_that_code_reads_are_listed():
    source = """
def f(x):
    import json, os.path as p
    from . import near
    from .far import away
    def inner():
        return settings.scale * LIMIT
    return [table.rows for _ in range(2)], inner, table
"""
    facts = code_facts(code_of(source))
    assert facts.globals >= {"settings", "LIMIT", "table", "range"}
    assert facts.attributes >= {"scale", "rows"}
    assert {"LIMIT", "table", "scale"} <= facts.bare
    assert "settings" not in facts.bare
    assert facts.imports == {
        (0, "json", None),
        (0, "os.path", None),
        (1, "", ("near",)),
        (1, "far", ("away",)),
    }


COUNTERS = {
    "SEEN.append(x)": "SEEN",
    "SEEN['n'] = x": "SEEN",
    "SEEN['n'] += x": "SEEN",
    "SEEN.n += x": "SEEN",
    "SEEN.n = x": "SEEN",
    "global SEEN; SEEN += 1": "SEEN",
    "type(x).seen += 1": "seen",
    "type(x).seen.extend(x)": "seen",
    "x.seen[0] += 1": "seen",
}


@pytest.mark.parametrize("statement", COUNTERS)
def test_counting_and_collecting_is_no_reading(statement):
    name = COUNTERS[statement]
    facts = code_facts(code_of(f"def f(x):\n    {statement}\n    return x"))
    assert name not in facts.reads
    for use in (f"y = {name}", f"x.{name}()", f"y = x.{name}"):
        body = f"def f(x):\n    {statement}\n    {use}\n    return x"
        assert name in code_facts(code_of(body)).reads, use


@pytest.mark.parametrize(
    "expression", ["y = SEEN.add(x)", "y = SEEN[0]", "y = SEEN.n", "SEEN(x)", "SEEN[SEEN[0]] = x"]
)
def test_what_may_return_something_is_reading(expression):
    assert "SEEN" in code_facts(code_of(f"def f(x):\n    {expression}\n    return x")).reads


@pytest.mark.fault(125)
@pytest.mark.parametrize(
    "statement",
    [
        "match x:\n        case Net(scale=2.0): return 1",
        "match x:\n        case Net(scale): return scale",
        "return '{0.scale}'.format(x)",
        "return '{x[scale]}'.format_map(x)",
    ],
)
def test_patterns_and_formats_may_read_any_attribute(statement):
    assert "__dict__" in code_facts(code_of(f"def f(x):\n    {statement}")).reads


@pytest.mark.parametrize("statement", ["return '{} {:.2f}'.format(x, 1)", "return '{x.y}', x.y"])
def test_plain_formats_read_no_attribute(statement):
    assert "__dict__" not in code_facts(code_of(f"def f(x):\n    {statement}")).reads


def test_a_variable_that_is_counted_and_used_is_read():
    source = "def f(x):\n    global N\n    N += 1\n    return x * N"
    assert "N" in code_facts(code_of(source)).reads


def test_constructors_do_not_write():
    source = "class A:\n    def {name}(self):\n        self.x = 1\n"
    writes = [
        code_facts(vars(_class_of(source.format(name=name)))[name].__code__).writes
        for name in ("__init__", "forward")
    ]
    assert writes == [frozenset(), {"x"}]


def _class_of(source):
    variables = {}
    exec(source, variables)
    return variables["A"]


def test_atoms_are_distinct():
    values = [0, False, 0.0, -0.0, 0j, "0", b"0", None, ..., (), ((),), frozenset(), (0,), ("0",)]
    values += [10**5000, 10**5000 + 1, "\ud800", (1, 23), (12, 3), float("nan"), float("inf")]
    assert len({atom(value) for value in values}) == len(values)
    assert atom(frozenset("abcdefgh")) == atom(frozenset("hgfedcba"))
