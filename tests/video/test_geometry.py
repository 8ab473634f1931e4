from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import image_processing_backends

from skdejavid.video.geometry import Geometry, geometry_of
from skdejavid.video.torch_processors import make_video_processor

SQUARE = {"size": {"height": 24, "width": 20}}


def processor(name="ViT", **options):
    return getattr(transformers, f"{name}ImageProcessorPil")(**SQUARE | options)


def frame_of(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def both_parts(geometry, frame):
    pixels = geometry(frame)
    assert pixels.dtype == np.uint8
    mean = 0 if geometry.mean is None else np.array(geometry.mean)[:, None, None]
    std = 1 if geometry.std is None else np.array(geometry.std)[:, None, None]
    return (pixels / 255 - mean) / std


PROCESSORS = {
    "squashed": processor(),
    "shorter edge": processor("CLIP", size={"shortest_edge": 24}, crop_size=20),
    "larger crop": processor("CLIP", size={"shortest_edge": 16}, crop_size=20),
    "share of the crop": processor("ConvNext", size={"shortest_edge": 24}),
    "LeViT": processor("Levit", size={"shortest_edge": 24}, crop_size=20),
    "other order": processor("MobileViT", size={"shortest_edge": 24}, crop_size=20),
    "normalized twice": processor("EfficientNet"),
    "offset": processor("EfficientNet", rescale_factor=1 / 127.5, rescale_offset=True),
    "ViViT": transformers.VivitImageProcessor(size={"shortest_edge": 24}, crop_size=20),
    "VideoMAE": processor("VideoMAE", size={"shortest_edge": 24}, crop_size=20),
    "bytes": processor(do_rescale=False, do_normalize=False),
    "not normalized": processor(do_normalize=False),
}


@pytest.mark.fault(127)
@pytest.mark.parametrize("name", PROCESSORS)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 9))
@settings(max_examples=15)
def test_both_parts_give_what_the_processor_gives(name, height, width, seed):
    """Also for frames that are 1 or 3 pixels high, whose axes are easily confused."""
    frame = frame_of(height, width, seed)
    made = PROCESSORS[name]([Image.fromarray(frame)], input_data_format="channels_last")
    expected = np.asarray(made["pixel_values"]).reshape(3, *Geometry(PROCESSORS[name]).size)
    found = both_parts(geometry_of(PROCESSORS[name]), frame)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_mean_and_deviation_are_those_of_the_processor():
    geometry = Geometry(processor("CLIP", size={"shortest_edge": 24}, crop_size=20))
    assert geometry.mean == transformers.CLIPImageProcessorPil.image_mean  # to the last digit
    assert geometry.std == transformers.CLIPImageProcessorPil.image_std
    assert geometry.size == (20, 20)
    assert geometry.order == (0, 1, 2)
    twice = Geometry(processor("EfficientNet"))
    assert (twice.mean, twice.std) == ([0.5] * 3, [0.25] * 3)
    plain = Geometry(PROCESSORS["other order"])
    assert plain.mean is plain.std is None
    assert plain.order == (2, 1, 0)


class Doing(image_processing_backends.PilBackend):
    """A processor that does something more at the end."""

    size: ClassVar = SQUARE["size"]
    resample = 2
    do_resize = True
    do_rescale = True
    do_normalize = False

    def _preprocess(self, images, **options):
        result = super()._preprocess(images, **options)
        result["pixel_values"] = [self.finish(image) for image in result["pixel_values"]]
        return result


def doing(function):
    return type("Own", (Doing,), {"finish": lambda self, image: function(image)})()


@pytest.mark.fault(127)
@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x - x.mean(), "does not scale pixels|not those of scaled bytes"),
        (lambda x: x if x.dtype == np.uint8 else x**2, "not those of scaled bytes"),
        (lambda x: -x, "by a positive number"),
        (lambda x: x * np.nan, "by a positive number"),
        (lambda x: x.mean(axis=0, keepdims=True).repeat(3, axis=0), "it mixes colors|type float"),
        (lambda x: x[:1], r"array of shape \(1, 24, 20\)"),
        (lambda x: np.stack([x, x]), r"array of shape \(2, 3, 24, 20\)"),
        (lambda x: x.astype(np.float32) * 1.0000001, "numbers of type float"),
        (lambda x: 1 // 0, "fails for a picture of .* integer division"),
    ],
)
def test_a_processor_that_does_more_is_refused_with_the_reason(function, reason):
    message = f"the processor Own is not supported, because .*({reason}).*Pass frame_size, mean"
    with pytest.raises(ValueError, match=message):
        geometry_of(doing(function))


