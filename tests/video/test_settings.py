import pytest

from skdejavid import TSEExtractor
from skdejavid.video.settings import describe, resolve_settings


def encoder(clips):
    return clips.mean(dim=(2, 3, 4))


def test_what_is_automatic_is_resolved_for_an_encoder_that_says_nothing():
    settings = resolve_settings(TSEExtractor(encoder))
    assert settings.layout == "BCTHW"
    assert settings.spec.clip_length == 16
    assert (settings.spec.shorter_side, settings.spec.crop) == (224, 224)
    assert settings.mean is settings.std is None


def test_what_is_given_is_not_replaced():
    extractor = TSEExtractor(
        encoder, layout="BCHW", clip_length=3, frame_size=(40, 32), mean=0.5, std=[1, 2, 3]
    )
    settings = resolve_settings(extractor)
    assert settings.layout == "BCHW"
    assert settings.spec.one_by_one
    assert settings.spec.clip_length == 3
    assert (settings.spec.shorter_side, settings.spec.crop) == (40, 32)
    assert (settings.mean, settings.std) == (0.5, [1, 2, 3])


def test_a_store_records_all_that_sequences_depend_on():
    extractor = TSEExtractor(encoder, encoder_id="mean", width=(4, "2s"), stride=2)
    assert describe(extractor, resolve_settings(extractor)) == {
        "procedure": 1,
        "encoder": "mean",
        "width": [4, "2s"],
        "stride": 2,
        "clip_length": 16,
        "layout": "BCTHW",
        "frame_size": [224, 224],
        "mean": None,
        "std": None,
        "features": "both",
        "head": None,
        "autocast": None,
    }


@pytest.mark.parametrize("size", [(32,), (32, 0), (32.5, 32)])
def test_sizes_of_frames_are_checked(size):
    with pytest.raises(ValueError, match=r"frame_size must be a positive int or a pair"):
        resolve_settings(TSEExtractor(encoder, frame_size=size))
