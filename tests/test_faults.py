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

    marked = "@pytest.mark.fault(3, 4)\n@pytest.mark.other(5)\ndef test_x(): pass"
    assert list(faults.marks_of(ast.parse(marked).body[0])) == [3, 4]
    assert "test_faults" not in str(faults.proofs())


def test_the_page_has_a_row_for_each_fault(faults):
    rows = [line for line in faults.page().splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 75
    assert all(row.count("|") == 5 for row in rows)
