"""The demonstration with JapaneseVowels, with one seed."""

import re

import pytest
from matplotlib import image

from skdejavid.demo.vowels import classify_vowels


@pytest.mark.slow
def test_sequences_beat_both_baselines_and_are_drawn(tmp_path, capsys):
    path = classify_vowels(tmp_path / "new", seeds=[0])
    printed = capsys.readouterr().out
    lines = re.findall(r"^  ([01]\.\d{4})  (.+), \d+\.\d s$", printed, flags=re.MULTILINE)
    *baselines, (accuracy, name) = lines
    assert name == "DejaVidClassifier(random_state=0)"
    assert [name for _, name in baselines] == [
        "mean over time + logistic regression",
        "1-nearest neighbor with DTW",
    ]
    assert float(accuracy) >= 0.97
    assert float(accuracy) > max(float(score) for score, _ in baselines) > 0.9
    assert path == tmp_path.resolve() / "new" / "alignment.png"
    picture = image.imread(path)
    assert min(picture.shape[:2]) > 500
    assert len(set(map(tuple, picture[::7, ::7, :3].reshape(-1, 3).tolist()))) > 50
