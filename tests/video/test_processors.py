import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from families import tiny_model
from pretrained_models import small_model

from skdejavid import TSEExtractor
from skdejavid.video.fingerprints import fingerprint
from skdejavid.video.geometry import geometry_of
from skdejavid.video.pretrained import load_encoder
from skdejavid.video.processors import (
    InputSpec,
    check_clip_length,
    find_processor,
    input_spec,
    with_processor,
)
from skdejavid.video.settings import resolve_settings
from skdejavid.video.torch_processors import make_video_processor

VIDEO = np.random.default_rng(0).integers(0, 256, (8, 48, 40, 3), dtype=np.uint8)


def videomae_processor(edge=40):
    return transformers.VideoMAEImageProcessorPil(
        size={"shortest_edge": edge}, crop_size={"height": 32, "width": 32}
    )


def save(folder, family="VideoMAE", **settings):
    model = small_model(family)
    model.save_pretrained(folder)
    videomae_processor(**settings).save_pretrained(folder)
    return model


def embed(encoder, **parameters):
    return TSEExtractor(encoder, width=8, stride=8, **parameters).transform([VIDEO])[0][0]


def expected_by(model, processor):
    """Return embedding and logits of what a processor makes."""
    seen = []
    hook = model.classifier.register_forward_pre_hook(lambda m, x: seen.append(x[0].clone()))
    with torch.no_grad():
        logits = model(**processor(list(VIDEO), return_tensors="pt")).logits
    hook.remove()
    return torch.cat([seen[0], logits], dim=1)[0].numpy()


@pytest.mark.fault(126, 127)
@pytest.mark.parametrize("family", ["VideoMAE", "Timesformer"])
def test_by_name_and_as_an_object_a_model_gives_what_it_gives_with_its_processor(family, tmp_path):
    model = save(tmp_path, family)
    expected = expected_by(model, videomae_processor())
    loaded = load_encoder(tmp_path)
    assert fingerprint(loaded) == fingerprint(model)
    again = type(model).from_pretrained(tmp_path)
    for encoder in (tmp_path, str(tmp_path), loaded, again):
        np.testing.assert_allclose(embed(encoder), expected, atol=1e-5)
    for given in (videomae_processor(), tmp_path, str(tmp_path)):
        np.testing.assert_allclose(embed(model, processor=given), expected, atol=1e-5)


@pytest.mark.fault(126)
def test_a_model_without_a_name_is_told_what_to_pass():
    model = small_model("VideoMAE")
    with pytest.raises(
        ValueError, match=r"was not loaded from a folder or by name: pass processor"
    ):
        TSEExtractor(model).fit()
    for missing in ("frame_size", "mean", "std"):
        given = {"frame_size": 32, "mean": None, "std": None}
        del given[missing]
        with pytest.raises(
            ValueError, match=r"pass processor=, .*, or all of frame_size, mean and"
        ):
            TSEExtractor(model, **given).fit()
    settings = resolve_settings(TSEExtractor(model, processor=None))
    assert (settings.spec.shorter_side, settings.mean, settings.std) == (32, None, None)
    TSEExtractor(model, frame_size=32, mean=None, std=0.5).fit()


@pytest.mark.fault(126, 128)
def test_a_folder_that_holds_another_model_by_now_is_not_used(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    save(folder)
    model = small_model("VideoMAE")
    model = type(model).from_pretrained(folder)
    embed(model)
    save(folder, edge=36)  # the same model with another processor
    assert (
        resolve_settings(TSEExtractor(model)).processor
        == geometry_of(videomae_processor(36)).description
    )
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"num_frames": 16}))
    with pytest.raises(
        ValueError, match=r"a model with other settings is now \(num_frames\): pass"
    ):
        embed(model)
    save(folder, "Timesformer")
    with pytest.raises(ValueError, match=r"with other settings is now \(model_type\): pass"):
        embed(model)
    shutil.rmtree(folder)
    with pytest.raises(ValueError, match="which is not found now: pass processor="):
        embed(model)


