"""Progress bars in a process whose forked children are killed."""

import io
import subprocess
import sys
from functools import partial

from tqdm import tqdm

from skdejavid.compat import bars
from skdejavid.compat.bars import Bar

KILLED_WITH_THE_LOCK = """
import os, signal
import numpy as np
from tqdm import tqdm
from skdejavid import DejaVidClassifier
from skdejavid.datasets import make_order_sequences

X, y = make_order_sequences(60, random_state=0)
clf = DejaVidClassifier(n_epochs=2, random_state=0, verbose=VERBOSE).fit(X, y)
with tqdm(disable=True):
    pass
child = os.fork()
if child == 0:
    tqdm.get_lock().acquire()
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(child, 0)
again = DejaVidClassifier(n_epochs=2, random_state=0, verbose=VERBOSE).fit(X, y)
print(np.array_equal(again.centroids_, clf.centroids_))
"""

FORKED_WITH_A_HELD_LOCK = """
import os, threading
from skdejavid.compat.bars import Bar

held, done = threading.Event(), threading.Event()

def hold():
    with Bar.get_lock():
        held.set()
        done.wait()

threading.Thread(target=hold).start()
held.wait()
child = os.fork()
if child == 0:
    with Bar(total=1, disable=True) as bar:
        bar.update()
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
done.set()
"""


def printed_by(code, folder):
    command = [sys.executable, "-P", "-W", "ignore", "-c", code]
    return subprocess.check_output(command, text=True, cwd=folder, timeout=120)


def test_a_process_killed_with_the_lock_of_tqdm_does_not_stop_others(tmp_path):
    for verbose in ("0", "1"):
        code = KILLED_WITH_THE_LOCK.replace("VERBOSE", verbose)
        assert printed_by(code, tmp_path) == "True\n"


def test_a_forked_process_draws_bars_though_a_thread_held_the_lock(tmp_path):
    assert printed_by(FORKED_WITH_A_HELD_LOCK, tmp_path) == "7\n"


def test_no_thread_watches_the_bars():
    monitor = tqdm.monitor
    with Bar(total=1, disable=True):
        assert tqdm.monitor is monitor
        assert Bar.monitor is monitor


def test_bars_of_tqdm_and_ours_take_different_lines(capsys):
    with tqdm(total=1) as outer, Bar(total=1) as inner:
        assert abs(inner.pos) == abs(outer.pos) + 1


def draw(bar_of):
    """Advance a bar in three steps."""
    with bar_of(total=3, desc="steps") as bar:
        for _ in range(3):
            bar.update()


def test_in_a_file_a_bar_is_a_line_from_time_to_time(tmp_path, monkeypatch):
    for seconds, n_lines in ((0, 5), (3600, 2)):  # without and with a pause between lines
        monkeypatch.setattr(bars, "_SECONDS_BETWEEN_LINES", seconds)
        with (tmp_path / "log").open("w") as log, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", log)
            draw(Bar)
        lines = (tmp_path / "log").read_text().split("\n")
        assert not any("\r" in line or "\x1b" in line for line in lines)
        assert len([line for line in lines if line.startswith("steps: ")]) == n_lines
        assert "3/3" in [line for line in lines if line][-1]


def test_a_stream_of_a_notebook_is_drawn_over(monkeypatch):
    """It is no terminal, but shows a line that begins again in place of the one before."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    draw(partial(Bar, mininterval=0))
    assert stream.getvalue().count("\r") >= 3
