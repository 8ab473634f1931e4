"""Every fault on the developers' page is proven by a marked test, and every mark is on the page."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "developer" / "faults.md"
ROW = re.compile(r"^\| (\d+) \| (.+) \| (.+) \|$", flags=re.MULTILINE)
# The mark of a test, with one number or several; or the helper that makes a marked case of a table.
MARK = re.compile(r"\bpytest\.mark\.fault\(([\d,\s]+)\)|(?<![.\w])fault\(\s*(\d+),")


def listed_faults():
    """Return what happens, by number of the fault."""
    return {int(number): behavior for number, _, behavior in ROW.findall(PAGE.read_text())}


def marked_numbers(text):
    """Return the numbers in all marks of a test module."""
    found = [several or one for several, one in MARK.findall(text)]
    return {int(number) for numbers in found for number in re.findall(r"\d+", numbers)}


def test_all_faults_are_proven_or_cannot_occur():
    listed = listed_faults()
    assert len(listed) >= 119
    impossible = {number for number, text in listed.items() if text.startswith("cannot occur: ")}
    paths = set((ROOT / "tests").rglob("test_*.py")) - {Path(__file__)}
    proven = set().union(*(marked_numbers(path.read_text()) for path in paths))
    assert proven == set(listed) - impossible


def test_every_row_of_the_page_is_read():
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| *\d", line)]
    assert len(rows) == len(listed_faults())
    assert all(row.count("|") == 4 for row in rows)


def test_marks_of_functions_and_of_cases_are_found():
    marked = (
        "CASES = [pytest.param(1, marks=pytest.mark.fault(6)), fault(7, 1), fault(\n    8, x)]\n"
        "@pytest.mark.fault(3, 4)\n@pytest.mark.other(5)\n"
        "@pytest.mark.parametrize('x', CASES)\ndef test_x(x): default(9, 1)"
    )
    assert marked_numbers(marked) == {3, 4, 6, 7, 8}