@pytest.mark.fault(126)
def test_a_relative_name_that_leads_elsewhere_is_not_used(tmp_path, monkeypatch):
    for name, family in (("a", "VideoMAE"), ("b", "Timesformer")):
        save(tmp_path / name / "model", family)
    monkeypatch.chdir(tmp_path / "a")
    model = type(small_model("VideoMAE")).from_pretrained("model")
    embed(model)
    monkeypatch.chdir(tmp_path / "b")
    with pytest.raises(ValueError, match="with other settings is now"):
        embed(model)


@pytest.mark.fault(126)
def test_other_labels_and_precision_do_not_make_another_model(tmp_path):
    save(tmp_path)
    model = small_model("VideoMAE")
    loaded = type(model).from_pretrained(
        tmp_path, num_labels=3, ignore_mismatched_sizes=True, dtype=torch.float64
    )
    assert embed(loaded).shape == (24 + 3,)


# --- files of processors ------------------------------------------------------------------------


def as_nested(settings):
    return "processor_config.json", {"processor_class": "A", "image_processor": settings}


def as_feature_extractor(settings):
    kind = settings.pop("image_processor_type").replace("ImageProcessor", "FeatureExtractor")
    return "preprocessor_config.json", {**settings, "feature_extractor_type": kind}


def as_fast(settings):
    kind = settings["image_processor_type"] + "Fast"
    return "preprocessor_config.json", {**settings, "image_processor_type": kind}


def without_type(settings):
    del settings["image_processor_type"]
    return "preprocessor_config.json", settings


def with_sizes_as_numbers(settings):
    return "preprocessor_config.json", {**settings, "size": 40, "crop_size": 32}


@pytest.mark.fault(127)
@pytest.mark.parametrize(
    "rewrite", [as_nested, as_feature_extractor, as_fast, without_type, with_sizes_as_numbers]
)
def test_files_of_any_age_are_read(rewrite, tmp_path):
    save(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    name, content = rewrite(json.loads(file.read_text()))
    file.unlink()
    (tmp_path / name).write_text(json.dumps(content))
    expected = geometry_of(videomae_processor())
    settings = resolve_settings(TSEExtractor(tmp_path))
    assert settings.processor == expected.description
    assert settings.mean == expected.mean


@pytest.mark.fault(127)
@pytest.mark.parametrize("name", ["video_preprocessor_config.json", "processor_config.json"])
def test_the_processor_of_videos_is_used_for_videos(name, tmp_path):
    save(tmp_path)
    content = {
        **{"video_processor_type": "VideoMAEVideoProcessor", "size": {"shortest_edge": 36}},
        **{"crop_size": {"height": 32, "width": 32}, "image_mean": [0.1, 0.2, 0.3]},
    }
    nested = {"video_processor": content} if name.startswith("processor") else content
    (tmp_path / name).write_text(json.dumps(nested))
    settings = resolve_settings(TSEExtractor(tmp_path))
    assert settings.processor["class"] == "VideoMAEVideoProcessor"
    assert settings.mean == [0.1, 0.2, 0.3]


@pytest.mark.fault(127)
def test_a_folder_without_a_processor_says_what_to_pass(tmp_path):
    save(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"no processor is stored with .*: pass processor="):
        TSEExtractor(tmp_path).fit()
    assert resolve_settings(TSEExtractor(tmp_path, processor=None)).spec.crop == 32
    TSEExtractor(tmp_path, frame_size=32, mean=0.5, std=0.5).fit()


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("[]", ValueError, "does not contain an object of JSON"),
        ("{", ValueError, "Expecting"),
        ('{"image_processor_type": "NoSuchImageProcessor"}', ValueError, "cannot be loaded"),
        ('{"image_processor_type": "DINOv3ViTImageProcessor"}', ValueError, "cannot be loaded"),
        ('{"video_processor_type": "Qwen2VLVideoProcessor"}', ValueError, "needs torchvision"),
        (
            '{"image_processor_type": "Own", "auto_map": {"AutoImageProcessor": "own.Own"}}',
            ValueError,
            "cannot be loaded",
        ),
    ],
)
def test_files_that_name_no_processor_are_refused(content, error, message, tmp_path):
    small_model("VideoMAE").save_pretrained(tmp_path)
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    (tmp_path / "preprocessor_config.json").write_text(content)
    with pytest.raises(error, match=message):
        TSEExtractor(tmp_path).fit()
    assert not (tmp_path / "executed").exists()


