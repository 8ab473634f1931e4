"""The runner of code blocks, docs/code_blocks.py: what it runs, compares and refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def block(language, source):
    return f"```{language}\n{source}\n```\n\n"


def run_page(folder, text):
    """Return the outcomes by line of a page, as in {1: "passed"}, and what pytest printed."""
    (folder / "page.md").write_text(text)
    paths = os.pathsep.join(filter(None, [str(DOCS), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-p", "code_blocks", "-rA", "page.md"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    outcomes = {}
    for line in done.stdout.partition("short test summary info")[2].splitlines():
        outcome, _, place = line.partition(" ")
        if outcome in ("PASSED", "FAILED"):
            outcomes[int(place.partition("line:")[2].partition(",")[0])] = outcome.lower()
    return outcomes, done.stdout


@pytest.mark.slow
def test_output_is_compared_with_the_block_directly_below(tmp_path):
    outcomes, printed = run_page(
        tmp_path,
        block("python", "print(1.25)")  # line 1
        + block("text", "1.2...")
        + block("python", "print(2)")  # line 9
        + block("text", "3")
        + block("python", "print(4)")  # line 17
        + "Words.\n\n"
        + block("text", "4")
        + block("python", "pass")  # line 27
        + block("text", "5"),
    )
    assert outcomes == {1: "passed", 9: "failed", 17: "failed", 27: "failed"}
    assert "Expected:\n    3\nGot:\n    2" in printed


@pytest.mark.slow
def test_blocks_of_a_page_share_names_and_an_empty_folder(tmp_path):
    first = "import os\nassert os.listdir() == []\nopen('file', 'w').close()\nvalue = 1"
    second = "assert value == 1 and os.listdir() == ['file']"
    outcomes, _ = run_page(tmp_path, block("python", first) + block("python", second))
    assert outcomes == {1: "passed", 8: "passed"}
    assert not (tmp_path / "file").exists()


@pytest.mark.slow
def test_errors_and_warnings_of_a_block_fail(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    outcomes, printed = run_page(
        tmp_path,
        block("python", "1 / 0") + block("python", "import warnings\nwarnings.warn('beware')"),
    )
    assert outcomes == {1: "failed", 5: "failed"}
    assert "ZeroDivisionError" in printed
    assert "UserWarning: beware" in printed


@pytest.mark.slow
def test_only_commands_of_the_package_are_run(tmp_path):
    outcomes, printed = run_page(
        tmp_path,
        block("sh", "pip install there-is-no-such-package")  # line 1
        + block("sh", "skdejavid --help")  # line 5
        + block("text", "Usage: skdejavid ...")
        + block("sh", "skdejavid fit there-is-no-such-store -o model")  # line 13
        + block("sh", "echo before\nskdejavid --help"),  # line 17
    )
    assert outcomes == {1: "passed", 5: "passed", 13: "failed", 17: "failed"}
    assert "there-is-no-such-store" in printed
    assert "commands of skdejavid need a block of their own" in printed


@pytest.mark.slow
def test_a_block_that_is_not_run_is_counted(tmp_path):
    outcomes, printed = run_page(
        tmp_path, '<!-- skip: next "needs a card" -->\n\n' + block("python", "1 / 0")
    )
    assert outcomes == {1: "passed"}  # the comment
    assert "1 skipped" in printed
    assert "needs a card" in printed
