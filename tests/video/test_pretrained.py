import pytest
import torch

from skdejavid.video.pretrained import is_pretrained, load_encoder


def test_other_encoders_say_nothing_of_their_input():
    encoder = torch.nn.Linear(2, 3)
    assert not is_pretrained(encoder)
    assert not is_pretrained(torch.mean)
    assert load_encoder(encoder) is encoder


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        load_encoder(tmp_path / "nowhere")