def test_a_processor_of_several_kinds_of_input_is_taken_apart():
    image, video = videomae_processor(), make_video_processor({}, "videomae")
    both = SimpleNamespace(image_processor=image, video_processor=video)
    assert find_processor(small_model("VideoMAE"), both) is video
    assert find_processor(tiny_model("vit"), both) is image
    assert find_processor(None, both) is image
    assert find_processor(None, image) is image


def test_a_processor_may_be_named_for_another_encoder(tmp_path):
    videomae_processor().save_pretrained(tmp_path)
    found = find_processor(None, tmp_path)
    assert geometry_of(found).description == geometry_of(videomae_processor()).description
    with pytest.raises(OSError, match="nowhere"):
        find_processor(None, os.path.join(tmp_path, "nowhere"))


# --- what a model says --------------------------------------------------------------------------


def test_a_model_says_how_many_frames_of_which_size_it_takes():
    assert input_spec(small_model("VideoMAE")) == InputSpec("BTCHW", 8, 32, 32, None, None)
    assert input_spec(tiny_model("vit")) == InputSpec("BCHW", None, 32, 32, None, None)
    assert input_spec(tiny_model("xclip"))[:3] == ("BTCHW", 4, 32)
    assert input_spec(tiny_model("clip"))[:3] == ("BCHW", None, 32)


EXACTLY = r"takes clips of 4 frames, as its config says \(num_frames\)"
MULTIPLES = r"takes a multiple of 2 frames, .*\(tubelet_size\)"


@pytest.mark.parametrize(
    ("family", "fitting", "others", "message"),
    [
        ("videomae", [4], [1, 3, 5, 8], EXACTLY),
        ("vivit", [4], [1, 3, 5, 8], EXACTLY),
        ("timesformer", [4], [1, 2, 8], EXACTLY),
        ("xclip", [4], [1, 2, 8], EXACTLY),
        ("vjepa2", [1, 2, 4, 6], [3, 5], MULTIPLES),
        ("vit", [1, 2, 7], [], ""),
        ("clip", [1, 2, 7], [], ""),
    ],
)
def test_clips_that_do_not_fit_a_model_are_refused_with_the_number_that_fits(
    family, fitting, others, message
):
    model = tiny_model(family)
    for n_frames in fitting:
        check_clip_length(model, n_frames)
        settings = {"frame_size": 32, "mean": None, "std": None, "clip_length": n_frames}
        TSEExtractor(model, **settings).transform([VIDEO])
    for n_frames in others:
        with pytest.raises(ValueError, match=rf"clip_length: \w+ {message}, got {n_frames}: leave"):
            check_clip_length(model, n_frames)


@pytest.mark.parametrize(
    "windows", [{"clip_length": 8}, {"clip_length": None, "width": 8}, {"layout": "BCHW"}]
)
@pytest.mark.parametrize("family", ["timesformer", "xclip"])
def test_models_that_would_mix_frames_without_a_word_get_no_such_clips(family, windows):
    """They divide what they get into clips of the number of frames that their config has."""
    settings = {"frame_size": 32, "mean": None, "std": None, "width": 4, **windows}
    with pytest.raises(ValueError, match=r"clip_length: \w+ takes clips of 4 frames.*at 'auto'"):
        TSEExtractor(tiny_model(family), **settings).transform([VIDEO])


def test_sizes_are_those_of_the_results_of_a_processor():
    processor = transformers.ViTImageProcessorPil(size={"height": 24, "width": 20})
    geometry = geometry_of(processor)
    spec = with_processor(input_spec(tiny_model("vit")), geometry)
    assert spec == InputSpec("BCHW", None, 24, 24, [0.5] * 3, [0.5] * 3, geometry)
    assert with_processor(None, geometry)[:2] == (None, None)
