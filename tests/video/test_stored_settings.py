import pytest
import torch

from skdejavid import TSEExtractor
from skdejavid.video.stored_settings import has_settings, set_settings

ENCODER = torch.nn.Sequential(torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten())


def extractor(**parameters):
    return TSEExtractor(ENCODER, **parameters)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"width": [4, 8], "stride": 2, "clip_length": 4, "frame_size": None, "mean": 0.5},
        {"width": "1.5s", "frame_size": (20, 16), "std": [0.1, 0.2, 0.3], "autocast": "bfloat16"},
    ],
)
def test_settings_of_a_store_are_restored(parameters):
    stored = extractor(**parameters).store_fingerprint()
    assert has_settings(stored)
    restored = extractor(batch_size=3)
    set_settings(restored, stored, "the store")
    assert restored.store_fingerprint() == stored


def test_what_is_so_by_default_stays_auto():
    stored = extractor(width=4, clip_length=2).store_fingerprint()
    restored = extractor()
    set_settings(restored, stored, "the store")
    assert (restored.width, restored.clip_length) == (4, 2)
    assert (restored.frame_size, restored.layout, restored.mean) == ("auto", "auto", "auto")


def test_settings_that_this_version_cannot_repeat_are_refused():
    stored = extractor().store_fingerprint() | {"procedure": 0}
    with pytest.raises(ValueError, match=r"model was made with settings .*, those of procedure"):
        set_settings(extractor(), stored, "model")
    with pytest.raises(ValueError, match="not the encoder of the training data of model"):
        set_settings(extractor(), stored | {"encoder": "another"}, "model")
    with pytest.raises(ValueError, match="model sets clip_length to a number beyond"):
        set_settings(extractor(), stored | {"clip_length": 2**30}, "model")
    with pytest.raises(ValueError, match="a clip would have"):
        set_settings(extractor(), stored | {"clip_length": 2**20}, "model")


@pytest.mark.parametrize("stored", [None, {}, [], {"encoder": "a", "width": 3}])
def test_other_objects_contain_no_settings(stored):
    assert not has_settings(stored)
