import copy
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from pretrained_models import small_model

from skdejavid.video import encoders
from skdejavid.video.encoders import ClipEncoder
from skdejavid.video.processors import InputSpec, input_spec
from skdejavid.video.transfers import Download, Transfers


@pytest.fixture
def clips(rng):
    """Three clips of 4 frames, 6 high, 5 wide."""
    return list(rng.integers(0, 256, size=(3, 4, 3, 6, 5), dtype=np.uint8))


def encode(encoder, clips, *, layout="BCTHW", **options):
    runner = ClipEncoder(encoder, layout=layout, **options)
    with runner.session():
        return runner.encode(clips)


def means_of(clips):
    """Return the mean of each channel, (n_clips, 3)."""
    return np.stack(clips).mean(axis=(1, 3, 4)) / 255


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
    assert encode(spy(shapes), clips, layout=layout).shape == (3, 2)
    assert shapes == [shape]


@pytest.mark.parametrize("layout", ["BCTHW", "BTCHW", "BCHW"])
def test_every_layout_carries_the_same_pixels(layout, clips):
    axes = {"BCTHW": (2, 3, 4), "BTCHW": (1, 3, 4), "BCHW": (2, 3)}[layout]
    features = encode(lambda batch: batch.mean(dim=axes), clips, layout=layout)
    np.testing.assert_allclose(features, means_of(clips), rtol=1e-5)


@pytest.mark.parametrize("layout", ["BCTHW", "BTCHW", "BCHW"])
def test_mean_and_std_are_applied_per_channel(layout, clips):
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.25, 2.0]
    axes = {"BCTHW": (2, 3, 4), "BTCHW": (1, 3, 4), "BCHW": (2, 3)}[layout]
    encoder = partial(torch.mean, dim=axes)
    features = encode(encoder, clips, layout=layout, mean=mean, std=std)
    np.testing.assert_allclose(features, (means_of(clips) - mean) / std, rtol=1e-4, atol=1e-6)
    scaled = encode(encoder, clips, layout=layout, mean=0.5, std=0.5)
    np.testing.assert_allclose(scaled, 2 * means_of(clips) - 1, atol=1e-5)


@pytest.mark.parametrize("layout", ["BCTHW", "BTCHW", "BCHW"])
def test_the_encoder_gets_contiguous_memory(layout, clips):
    encode(lambda batch: batch.view(len(batch), -1)[:, :2], clips, layout=layout)


