import numpy as np
import pytest
import torch

from skdejavid.video.geometry import Geometry
from skdejavid.video.torch_processors import make_video_processor

# Hashes of what the same processors make of the pictures in `geometry`, with torchvision 0.28.
MEASURED = {
    ("VJEPA2VideoProcessor", "vjepa2"): "a8ebbc12e0c96a90",
    ("VideoMAEVideoProcessor", "videomae"): "7e1031d82b62fe9e",
    ("TimesformerVideoProcessor", "timesformer"): "7e1031d82b62fe9e",
    ("VivitVideoProcessor", "vivit"): "dff27703dd5ea4bf",
    ("LlavaOnevisionVideoProcessor", "llava_onevision"): "a789fac22e7e18c8",  # bicubic
}


def frames_of(*shape):
    return np.random.default_rng(0).integers(0, 256, (2, *shape, 3), dtype=np.uint8)


@pytest.mark.fault(127)
@pytest.mark.parametrize(("name", "family"), MEASURED)
@pytest.mark.parametrize("is_named", [True, False])
def test_the_bytes_are_those_of_torchvision(name, family, is_named):
    named = {"video_processor_type": name} if is_named else {}
    description = Geometry(make_video_processor(named, family)).description
    assert description["pixels"] == MEASURED[name, family]
    assert description["class"] == name


def test_settings_of_the_file_are_used_as_the_class_does():
    processor = make_video_processor(
        {"video_processor_type": "VJEPA2VideoProcessor", "crop_size": {"height": 28, "width": 28}},
        "",
    )
    assert processor.size.shortest_edge == 32  # 28 * 256 / 224
    assert processor(frames_of(40, 50))["pixel_values_videos"][0].shape == (2, 3, 28, 28)


def test_frames_are_scaled_cropped_and_normalized():
    settings = {
        **{"size": {"height": 24, "width": 20}, "crop_size": {"height": 8, "width": 6}},
        **{"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.25, 1.0]},
    }
    frames = frames_of(30, 41)
    made = make_video_processor(settings, "videomae")(frames)["pixel_values"][0]
    scaled = torch.nn.functional.interpolate(
        torch.from_numpy(frames).permute(0, 3, 1, 2), size=(24, 20), mode="bilinear", antialias=True
    )
    expected = scaled[:, :, 8:16, 7:13] / 255
    for channel, (mean, std) in enumerate(((0.1, 0.5), (0.2, 0.25), (0.3, 1.0))):
        found = made[:, channel]
        torch.testing.assert_close(found, (expected[:, channel] - mean) / std, atol=1e-5, rtol=0)


def test_frames_that_are_smaller_than_the_crop_get_a_black_border():
    settings = {"size": {"height": 4, "width": 6}, "crop_size": {"height": 7, "width": 8}}
    processor = make_video_processor(settings, "videomae")
    made = processor(np.full((1, 4, 6, 3), 255, np.uint8))["pixel_values"][0][0, 0]
    expected = torch.full((7, 8), -1.0)
    expected[1:5, 1:7] = 1
    torch.testing.assert_close(made, expected)


@pytest.mark.parametrize(
    ("name", "family"),
    [("Qwen2VLVideoProcessor", ""), ("NoSuchVideoProcessor", ""), (None, "no_such"), ("load", "")],
)
def test_classes_that_need_more_of_torchvision_are_named(name, family):
    settings = {} if name is None else {"video_processor_type": name}
    with pytest.raises(ValueError, match=rf"{name or family}.* needs torchvision, which is not"):
        make_video_processor(settings, family)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"resample": 1}, "the filter 1 needs torchvision"),
        ({"size": {"shortest_edge": 8, "longest_edge": 20}}, "needs torchvision"),
        ({"crop_size": {"shortest_edge": 8}}, "height"),
    ],
)
def test_settings_that_need_torchvision_are_named(settings, reason):
    with pytest.raises(ValueError, match=reason):
        Geometry(make_video_processor(settings, "videomae"))
