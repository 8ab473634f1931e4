"""Plugin of pytest that runs the code blocks of Markdown pages as printed.

The blocks of one page run in order, in one namespace, in an empty folder of their own. A block of
``text`` directly after another is what that one prints, where ``...`` stands for any text.
"""

import os
import subprocess
import sysconfig
import tempfile
from contextlib import chdir, redirect_stdout
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, Example, OutputChecker
from io import StringIO
from itertools import pairwise
from pathlib import Path

from sybil import Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import SkipParser
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

_FLAGS = ELLIPSIS | NORMALIZE_WHITESPACE
_LIMIT = 300  # seconds of a block of commands

os.environ["HF_HUB_OFFLINE"] = "1"  # pages bring their own models
os.environ["MPLBACKEND"] = "Agg"
os.environ["OMP_NUM_THREADS"] = "1"  # models are tiny; more threads would only wait for each other
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


def pytest_configure(config):
    """Ignore what other libraries say when they are imported, as readers do not see it either."""
    for line in (
        "ignore:h5py not installed",  # tslearn
        "ignore::PendingDeprecationWarning",
        "ignore::DeprecationWarning",
        "error::DeprecationWarning:__main__",  # from a block itself
    ):
        config.addinivalue_line("filterwarnings", line)


def run_python(example):
    """Execute a block of Python and return what it prints."""
    with redirect_stdout(StringIO()) as printed:
        PythonEvaluator()(example)
    return printed.getvalue()


def run_commands(example):
    """Execute a block of commands, if they are this package's, and return what they print."""
    source = example.parsed
    commands = source.replace("\\\n", " ").strip().splitlines()
    ours = [line.startswith("skdejavid ") for line in commands]
    if not any(ours):
        return ""  # pip, make, git, ...: not to be executed here
    assert all(ours), "commands of skdejavid need a block of their own, because only they are run"
    scripts = sysconfig.get_path("scripts")
    done = subprocess.run(
        ["bash", "-ec", source],
        env=os.environ | {"PATH": os.pathsep.join([scripts, os.environ["PATH"]])},
        capture_output=True,
        text=True,
        timeout=_LIMIT,
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


_RUN = {"python": run_python, "sh": run_commands}


def evaluate(example):
    """Run a block, and return how its output differs from the one that is shown."""
    run, shown = example.region.lexemes["run"], example.region.lexemes["shown"]
    printed = run(example)
    checker = OutputChecker()
    if checker.check_output(shown, printed, _FLAGS):
        return None
    return checker.output_difference(Example(example.parsed, shown), printed, _FLAGS)


def parse_blocks(document):
    """Yield the blocks that run, each with the output that the page shows below it."""
    blocks = sorted(FencedCodeBlockLexer(r"[\w+-]+")(document), key=lambda block: block.start)
    for block, following in pairwise([*blocks, None]):
        language, block.parsed = block.lexemes["language"], block.lexemes["source"]
        if language not in _RUN:
            continue
        block.lexemes["run"], block.lexemes["shown"] = _RUN[language], ""
        if (
            following is not None
            and following.lexemes["language"] == "text"
            and not document.text[block.end : following.start].strip()
        ):
            block.lexemes["shown"] = following.lexemes["source"]
        block.evaluator = evaluate
        yield block


class _Folders:
    """An empty folder for each page, in which its blocks run."""

    def enter(self, namespace):
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.inside = chdir(self.folder.name)
        self.inside.__enter__()
        namespace["__name__"] = "__main__"  # as in a script; cloudpickle then copies functions

    def leave(self, namespace):
        self.inside.__exit__(None, None, None)
        self.folder.cleanup()


_folders = _Folders()
pytest_collect_file = Sybil(
    parsers=[parse_blocks, SkipParser()],
    pattern="*.md",
    path=Path("/"),
    setup=_folders.enter,
    teardown=_folders.leave,
).pytest()