def plain_input(clips, layout, mean, std):
    """Return the batch for clips, computed from an array of all of them."""
    values = torch.from_numpy(np.stack(clips)).float() / 255
    values = (values - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    if layout == "BCTHW":
        return values.transpose(1, 2)
    return values.flatten(0, 1) if layout == "BCHW" else values


@pytest.mark.parametrize("clip_length", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("layout", ["BCTHW", "BTCHW", "BCHW"])
def test_the_input_has_the_bits_of_a_plain_stack_of_clips(layout, dtype, clip_length, clips):
    """Clips that overlap share their frames."""
    frames = [frame for clip in clips for frame in clip]
    windows = [np.stack(frames[k : k + clip_length]) for k in (0, 1, 2, 5)]
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.25, 2.0]
    received = []
    module = torch.nn.Linear(1, 1).to(dtype)

    def forward(batch):
        received.append(batch)
        return batch.flatten(1)[:, :2]

    module.forward = forward
    runner = ClipEncoder(module, layout=layout, mean=mean, std=std)
    with runner.session():
        uploaded = {id(frame): runner.upload(runner.stage(frame)) for frame in frames}
        shared = [
            [uploaded[id(frame)] for frame in frames[k : k + clip_length]] for k in (0, 1, 2, 5)
        ]
        runner.start(shared)
        received.append(runner.inputs(windows))
    expected = plain_input(windows, layout, mean, std).to(dtype)
    for batch in received:
        assert batch.dtype == dtype
        assert batch.is_contiguous()
        assert torch.equal(batch, expected)


class LateTransfers(Transfers):
    """A device to which, and from which, copies are made when somebody waits for them."""

    def __init__(self, device):
        super().__init__(device)
        self.waiting = []

    def upload(self, frame):
        uploaded = torch.zeros_like(frame)
        self.waiting.append((uploaded, frame))
        return uploaded

    def await_uploads(self):
        for uploaded, frame in self.waiting:
            uploaded.copy_(frame)
        self.waiting.clear()

    def download(self, tensor, dtype):
        arriving, copied = torch.zeros_like(tensor, dtype=dtype), tensor.clone()
        return Download(arriving, lambda: arriving.copy_(copied))


@pytest.mark.parametrize("layout", ["BCTHW", "BCHW"])
def test_a_device_that_copies_late_changes_nothing(layout, clips, monkeypatch):
    axes = {"BCTHW": (2, 3, 4), "BCHW": (2, 3)}[layout]
    output = torch.zeros(12, 3)

    def encoder(batch):  # which reuses the memory of its output
        embedding = output[: len(batch)]
        return embedding.copy_(batch.mean(dim=axes)), embedding.numpy()

    options = {"layout": layout, "mean": [0.1, 0.2, 0.3], "std": 0.5}
    expected = [encode(encoder, part, **options) for part in (clips[:1], clips[1:])]
    monkeypatch.setattr(encoders, "transfers_to", LateTransfers)
    runner = ClipEncoder(encoder, **options)
    with runner.session():
        uploaded = [[runner.upload(runner.stage(frame)) for frame in clip] for clip in clips]
        started = [runner.start(part) for part in (uploaded[:1], uploaded[1:])]
        for batch, features in zip(started, expected, strict=True):
            assert not batch.is_ready
            np.testing.assert_array_equal(batch.get(), features)


def test_on_the_cpu_embeddings_are_ready_when_the_encoder_returns(clips):
    runner = ClipEncoder(lambda batch: EMBEDDING, layout="BCTHW")
    frames = [[runner.upload(runner.stage(frame)) for frame in clip] for clip in clips]
    assert runner.start(frames).is_ready


def test_numbers_for_normalization_may_be_of_any_type(clips):
    def encoder(batch):
        assert batch.dtype == torch.float32
        return batch.mean(dim=(2, 3, 4))

    mean = np.array([0.1, 0.2, 0.3])
    expected = encode(encoder, clips, mean=[0.1, 0.2, 0.3])
    for given in (mean, tuple(mean), torch.from_numpy(mean)):
        np.testing.assert_array_equal(encode(encoder, clips, mean=given), expected)
    with pytest.raises(ValueError, match="mean must be one finite number or one per channel"):
        encode(encoder, clips, mean=[0.1, 0.2])
    with pytest.raises(ValueError, match="std must be positive, got 0"):
        encode(encoder, clips, std=0)


EMBEDDING, LOGITS = torch.zeros(3, 4), torch.ones(3, 2)
OUTPUTS = {
    "tuple": (EMBEDDING, LOGITS),
    "list": [EMBEDDING, LOGITS],
    "mapping": {"logits": LOGITS, "embedding": EMBEDDING},
    "pooler": {"logits": LOGITS, "pooler_output": EMBEDDING, "last_hidden_state": None},
    "tokens": {"last_hidden_state": torch.zeros(3, 7, 4), "logits": LOGITS},
}


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)
def test_embedding_and_logits_are_joined_or_chosen(output, clips):
    joined = encode(lambda batch: output, clips)
    np.testing.assert_array_equal(joined, [[0, 0, 0, 0, 1, 1]] * 3)
    for features, part in (("embedding", EMBEDDING), ("logits", LOGITS)):
        chosen = encode(lambda batch: output, clips, features=features)
        np.testing.assert_array_equal(chosen, part)


def test_a_single_tensor_is_an_embedding(clips):
    for features in ("both", "embedding"):
        chosen = encode(lambda batch: EMBEDDING, clips, features=features)
        np.testing.assert_array_equal(chosen, EMBEDDING)
    with pytest.raises(ValueError, match="returned no logits: set head, or use features='bo"):
        encode(lambda batch: EMBEDDING, clips, features="logits")


def test_tokens_are_averaged(clips):
    tokens = torch.arange(24.0).reshape(3, 4, 2)
    features = encode(lambda batch: {"last_hidden_state": tokens}, clips)
    np.testing.assert_array_equal(features, tokens.mean(dim=1))


