"""Run the demonstrations, and say what to try next."""

from __future__ import annotations

import time
from importlib.metadata import metadata
from pathlib import Path

from skdejavid.demo.vowels import classify_vowels

__all__ = ["run_demo"]

_NEXT = """
What to try next
  Your own sequences in a CSV file, one row for each frame:
    import pandas as pd
    from skdejavid import DejaVidClassifier, TSEArray
    X, y = TSEArray.from_long(pd.read_csv("my.csv"), id="id", time="time", label="label")
    clf = DejaVidClassifier().fit(X, y)
  Your own videos, in one folder for each class (a Hugging Face model, or a function of yours):
    skdejavid extract my_videos -o store --encoder MODEL
    skdejavid fit store -o model.safetensors
    skdejavid predict model.safetensors other_videos --encoder MODEL
  All options: skdejavid --help. Documentation: {documentation}"""


def run_demo(folder: str) -> None:
    """Run all demonstrations that what is installed allows; pictures and videos go to a folder."""
    begin = time.perf_counter()
    output = Path(folder)
    pictures = [classify_vowels(output)]
    print()
    try:
        from skdejavid.demo.events import classify_videos  # needs torch and PyAV
    except ImportError as error:
        print(f"left out: {error}")
    else:
        pictures.append(classify_videos(output))
    print()
    for picture in pictures:
        if picture is not None:
            print(f"picture: {picture}")
    print(f"finished in {time.perf_counter() - begin:.0f} s")
    print(_NEXT.format(documentation=_documentation()))


def _documentation() -> str:
    """Return the address of the documentation, as the package states it."""
    for entry in metadata("skdejavid").get_all("Project-URL") or []:
        label, _, address = entry.partition(", ")
        if label == "Documentation":
            return address
    return "help(skdejavid.DejaVidClassifier)"
