import numpy as np
import pytest
import torch

from skdejavid.video.encoders import encode, inference, resize_and_crop


@pytest.fixture
def clips(rng):
    """Three clips of 4 frames, 6 high, 5 wide."""
    return list(rng.integers(0, 256, size=(3, 4, 6, 5, 3), dtype=np.uint8))


def spy(shapes, n_features=2):
    def encoder(batch):
        shapes.append(tuple(batch.shape))
        return torch.zeros(len(batch), n_features)

    return encoder


@pytest.mark.parametrize(
    ("layout", "shape"),
    [("BCTHW", (3, 3, 4, 6, 5)), ("BTCHW", (3, 4, 3, 6, 5)), ("BCHW", (12, 3, 6, 5))],
)
def test_the_encoder_gets_the_layout_it_asks_for(layout, shape, clips):
    shapes = []
    embeddings = encode(spy(shapes), clips, layout=layout, mean=None, std=None)
    assert shapes == [shape]
    assert embeddings.shape == (3, 2)


@pytest.mark.parametrize("layout", ["BCTHW", "BTCHW", "BCHW"])
def test_every_layout_carries_the_same_pixels(layout, clips):
    axes = {"BCTHW": (2, 3, 4), "BTCHW": (1, 3, 4), "BCHW": (2, 3)}[layout]
    embeddings = encode(
        lambda batch: batch.mean(dim=axes), clips, layout=layout, mean=None, std=None
    )
    np.testing.assert_allclose(embeddings, np.stack(clips).mean(axis=(1, 2, 3)) / 255, rtol=1e-5)


def test_mean_and_std_are_applied_per_channel(clips):
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.25, 2.0]
    embeddings = encode(
        lambda batch: batch.mean(dim=(2, 3, 4)), clips, layout="BCTHW", mean=mean, std=std
    )
    expected = (np.stack(clips).mean(axis=(1, 2, 3)) / 255 - mean) / std
    np.testing.assert_allclose(embeddings, expected, rtol=1e-4, atol=1e-6)
    scaled = encode(
        lambda batch: batch.mean(dim=(2, 3, 4)), clips, layout="BCTHW", mean=0.5, std=0.5
    )
    np.testing.assert_allclose(
        scaled, 2 * np.stack(clips).mean(axis=(1, 2, 3)) / 255 - 1, atol=1e-5
    )


def test_embedding_and_logits_are_joined(clips):
    def encoder(batch):
        return torch.zeros(len(batch), 4), torch.ones(len(batch), 3)

    embeddings = encode(encoder, clips, layout="BCTHW", mean=None, std=None)
    np.testing.assert_array_equal(embeddings, [[0, 0, 0, 0, 1, 1, 1]] * 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_module_is_fed_in_its_own_precision(dtype, clips):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 4 * 6 * 5, 2)).to(dtype)
    embeddings = encode(module.requires_grad_(False), clips, layout="BCTHW", mean=None, std=None)
    assert embeddings.dtype == (np.float64 if dtype == torch.float64 else np.float32)


@pytest.mark.parametrize(
    "output",
    [
        torch.zeros(3),
        torch.zeros(3, 2, 2),
        torch.zeros(2, 2),
        (torch.zeros(3, 2), torch.zeros(4, 2)),
    ],
)
def test_an_output_of_the_wrong_shape_is_refused(output, clips):
    with pytest.raises(ValueError, match="encoder must return a tensor"):
        encode(lambda batch: output, clips, layout="BCTHW", mean=None, std=None)


def test_inference_leaves_every_submodule_as_it_was():
    module = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Sequential(torch.nn.BatchNorm1d(2)))
    module[1].eval()
    modes = [part.training for part in module.modules()]
    with inference(module):
        assert not any(part.training for part in module.modules())
        assert torch.is_inference_mode_enabled()
    assert [part.training for part in module.modules()] == modes == [True, True, False, False]
    with pytest.raises(RuntimeError, match="on purpose"), inference(module):
        raise RuntimeError("on purpose")
    assert [part.training for part in module.modules()] == modes


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (40, 40), (33, 57), (16, 300)])
@pytest.mark.parametrize("size", [16, 40, 64])
def test_frames_become_centered_squares(shape, size):
    frame = np.zeros((*shape, 3), dtype=np.uint8)
    frame[shape[0] // 2 :] += 100  # halves stay halves only if the crop is centered
    frame[:, shape[1] // 2 :] += 100
    square = resize_and_crop(frame, size)
    assert square.shape == (size, size, 3)
    assert square.dtype == np.uint8
    corners = square[[2, 2, -3, -3], [2, -3, 2, -3], 0]
    np.testing.assert_array_equal(corners, [0, 100, 100, 200])
    assert abs(float(square.mean()) - 100) < 8


def test_frames_of_the_right_size_are_only_cropped(rng):
    frame = rng.integers(0, 256, size=(8, 12, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize_and_crop(frame, 8), frame[:, 2:10])
    assert resize_and_crop(frame, None) is frame


@pytest.mark.parametrize("layout", ["BCTHW", "BTCHW", "BCHW"])
def test_the_encoder_gets_contiguous_memory(layout, clips):
    embeddings = encode(
        lambda batch: batch.view(len(batch), -1)[:, :2], clips, layout=layout, mean=None, std=None
    )
    assert embeddings.shape == (3, 2)


def test_numbers_for_normalization_may_be_of_any_type(clips):
    def encoder(batch):
        assert batch.dtype == torch.float32
        return batch.mean(dim=(2, 3, 4))

    mean = np.array([0.1, 0.2, 0.3])
    options = {"layout": "BCTHW", "std": None}
    expected = encode(encoder, clips, mean=[0.1, 0.2, 0.3], **options)
    for given in (mean, tuple(mean), torch.from_numpy(mean)):
        np.testing.assert_array_equal(encode(encoder, clips, mean=given, **options), expected)
    with pytest.raises(ValueError, match="mean must be one number or one per channel"):
        encode(encoder, clips, mean=[0.1, 0.2], **options)
    with pytest.raises(ValueError, match="std must be positive, got 0"):
        encode(encoder, clips, layout="BCTHW", mean=None, std=0)


def test_read_only_frames_are_resized_without_a_warning(rng):
    frame = rng.integers(0, 256, size=(8, 12, 3), dtype=np.uint8)
    expected = resize_and_crop(frame, 4)
    frame.flags.writeable = False
    np.testing.assert_array_equal(resize_and_crop(frame, 4), expected)


def test_only_floating_parameters_tell_the_precision(clips):
    class Quantized(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Parameter(torch.ones(2, dtype=torch.int8), requires_grad=False)

        def forward(self, batch):
            return batch.mean(dim=(2, 3, 4))

    embeddings = encode(Quantized(), clips, layout="BCTHW", mean=None, std=None)
    np.testing.assert_allclose(embeddings, np.stack(clips).mean(axis=(1, 2, 3)) / 255, rtol=1e-5)