def test_maps_are_not_taken_for_tokens(clips):
    maps = torch.zeros(3, 2, 4, 5)  # channels second, as convolutions have them
    with pytest.raises(ValueError, match=r"must be \(n, n_tokens, n_features\).*\(3, 2, 4, 5\)"):
        encode(lambda batch: {"last_hidden_state": maps}, clips)


def test_pooled_maps_are_embeddings(clips):
    pooled = torch.arange(6.0).reshape(3, 2, 1, 1)
    for output in (pooled, {"pooler_output": pooled}, (pooled, LOGITS[:, :0])):
        features = encode(lambda batch, output=output: output, clips)
        np.testing.assert_array_equal(features, pooled[:, :, 0, 0])


class Classifier(torch.nn.Module):
    """An encoder that returns logits only, as most models do."""

    def __init__(self, pooled_shape=(-1, 3)):
        super().__init__()
        self.pooled_shape = pooled_shape
        self.drop = torch.nn.Dropout(0.9)
        self.fc = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 2))

    def forward(self, clips):
        assert not torch.is_grad_enabled()
        return self.fc(self.drop(clips.mean(dim=(2, 3, 4))).reshape(self.pooled_shape))


@pytest.mark.parametrize("shape", [(-1, 3), (-1, 3, 1, 1)])
def test_what_goes_into_the_head_is_the_embedding(shape, clips):
    encoder = Classifier(shape)
    before = pickle.dumps(encoder)
    features = encode(encoder, clips, head="fc")
    expected = means_of(clips)
    np.testing.assert_allclose(features[:, :3], expected, rtol=1e-5)
    with torch.no_grad():
        logits = encoder.fc(torch.from_numpy(expected).float())
    np.testing.assert_allclose(features[:, 3:], logits, atol=1e-6)
    np.testing.assert_array_equal(
        encode(encoder, clips, head="fc", features="logits"), features[:, 3:]
    )
    assert pickle.dumps(encoder) == before  # all hooks are removed


def test_hooks_are_gone_after_an_error(clips):
    encoder = Classifier()
    runner = ClipEncoder(encoder, layout="BCTHW", head="fc")
    session = runner.session()
    session.__enter__()
    head = runner._encoder.fc
    assert head._forward_hooks
    assert not session.__exit__(RuntimeError, RuntimeError("on purpose"), None)
    assert runner._encoder is encoder
    for fc in (head, encoder.fc):
        assert not fc._forward_hooks
        assert not fc._forward_pre_hooks


@pytest.mark.parametrize("named", [False, True])
def test_what_a_head_does_in_place_does_not_reach_the_features(named, clips):
    class InPlace(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.ReLU(inplace=True)

        def forward(self, clips):
            pooled = clips.mean(dim=(2, 3, 4))
            return (self.fc(input=pooled) if named else self.fc(pooled)).neg_()

    features = encode(InPlace(), clips, head="fc", mean=2.0)
    np.testing.assert_allclose(features[:, :3], means_of(clips) - 2, rtol=1e-5)
    np.testing.assert_array_equal(features[:, 3:], np.zeros((3, 3)))
    positive = encode(InPlace(), clips, head="fc", features="logits")
    np.testing.assert_allclose(positive, means_of(clips), rtol=1e-5)


def test_a_head_that_is_not_called_is_refused(clips):
    encoder = Classifier()
    encoder.auxiliary = torch.nn.Linear(3, 2)
    with pytest.raises(ValueError, match="does not call its submodule 'auxiliary', the head"):
        encode(encoder, clips, head="auxiliary")


def test_a_head_that_gets_no_tensor_is_refused(clips):
    class Pairs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Identity()

        def forward(self, clips):
            return self.fc((EMBEDDING, LOGITS))

    with pytest.raises(ValueError, match=r"input of head must be a tensor, .* but it is a tuple"):
        encode(Pairs(), clips, head="fc")


def test_a_head_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"head: .* no submodule 'classifier'; .*'fc.1'"):
        ClipEncoder(Classifier(), layout="BCTHW", head="classifier")
    with pytest.raises(ValueError, match="the encoder is not a module"):
        ClipEncoder(torch.mean, layout="BCTHW", head="fc")