@pytest.mark.fault(127)
@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (processor("Detr", size={"shortest_edge": 24, "longest_edge": 40}), "size of its results"),
        (processor(do_resize=False), "size of its results depends"),
        (transformers.Qwen2VLImageProcessorPil(), r"returns \['image_grid_thw', 'pixel_values'\]"),
        (transformers.LlavaNextImageProcessorPil(), r"returns \['image_sizes', 'pixel_values'\]"),
        (processor("ZoeDepth"), "not those of scaled bytes"),
    ],
    ids=["DETR", "not scaled", "Qwen2-VL", "LLaVA-NeXT", "scaled as floats"],
)
def test_processors_of_other_kinds_are_refused(made, reason):
    with pytest.raises(ValueError, match=reason):
        geometry_of(made)


@pytest.mark.parametrize("made", [PROCESSORS["squashed"], make_video_processor({}, "videomae")])
@pytest.mark.parametrize(
    "view",
    [lambda x: x[..., ::-1], np.flipud, np.fliplr, np.rot90, lambda x: x[::2, ::2], np.asarray],
    ids=["BGR", "upside down", "mirrored", "turned", "every second pixel", "the same"],
)
@pytest.mark.parametrize("is_writable", [True, False])
def test_frames_may_be_views(made, view, is_writable):
    """Torch takes no negative strides, and warns about memory that is read-only."""
    geometry = geometry_of(made)
    frame = frame_of(30, 40)
    expected = geometry(np.array(view(frame), order="C"))
    before = frame.copy()
    frame.setflags(write=is_writable)
    found = geometry(view(frame))
    np.testing.assert_array_equal(found, expected)
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(frame, before)


def test_frames_may_be_a_memory_map(tmp_path):
    np.save(tmp_path / "a.npy", frame_of(30, 40))
    geometry = geometry_of(make_video_processor({}, "videomae"))
    found = geometry(np.load(tmp_path / "a.npy", mmap_mode="r"))
    np.testing.assert_array_equal(found, geometry(frame_of(30, 40)))


class BySize(Doing):
    """A processor that does something else with frames of a certain kind."""

    def resize(self, image, size, **options):
        other = self.other(*image.shape[-2:])
        if other == "a float":
            return super().resize(image, size, **options) + 0.5
        scaled = {"height": other or size.height, "width": size.width}
        return super().resize(image, transformers.image_utils.SizeDict(**scaled), **options)


def by_size(function):
    return type("Own", (BySize,), {"finish": lambda self, x: x, "other": staticmethod(function)})()


def test_a_size_that_depends_on_how_narrow_a_picture_is_is_noticed():
    with pytest.raises(ValueError, match=r"depends on that of the picture: .*\(9, 20\)"):
        geometry_of(by_size(lambda height, width: 9 if width > 6 * height else None))


@pytest.mark.parametrize(
    ("other", "reason"),
    [(9, r"the size of its results depends .*\(9, 20\)"), ("a float", "numbers of type float64")],
)
def test_a_frame_of_which_a_processor_makes_something_else_is_an_error(other, reason):
    geometry = geometry_of(by_size(lambda height, width: other if height == 7 else None))
    assert geometry(frame_of(8, 40)).shape == (3, 24, 20)
    with pytest.raises(ValueError, match=f"the processor Own is not supported, because .*{reason}"):
        geometry(frame_of(7, 40))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("squashed", (24, 20)),
        ("shorter edge", (24, 240)),
        ("larger crop", (20, 200)),  # it scales to 16; its results are larger
    ],
)
def test_frames_are_scaled_to_what_the_settings_say(name, expected):
    geometry = geometry_of(PROCESSORS[name])
    assert geometry.scaled_size((8, 80)) == expected
    turned = expected if name == "squashed" else expected[::-1]
    assert geometry.scaled_size((80, 8)) == turned


def test_threads_share_a_geometry():
    geometry = geometry_of(PROCESSORS["LeViT"])
    frames = [frame_of(30 + seed, 40, seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(geometry, frames))
    for frame, found in zip(frames, together, strict=True):
        np.testing.assert_array_equal(found, geometry(frame))


def test_changes_of_a_processor_do_not_reach_its_geometry():
    mine = processor()
    geometry = geometry_of(mine)
    before = geometry(frame_of(30, 40))
    assert geometry_of(processor()) is geometry
    mine.do_flip = mine.resample = 0
    np.testing.assert_array_equal(geometry(frame_of(30, 40)), before)
    assert geometry_of(mine) is not geometry


def test_the_description_tells_processors_apart():
    described = [
        geometry_of(processor(**options)).description
        for options in ({}, {"resample": 0}, {"resample": 3}, {"image_mean": [0, 0, 0]}, {})
    ]
    pixels = [description["pixels"] for description in described]
    assert pixels[0] == pixels[3] == pixels[4]  # mean and deviation are recorded themselves
    assert len(set(pixels)) == 3
    assert described[0] == {
        "class": "ViTImageProcessorPil", "size": [24, 20], "pixels": pixels[0],
    }  # fmt: skip
