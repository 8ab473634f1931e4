import pytest
import torch
import transformers

from skdejavid import TSEExtractor
from skdejavid.video.stored_settings import has_settings, set_settings

ENCODER = torch.nn.Sequential(torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten())

SIZES = {"size": {"shortest_edge": 32}, "crop_size": 32}
PROCESSOR = transformers.CLIPImageProcessorPil(**SIZES)


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
    with pytest.raises(ValueError, match="model sets clip_length to a number beyond"):
        set_settings(extractor(), stored | {"clip_length": 2**30}, "model")


@pytest.mark.parametrize(
    ("given", "settings"),
    [
        ({}, {"clip_length": 2**20}),
        ({}, {"clip_length": 2**20, "frame_size": [None, None]}),
        ({}, {"clip_length": None, "width": 2**20}),
        ({}, {"clip_length": 2**20, "frame_size": "auto"}),
        ({"processor": PROCESSOR}, {"clip_length": 2**20}),
    ],
)
def test_clips_that_fit_into_no_memory_are_refused(given, settings):
    stored = extractor(**given).store_fingerprint() | settings
    with pytest.raises(ValueError, match="a clip would have"):
        set_settings(extractor(**given), stored, "model")


@pytest.mark.parametrize(("passed", "hint"), [(None, "give it again"), ("x", "leave it out")])
def test_another_encoder_is_named_with_the_option_that_may_be_missing(passed, hint):
    stored = extractor(encoder_id="colors").store_fingerprint()
    own = extractor(encoder_id=passed)
    name = own.encoder_fingerprint()
    message = (
        rf"^s was made with the encoder 'colors', .* --encoder, '{name}': .*--enc.*-id.*{hint}"
    )
    with pytest.raises(ValueError, match=message):
        set_settings(own, stored, "s")
    own = extractor(encoder_id="colors")
    set_settings(own, stored, "s")
    assert own.store_fingerprint() == stored


@pytest.mark.fault(126)
def test_frames_of_another_processor_are_named_with_the_remedy():
    stored = extractor(processor=PROCESSOR).store_fingerprint()
    other = transformers.CLIPImageProcessorPil(
        **(SIZES | {"crop_size": 24}), image_mean=[0.1] * 3, image_std=[0.2] * 3
    )
    for given, message in (
        ({}, "and now there is none: pass it as processor"),
        ({"processor": other}, r"and now it is .*, in the size \[24, 24\]: pass the other one as"),
    ):
        with pytest.raises(ValueError, match=rf"Pil prepared them, in the size.* {message} .*--p"):
            set_settings(extractor(**given), stored, "s")


@pytest.mark.fault(126)
def test_of_a_processor_that_gives_other_pixels_the_machine_may_be_the_reason():
    stored = extractor(processor=PROCESSOR).store_fingerprint()
    stored["processor"] = stored["processor"] | {"pixels": "another"}
    message = r"has this class and size but gives other pixels\. .* this machine, or its versions"
    with pytest.raises(ValueError, match=message):
        set_settings(extractor(processor=PROCESSOR), stored, "s")


def test_settings_of_a_file_may_be_anything():
    stored = extractor().store_fingerprint() | {"processor": "text", "frame_size": "auto"}
    with pytest.raises(ValueError, match="s was made with other frames"):
        set_settings(extractor(processor=PROCESSOR), stored, "s")


@pytest.mark.parametrize("stored", [None, {}, [], {"encoder": "a", "width": 3}])
def test_other_objects_contain_no_settings(stored):
    assert not has_settings(stored)
