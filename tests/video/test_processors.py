import numpy as np
import pytest
import torch
from pretrained_models import small_model

from skdejavid.video.encoders import ClipEncoder
from skdejavid.video.fingerprints import fingerprint
from skdejavid.video.pretrained import load_encoder
from skdejavid.video.processors import InputSpec, input_spec


def encode(encoder, clips, *, layout, **options):
    runner = ClipEncoder(encoder, layout=layout, **options)
    with runner.session():
        return runner.encode(clips)


@pytest.fixture
def video_clips(rng):
    return list(rng.integers(0, 256, size=(3, 8, 3, 32, 32), dtype=np.uint8))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["VideoMAE", "Vivit"])
def test_a_model_is_loaded_by_the_name_of_its_folder(family, video_clips, tmp_path):
    import transformers

    model = small_model(family)
    model.save_pretrained(tmp_path)
    processor = {
        "VideoMAE": transformers.VideoMAEImageProcessor(
            size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}
        ),
        "Vivit": transformers.VivitImageProcessor(
            size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}
        ),
    }[family]
    processor.save_pretrained(tmp_path)
    loaded = load_encoder(tmp_path)
    assert loaded is load_encoder(str(tmp_path))
    spec = input_spec(loaded)
    side = {"VideoMAE": 40, "Vivit": 36}[family]
    assert spec[:4] == ("BTCHW", 8, side, 32)
    assert fingerprint(loaded) == fingerprint(model)

    frames = [frame.transpose(1, 2, 0) for frame in video_clips[0]]
    expected = processor(
        frames, return_tensors="pt", do_resize=False, do_center_crop=False
    ).pixel_values
    seen = []
    hook = loaded.register_forward_pre_hook(
        lambda module, arguments, named: seen.append(named["pixel_values"]), with_kwargs=True
    )
    encode(loaded, video_clips[:1], layout="BTCHW", mean=spec.mean, std=spec.std)
    hook.remove()
    np.testing.assert_allclose(seen[0], expected, atol=1e-5)


@pytest.mark.slow
def test_image_models_are_known_as_such(tmp_path, rng):
    import transformers

    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=5,
        image_size=32,
        patch_size=16,
    )
    images = list(rng.integers(0, 256, size=(2, 1, 3, 32, 32), dtype=np.uint8))
    classifier = transformers.ViTForImageClassification(config)
    assert input_spec(classifier) == InputSpec("BCHW", None, 32, 32, None, None)
    assert encode(classifier, images, layout="BCHW").shape == (2, 24 + 5)
    plain = transformers.ViTModel(config)
    assert encode(plain, images, layout="BCHW").shape == (2, 24)
    plain.save_pretrained(tmp_path)
    assert type(load_encoder(tmp_path)).__name__ == "ViTModel"
