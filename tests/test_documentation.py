"""What the docstrings and the README say is run."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = [
    "alignment",
    "classifier",
    "conversions",
    "inspection",
    "nn",
    "preprocessing",
    "sequences",
    "store",
    "versions",
    "video.extractor",
]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    module = importlib.import_module(f"skdejavid.{name}")
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    results = doctest.testmod(module, optionflags=flags)
    assert results.attempted > 0
    assert results.failed == 0


def test_all_modules_with_examples_are_listed():
    package = ROOT / "skdejavid"
    with_examples = {
        ".".join(path.relative_to(package).with_suffix("").parts)
        for path in package.rglob("*.py")
        if ">>> " in path.read_text()
    }
    assert with_examples == set(MODULES)


def python_blocks():
    return re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_readme_example_for_sequences(capsys):
    namespace = {}
    exec(python_blocks()[0], namespace)
    assert float(capsys.readouterr().out.split()[0]) >= 0.97


def test_the_readme_example_for_videos(tmp_path, monkeypatch, capsys):
    """With the reader's own files, labels and encoder in place; clips it has seen are known."""
    import torch

    from skdejavid.datasets import make_order_videos, write_video

    monkeypatch.chdir(tmp_path)
    videos, y = make_order_videos(18, random_state=0)
    paths = [f"{i}.mp4" for i in range(len(videos))]
    for path, frames in zip(paths, videos, strict=True):
        write_video(path, frames)

    class Encoder(torch.nn.Module):
        def forward(self, clips):
            return torch.nn.functional.avg_pool3d(clips, (16, 56, 56)).flatten(1)

    namespace = {
        "encoder": Encoder(),
        "train_paths": paths,
        "y_train": y,
        "test_paths": paths[:6],
        "y_test": y[:6],
    }
    exec(python_blocks()[1], namespace)
    assert float(capsys.readouterr().out.split()[0]) == 1.0


def test_the_readme_names_the_commands_that_exist():
    makefile = (ROOT / "Makefile").read_text()
    commands = set(re.findall(r"make (\w+)", README))
    assert {"demo", "test"} <= commands
    for command in commands:
        assert re.search(rf"^{command}:", makefile, flags=re.MULTILINE)
