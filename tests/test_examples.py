"""The demonstrations of `make demo`, with one seed and fewer videos."""

import importlib.util
import re
from pathlib import Path

import pytest
from matplotlib import image

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def accuracies(printed):
    """Return the accuracies that a demonstration printed, by name."""
    lines = re.findall(r"^  ([01]\.\d{4})  (.+)$", printed, flags=re.MULTILINE)
    return {name: float(accuracy) for accuracy, name in lines}


@pytest.mark.slow
def test_sequences_beat_both_baselines_and_are_drawn(tmp_path, capsys):
    load("demo_sequences").main(tmp_path, seeds=[0])
    *baselines, (name, accuracy) = accuracies(capsys.readouterr().out).items()
    assert name.startswith("DejaVidClassifier(random_state=0)")
    assert accuracy >= 0.97
    assert len(baselines) == 2
    assert accuracy > max(score for _, score in baselines)
    picture = image.imread(tmp_path / "alignment.png")
    assert min(picture.shape[:2]) > 500
    assert len(set(map(tuple, picture[::7, ::7, :3].reshape(-1, 3).tolist()))) > 50


@pytest.mark.slow
def test_order_is_seen_in_videos_where_averages_are_blind(tmp_path, capsys):
    load("demo_videos").main(tmp_path, n_train=120, n_test=60)
    averaged, learned = accuracies(capsys.readouterr().out).values()
    assert averaged <= 0.65
    assert learned >= 0.9
    assert len(list((tmp_path / "clips").glob("*.mp4"))) == 180