def test_a_head_that_sees_tokens_is_refused(clips):
    class Tokens(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(4, 2)

        def forward(self, clips):
            return self.fc(torch.zeros(len(clips), 5, 4))

    with pytest.raises(ValueError, match=r"for 3 inputs it returned shape \(3, 5, 4\)"):
        encode(Tokens(), clips, head="fc")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_module_is_fed_in_its_own_precision(dtype, clips):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 4 * 6 * 5, 2)).to(dtype)
    features = encode(module.requires_grad_(False), clips)
    assert features.dtype == (np.float64 if dtype == torch.float64 else np.float32)


def test_half_precision_is_asked_for(clips):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 4 * 6 * 5, 2))
    kinds = []
    module.register_forward_hook(lambda module, inputs, output: kinds.append(output.dtype))
    whole = encode(module, clips)
    half = encode(module, clips, autocast="bfloat16")
    assert kinds == [torch.float32, torch.bfloat16]
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, whole, atol=0.05)
    assert (half != whole).any()
    assert module[1].weight.dtype == torch.float32


def test_a_module_computes_where_it_is_told_and_does_not_move(clips):
    encoder = Classifier()
    encoder.norm = torch.nn.BatchNorm1d(3)
    before = [*encoder.parameters(), *encoder.buffers()]
    pointers = [tensor.data_ptr() for tensor in before]
    runner = ClipEncoder(encoder, layout="BCTHW", device="meta")
    with runner.session():
        copied = [*runner._encoder.parameters(), *runner._encoder.buffers()]
        assert {tensor.device.type for tensor in copied} == {"meta"}
        assert len(copied) == len(before)
        assert {tensor.device.type for tensor in before} == {"cpu"}
    after = [*encoder.parameters(), *encoder.buffers()]
    assert all(a is b for a, b in zip(after, before, strict=True))
    assert [tensor.data_ptr() for tensor in after] == pointers
    assert encode(encoder, clips, device="cpu").shape == (3, 2)


def test_a_method_that_moves_a_module_is_called_for_the_copy_only_if_it_moves(clips):
    moved = []

    class Moving(Classifier):
        def to(self, device):
            moved.append((self, str(device)))
            return super().to(device)

    encoder = Moving()
    runner = ClipEncoder(encoder, layout="BCTHW", device="meta")
    with runner.session():
        assert moved == [(runner._encoder, "meta")]
    encode(encoder, clips, device="cpu")
    assert len(moved) == 1
    assert moved[0][0] is not encoder


def test_too_little_memory_for_a_copy_changes_nothing(clips):
    class TooLarge(Classifier):
        def to(self, device):
            raise torch.OutOfMemoryError("on purpose")

    encoder = TooLarge()
    before = pickle.dumps(encoder.state_dict())
    with pytest.raises(torch.OutOfMemoryError, match="on purpose"):
        encode(encoder, clips, device="meta")
    assert pickle.dumps(encoder.state_dict()) == before
    assert encoder.training


def test_a_module_without_parameters_is_moved_for_its_buffers():
    encoder = torch.nn.BatchNorm1d(3, affine=False)
    runner = ClipEncoder(encoder, layout="BCTHW", device="meta")
    with runner.session():
        assert {buffer.device.type for buffer in runner._encoder.buffers()} == {"meta"}
    assert {buffer.device.type for buffer in encoder.buffers()} == {"cpu"}


def test_a_method_of_a_module_is_run_like_the_module(clips):
    class Backbone(Classifier):
        def embed(self, clips):
            assert clips.dtype == torch.float64
            return self.drop(clips.mean(dim=(2, 3, 4)))

    encoder = Backbone().double()
    np.testing.assert_allclose(encode(encoder.embed, clips), means_of(clips), rtol=1e-5)
    assert encoder.drop.training


