from functools import partial

import numpy as np
import pytest
import torch
import transformers
from pretrained_models import small_model

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
        "procedure": 2,
        "encoder": "mean",
        "width": [4, "2s"],
        "stride": 2,
        "clip_length": 16,
        "layout": "BCTHW",
        "frame_size": [224, 224],
        "processor": None,
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


class TwoThirds(torch.nn.Module):
    """An encoder that is no model of transformers."""

    def forward(self, images):
        return images.mean(dim=(2, 3))


def processor(**options):
    square = {"size": {"height": 24, "width": 20}}
    return transformers.ViTImageProcessorPil(**square, image_mean=[0.1, 0.2, 0.3], **options)


@pytest.mark.fault(126)
def test_a_processor_prepares_frames_for_any_encoder():
    frames = np.random.default_rng(0).integers(0, 256, (3, 30, 41, 3), dtype=np.uint8)
    extractor = TSEExtractor(
        TwoThirds(), processor=processor(), layout="BCHW", width=1, stride=1, clip_length=1
    )
    pixels = np.asarray(processor()(list(frames))["pixel_values"])
    np.testing.assert_allclose(
        extractor.transform([frames])[0], pixels.mean(axis=(2, 3)), atol=1e-5
    )


@pytest.mark.fault(126)
def test_what_is_set_overrides_the_processor():
    def resolve(**parameters):
        return resolve_settings(TSEExtractor(encoder, processor=processor(), **parameters))

    settings = resolve()
    assert (settings.mean, settings.std) == ([0.1, 0.2, 0.3], [0.5] * 3)
    assert settings.processor["size"] == [24, 20]
    assert (settings.spec.shorter_side, settings.spec.crop) == (24, 24)  # for what frames cost
    settings = resolve(mean=None)
    assert (settings.mean, settings.std) == (None, [0.5] * 3)
    settings = resolve(frame_size=16)
    assert settings.spec.geometry is settings.processor is None
    assert (settings.spec.shorter_side, settings.spec.crop) == (16, 16)
    assert settings.mean == [0.1, 0.2, 0.3]
    unused = resolve_settings(
        TSEExtractor(encoder, processor="no such", frame_size=16, mean=0, std=1)
    )
    assert (unused.mean, unused.std) == (0, 1)


@pytest.mark.fault(127)
def test_a_size_of_frames_does_not_silently_undo_an_order_of_colors():
    flipping = transformers.MobileViTImageProcessorPil(size={"shortest_edge": 24}, crop_size=20)
    with pytest.raises(ValueError, match=r"frame_size: .* reorders colors .*set mean and std"):
        resolve_settings(TSEExtractor(encoder, processor=flipping, frame_size=16))
    resolve_settings(TSEExtractor(encoder, processor=flipping, frame_size=16, mean=0, std=1))


@pytest.mark.fault(126)
def test_a_store_of_another_processor_is_refused(tmp_path):
    frames = np.zeros((3, 30, 41, 3), dtype=np.uint8)
    options = {"width": 1, "stride": 1, "clip_length": 1, "encoder_id": "mean", "store": tmp_path}
    for resample in (2, 2, 3):
        extractor = TSEExtractor(encoder, processor=processor(resample=resample), **options)
        if resample == 2:
            extractor.transform([frames])
        else:
            with pytest.raises(ValueError, match="processor"):
                extractor.transform([frames])


class Wrapped(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, clips):
        return self.model(clips).logits


WRAPPERS = {
    "module": Wrapped,
    "compiled": torch.compile,
    "parallel": torch.nn.DataParallel,
    "method": lambda model: model.forward,
    "function": lambda model: lambda clips: model(clips).logits,
    "partial": lambda model: partial(Wrapped.forward, Wrapped(model)),
}


@pytest.mark.fault(126)
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # of torch.compile
@pytest.mark.parametrize("kind", WRAPPERS)
def test_a_model_inside_of_an_encoder_is_told_of_unless_its_input_is_given(kind):
    """Its processor is not known to belong to what the encoder does with clips."""
    wrapped = WRAPPERS[kind](small_model("VideoMAE"))
    with pytest.warns(
        UserWarning, match=r"contains a Hugging Face model \(VideoMAEForVideoClassification\)"
    ) as caught:
        resolve_settings(TSEExtractor(wrapped))
    layout = "The model inside takes layout='BTCHW'; without layout=, the encoder gets 'BCTHW'"
    assert layout in str(caught[0].message)
    with pytest.warns(UserWarning, match="contains a Hugging Face model") as caught:
        resolve_settings(TSEExtractor(wrapped, layout="BTCHW"))
    assert "layout" not in str(caught[0].message)
    given = TSEExtractor(wrapped, frame_size=32, mean=None, std=None)
    assert resolve_settings(given).mean is None  # without a warning
    processor = transformers.ViTImageProcessorPil(size={"height": 32, "width": 32})
    by_processor = TSEExtractor(wrapped, processor=processor)
    assert resolve_settings(by_processor).mean is not None
