"""The demonstration with generated videos."""

import re

import pytest
import torch
from matplotlib import image

from skdejavid.demo.events import classify_videos


@pytest.mark.slow
def test_order_is_seen_in_videos_where_averages_are_blind(tmp_path, capsys):
    n_threads = torch.get_num_threads()
    picture = classify_videos(tmp_path)
    assert torch.get_num_threads() == n_threads
    printed = capsys.readouterr().out
    averaged, learned = re.findall(r"^  ([01]\.\d{4})  ", printed, flags=re.MULTILINE)
    assert float(averaged) <= 0.4
    assert float(learned) >= 0.95
    assert len(list((tmp_path / "videos").glob("*.mp4"))) == 180
    assert str(tmp_path.resolve() / "videos") in printed
    assert picture == tmp_path.resolve() / "video_alignment.png"
    assert min(image.imread(picture).shape[:2]) > 500
