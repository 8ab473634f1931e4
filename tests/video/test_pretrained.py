import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from families import tiny_model
from pretrained_models import small_model
from safetensors.torch import load_file, save_file

from skdejavid import TSEExtractor
from skdejavid.video.pretrained import (
    check_takes_pictures,
    is_pretrained,
    load_encoder,
    origin_of,
    run_pretrained,
)

VIDEO = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)


def save(folder, family="VideoMAE"):
    model = small_model(family)
    model.save_pretrained(folder)
    transformers.VideoMAEImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)
    return model


def change_weights(folder, change):
    """Let a function change the parameters of a saved model."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def embed(encoder, **parameters):
    return TSEExtractor(encoder, width=8, stride=8, **parameters).transform([VIDEO])[0][0]


def test_other_encoders_say_nothing_of_their_input():
    encoder = torch.nn.Linear(2, 3)
    assert not is_pretrained(encoder)
    assert not is_pretrained(torch.mean)
    assert load_encoder(encoder) is encoder


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        load_encoder(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["weights.pt", "model.safetensors", "config.json"])
def test_a_file_of_weights_is_no_model(name, tmp_path):
    path = tmp_path / name
    path.touch()
    with pytest.raises(ValueError, match=f"{name} is a file, .* pass a torch module that has"):
        TSEExtractor(str(path)).transform([VIDEO])


# --- the model that was loaded last -------------------------------------------------------------


@pytest.mark.fault(128)
def test_a_folder_that_was_saved_again_is_loaded_again(tmp_path):
    for number in range(2):
        model = save(tmp_path)
        torch.manual_seed(number)
        for parameter in model.parameters():
            parameter.data.normal_()
        model.save_pretrained(tmp_path)
        loaded = load_encoder(tmp_path)
        assert load_encoder(str(tmp_path)) is loaded
        expected = embed(model, frame_size=32, mean=0.5, std=0.5)
        np.testing.assert_allclose(embed(tmp_path), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.fault(128)
def test_a_processor_that_was_saved_again_is_used(tmp_path):
    model = save(tmp_path)
    before = embed(tmp_path)
    transformers.VideoMAEImageProcessor(
        size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(tmp_path)
    expected = embed(model, frame_size=(40, 32), mean=0.5, std=0.5)
    assert abs(embed(tmp_path) - expected).max() < abs(before - expected).max() / 5


@pytest.mark.fault(128)
def test_a_relative_name_is_that_of_the_current_folder(tmp_path, monkeypatch):
    seen = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        save(Path("model"), {"a": "VideoMAE", "b": "Timesformer"}[name])
        seen.append(type(load_encoder("model")).__name__)
    assert seen == ["VideoMAEForVideoClassification", "TimesformerForVideoClassification"]


@pytest.mark.fault(128)
def test_threads_load_a_model_once(tmp_path):
    save(tmp_path)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(load_encoder(tmp_path))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(model) for model in found}) == 1
    assert len(found) == 4


IN_A_REPOSITORY = """
import json, shutil, sys
from pathlib import Path
import numpy as np, transformers
from skdejavid import TSEExtractor
from skdejavid.video.pretrained import load_encoder, origin_of

name = "someone/some-model"
video = np.random.default_rng(0).integers(0, 256, (8, 48, 32, 3), dtype=np.uint8)

def embed(encoder):
    return TSEExtractor(encoder, width=8, stride=8).transform([video])[0][0].tolist()

from transformers.utils import hub
ask, asked = hub.cached_file, []

def count(*names, **options):
    asked.extend(names[1:] if options.keys() <= {"local_files_only"} else [])
    return ask(*names, **options)

hub.cached_file = count
by_name = embed(name)
embed(name)
assert load_encoder(name) is load_encoder(name)
commit = origin_of(load_encoder(name)).revision
model = transformers.VideoMAEForVideoClassification.from_pretrained(name)
as_object = embed(model)
Path(name).mkdir(parents=True)
try:
    embed(model)
except ValueError as error:
    refused = str(error)