def test_an_encoder_may_compute_gradients(clips):
    class Saliency(Classifier):
        def forward(self, clips):
            with torch.enable_grad():
                pooled = clips.mean(dim=(2, 3, 4)).requires_grad_()
                self.fc(pooled).sum().backward()
            return pooled.grad * pooled

    encoder = Saliency()
    features = encode(encoder, clips)
    weights = encoder.fc[1].weight.detach().sum(dim=0)
    np.testing.assert_allclose(features, means_of(clips) * weights.numpy(), rtol=1e-4)
    assert all(parameter.grad is None for parameter in encoder.parameters())


@pytest.mark.fault(72)
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
        encode(lambda batch: output, clips)


def test_a_mapping_without_known_names_is_refused(clips):
    with pytest.raises(ValueError, match=r"a mapping with \['tokens'\], expected 'embedding'"):
        encode(lambda batch: {"tokens": EMBEDDING}, clips)


def test_only_floating_parameters_tell_the_precision(clips):
    class Quantized(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Parameter(torch.ones(2, dtype=torch.int8), requires_grad=False)

        def forward(self, batch):
            return batch.mean(dim=(2, 3, 4))

    np.testing.assert_allclose(encode(Quantized(), clips), means_of(clips), rtol=1e-5)


@pytest.fixture(scope="module", params=["VideoMAE", "Timesformer", "Vivit", "VJEPA2"])
def video_model(request):
    return small_model(request.param)


@pytest.fixture
def video_clips(rng):
    return list(rng.integers(0, 256, size=(3, 8, 3, 32, 32), dtype=np.uint8))


@pytest.mark.slow
def test_hugging_face_models_give_embedding_and_logits(video_model, video_clips):
    spec = input_spec(video_model)
    assert spec == InputSpec("BTCHW", 8, 32, 32, None, None)
    features = encode(video_model, video_clips, layout=spec.layout)
    assert features.shape == (3, 24 + 5)
    batch = torch.from_numpy(np.stack(video_clips)).float() / 255
    with torch.no_grad():
        logits = video_model(**{video_model.main_input_name: batch}).logits
        head = copy.deepcopy(video_model.classifier)
        again = head(torch.from_numpy(features[:, :24]))
    np.testing.assert_allclose(features[:, 24:], logits, atol=1e-5)
    np.testing.assert_allclose(again, logits, atol=1e-5)
    assert features[:, :24].std() > 0
    assert not video_model.classifier._forward_hooks


@pytest.mark.fault(103)
@pytest.mark.parametrize(
    ("output", "told"),
    [
        (np.array([["a"]] * 3), r"<U1 of shape \(3, 1\)"),
        (np.array([[None]] * 3), r"object of shape \(3, 1\)"),
        (torch.zeros(3, 2, dtype=torch.complex64), r"torch.complex64 of shape \(3, 2\)"),
        (np.zeros((3, 2), complex), r"complex128 of shape \(3, 2\)"),
        (torch.eye(3).to_sparse(), r"torch.sparse_coo torch.float32 of shape \(3, 3\)"),
    ],
)
def test_an_output_that_is_no_matrix_of_numbers_is_told(output, told, clips):
    encoder = ClipEncoder(lambda batch: output, layout="BCTHW")
    with encoder.session(), pytest.raises(ValueError, match=f"must return real numbers.*{told}"):
        encoder.encode(clips)


@pytest.mark.fault(103)
@pytest.mark.parametrize("output", [torch.zeros(3, 0), np.zeros((3, 0))])
def test_an_output_without_features_is_told(output, clips):
    encoder = ClipEncoder(lambda batch: output, layout="BCTHW")
    with encoder.session(), pytest.raises(ValueError, match="returned no number for any clip"):
        encoder.encode(clips)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.bfloat16])
def test_outputs_of_all_real_types_are_numbers(dtype, clips):
    encoder = ClipEncoder(lambda batch: torch.ones(3, 2, dtype=dtype), layout="BCTHW")
    with encoder.session():
        np.testing.assert_array_equal(encoder.encode(clips), np.ones((3, 2)))


@pytest.mark.parametrize("mean", [123.675, [123.675, 116.28, 103.53]])
def test_a_mean_of_pixels_up_to_255_is_refused(mean):
    with pytest.raises(ValueError, match="divide both by 255"):
        ClipEncoder(torch.mean, layout="BCTHW", mean=mean, std=58.0)
