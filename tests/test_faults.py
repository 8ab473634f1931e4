"""The table of faults is complete, and proven by tests that exist."""

import importlib
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def faults(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module("faults")


def test_all_faults_are_proven_or_cannot_occur(faults):
    known, proven = faults.known(), faults.proofs()
    assert list(known) == list(range(1, 76))
    assert set(proven) <= set(known)
    unproven = {n for n, (_, _, impossible) in known.items() if n not in proven and not impossible}
    assert not unproven
    assert not {n for n in proven if known[n][2]}


def test_marks_are_read_from_the_tests_themselves(faults):
    import ast

    marked = (
        "CASES = [pytest.param(1, marks=pytest.mark.fault(6)), fault(7, 1)]\n"
        "@pytest.mark.fault(3, 4)\n@pytest.mark.other(5)\n"
        "@pytest.mark.parametrize('x', CASES)\ndef test_x(x): pass"
    )
    table, test = ast.parse(marked).body
    assert set(faults.marks_of(test, {"CASES": table.value})) == {3, 4, 6, 7}
    assert "test_faults" not in str(faults.proofs())


def test_the_page_has_a_row_for_each_fault(faults):
    rows = [line for line in faults.page().splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 75
    assert all(row.count("|") == 5 for row in rows)


def test_the_page_is_up_to_date(faults):
    """Otherwise: python docs/faults.py."""
    assert faults.PAGE.read_text() == faults.page()