print(json.dumps([by_name, as_object, commit, refused, asked]))
"""


@pytest.mark.slow
@pytest.mark.fault(126, 128)
def test_a_model_of_a_repository_is_found_in_its_cache(tmp_path):
    commit = "0123456789" * 4
    repository = tmp_path / "hub" / "models--someone--some-model"
    folder = repository / "snapshots" / commit
    save(folder)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    (tmp_path / "work").mkdir()
    done = subprocess.run(
        [sys.executable, "-P", "-c", IN_A_REPOSITORY],
        cwd=tmp_path / "work",
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    by_name, as_object, found, refused, asked = json.loads(done.stdout)
    assert asked == ["config.json"]  # once: a hub takes its time, and may have another commit then
    assert by_name == as_object
    assert found == commit
    assert "where a model with other settings is now (model_type): pass processor=" in refused


class Hub:
    """A session of huggingface_hub that answers, or does not."""

    def __init__(self, answers):
        self.answers = answers

    def head(self, url, **options):
        if not self.answers:
            raise ConnectionError("no route")


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (False, "Hugging Face cannot be reached, and the model is not in its cache"),
        (True, "Hugging Face has no such model, or does not give it to you"),
    ],
)
def test_a_mistyped_name_is_no_folder_either_and_a_hub_out_of_reach_is_asked_once(
    answers, reason, tmp_path, monkeypatch
):
    """Its library tries six times, in half a minute."""
    import huggingface_hub
    from transformers.utils import hub

    asked = []

    def find(name, file, **options):
        asked.append(options)
        raise OSError("not there")

    monkeypatch.setattr(huggingface_hub, "get_session", lambda: Hub(answers))
    monkeypatch.setattr(hub, "cached_file", find)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="not there") as caught:
        load_encoder("videomea")
    message = str(caught.value)
    assert message.startswith(f"encoder: there is no folder {tmp_path / 'videomea'}, and {reason}")
    assert asked == [{} if answers else {"local_files_only": True}]


# --- checkpoints --------------------------------------------------------------------------------


@pytest.mark.fault(98)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("videomae.encoder.layer.0.output.dense.bias"), "lacks 1 parameter"),
        (lambda w: w.pop("classifier.weight"), r"lacks 1 parameter.*classifier.weight"),
        (
            lambda w: w.update({"videomae.encoder.layer.0.output.gate": torch.ones(3)}),
            r"where the model has none, 1 parameter.*gate",
        ),
        (
            lambda w: w.update({"classifier.weight": torch.ones(2, 24)}),
            r"cannot be loaded|other shapes",
        ),
    ],
    ids=["missing", "without head", "unused", "other shape"],
)
def test_a_checkpoint_that_is_not_that_of_the_model_is_refused(change, message, tmp_path):
    save(tmp_path)
    load_encoder(tmp_path)
    change_weights(tmp_path, change)
    with pytest.raises(ValueError, match=message):
        load_encoder(tmp_path)


def test_what_only_pretraining_needs_is_left_out(tmp_path):
    config = small_model("VideoMAE").config
    torch.manual_seed(0)
    config.decoder_hidden_size, config.decoder_num_hidden_layers = 16, 1
    config.decoder_num_attention_heads, config.decoder_intermediate_size = 2, 16
    pretraining = transformers.VideoMAEForPreTraining(config).eval()
    pretraining.save_pretrained(tmp_path)
    loaded = load_encoder(tmp_path)
    assert type(loaded).__name__ == "VideoMAEModel"
    batch = torch.rand(1, 8, 3, 32, 32)
    with torch.no_grad():
        expected = pretraining.videomae(batch).last_hidden_state
        torch.testing.assert_close(loaded(batch).last_hidden_state, expected)


@pytest.mark.fault(98)
@pytest.mark.parametrize("family", ["vit", "deit"])
def test_a_pooler_that_is_not_in_the_checkpoint_is_left_out(family, tmp_path):
    """It would be random, and another one each time."""
    model = tiny_model(family)
    model.save_pretrained(tmp_path)
    loaded = load_encoder(tmp_path)
    pixels = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(pixels).pooler_output, model(pixels).pooler_output)
        change_weights(tmp_path, lambda w: [w.pop(name) for name in list(w) if "pooler" in name])
        without = load_encoder(tmp_path)(pixels)
        assert without.pooler_output is None
        torch.testing.assert_close(without.last_hidden_state, model(pixels).last_hidden_state)


def test_a_checkpoint_in_torchs_format_is_loaded(tmp_path):
    model = save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    loaded = load_encoder(tmp_path)
    assert not loaded.training
    for mine, other in zip(loaded.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_code_of_a_model_is_not_executed(tmp_path):
    (tmp_path / "modeling.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    settings = {
        "model_type": "of-its-own",
        "auto_map": {"AutoConfig": "modeling.Config", "AutoModel": "modeling.Model"},
    }
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"of-its-own|custom code"):
        load_encoder(tmp_path)
    assert not (tmp_path / "executed").exists()


# --- what is used of a model --------------------------------------------------------------------


@pytest.mark.fault(99)
def test_the_predictor_of_vjepa_is_left_out():
    model = tiny_model("vjepa2")
    batch, runs = torch.rand(2, 4, 3, 32, 32), []
    model.predictor.register_forward_hook(lambda *arguments: runs.append(arguments))
    with torch.no_grad():
        expected = model(pixel_values_videos=batch).last_hidden_state
        assert len(runs) == 1
        found = run_pretrained(model, batch).last_hidden_state
    assert len(runs) == 1
    torch.testing.assert_close(found, expected)


@pytest.mark.fault(134)
@pytest.mark.parametrize(
    ("family", "function"),
    [
        ("clip", "get_image_features"),
        ("siglip", "get_image_features"),
        ("altclip", "get_image_features"),
        ("flava", "get_image_features"),
        ("groupvit", "get_image_features"),
        ("xclip", "get_video_features"),
    ],
)
def test_features_of_pictures_are_used_of_models_of_text_and_pictures(family, function, tmp_path):
    model = tiny_model(family)
    model.save_pretrained(tmp_path)
    frames = (VIDEO[:4],) if family == "xclip" else VIDEO[:4]
    pixels = torch.from_numpy(np.stack(frames)).float().div(255).movedim(-1, -3)
    with torch.no_grad():
        features = getattr(model, function)(pixels)["pooler_output"]
    expected = (features[:, 0] if features.ndim == 3 else features).mean(dim=0)
    settings = {"frame_size": 32, "mean": None, "std": None, "width": 4, "stride": 4}
    for encoder in (model, tmp_path):
        extractor = TSEExtractor(encoder, clip_length=4, **settings)
        found = extractor.transform([VIDEO[:4]])[0][0]
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.fault(134)
@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("Bert", {"num_hidden_layers": 1}, "BertModel takes 'input_ids', not pictures"),
        (
            "Wav2Vec2",
            {"num_hidden_layers": 1, "num_conv_pos_embedding_groups": 2},
            "Wav2Vec2Model takes 'input_values', not pictures",
        ),
        ("ViTMAE", {"num_hidden_layers": 1}, "ViTMAEModel hides random parts"),
    ],
)
def test_models_without_an_embedding_of_pictures_are_refused(kind, settings, message, tmp_path):
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=24, num_attention_heads=2, **settings
    )
    model = getattr(transformers, f"{kind}Model")(config)
    config.architectures = [f"{kind}Model"]
    config.save_pretrained(tmp_path)  # its parameters are not needed for the answer
    for encoder in (model, tmp_path):
        with pytest.raises(ValueError, match=message):
            TSEExtractor(encoder).fit()


def test_models_that_find_objects_are_refused():
    with pytest.raises(ValueError, match="DetrModel finds objects"):
        check_takes_pictures(transformers.DetrModel)
    with pytest.raises(ValueError, match="SegGptModel also needs prompt_pixel_values"):
        check_takes_pictures(transformers.SegGptModel)


def test_the_origin_of_a_model_is_the_folder_it_was_loaded_from(tmp_path):
    model = save(tmp_path)
    assert origin_of(small_model("VideoMAE")) == ("", None)
    assert origin_of(type(model).from_pretrained(tmp_path)) == (str(tmp_path), None)
    assert origin_of(load_encoder(tmp_path)) == (str(tmp_path), None)
