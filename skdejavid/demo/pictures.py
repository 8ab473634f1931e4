"""Pictures of the demonstrations, which matplotlib draws if it is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from skdejavid import AlignmentDisplay
from skdejavid.compat.optional import import_if_installed

__all__ = ["save_picture"]


def save_picture(path: Path, draw: Callable[[], AlignmentDisplay]) -> Path | None:
    """Draw a picture and save it; return its absolute path, or None without matplotlib."""
    matplotlib = import_if_installed("matplotlib")
    if matplotlib is None:
        print("no picture: it needs matplotlib (pip install 'skdejavid[demo]')")
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context():
        matplotlib.use("Agg")  # no window, also where there is a screen
        draw().figure_.savefig(path, dpi=120)
    return path.resolve()
