import copy
import pickle
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch

from skdejavid import TSEExtractor
from skdejavid.video.fingerprints import fingerprint


class Fixed(torch.nn.Module):
    """A module with parameters, a buffer and extra state, the same in every process."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4, 2)
        )
        self.register_buffer("steps", torch.zeros(5, dtype=torch.int64))
        with torch.no_grad():
            for tensor in (*self.parameters(), *self.buffers()):
                tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape))

    def get_extra_state(self):
        return {"version": 1}

    def set_extra_state(self, state):
        pass


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float32, "Fixed-6ffb1108057c170c"),
        (torch.float64, "Fixed-9e2e80624f6505a8"),
        (torch.float16, "Fixed-d2a1eb02e4317287"),
        (torch.bfloat16, "Fixed-6ee132f446a7c077"),
    ],
)
def test_fingerprints_of_modules_are_those_of_existing_stores(dtype, expected):
    """Otherwise the videos of these stores would have to be encoded again."""
    assert fingerprint(Fixed().to(dtype)) == expected


def test_fingerprints_of_modules_follow_structure_and_parameters():
    torch.manual_seed(0)
    module = Fixed()
    found = fingerprint(module)
    assert fingerprint(module) == fingerprint(copy.deepcopy(module)) == found
    assert fingerprint(pickle.loads(pickle.dumps(module))) == found
    assert fingerprint(module.eval()) == found
    with torch.no_grad():
        module.layers[3].bias[0] += 1
    changed = fingerprint(module)
    others = [fingerprint(Fixed().to(dtype)) for dtype in (torch.float16, torch.bfloat16)]
    assert len({found, changed, *others}) == 4
    assert fingerprint(torch.nn.ReLU()) != fingerprint(torch.nn.GELU())


def test_fingerprints_see_every_change():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(30, 30), torch.nn.ReLU())
    found = {fingerprint(module)}
    module[1] = torch.nn.GELU()  # no parameter changes
    found.add(fingerprint(module))
    assert len(found) == 2
    module[0].weight.data.mul_(2)  # the version counter does not change
    found.add(fingerprint(module))
    assert len(found) == 3
    assert fingerprint(module) == fingerprint(copy.deepcopy(module))


def test_changes_without_a_version_counter_are_seen():
    with torch.inference_mode():
        module = torch.nn.Linear(300, 3).requires_grad_(False)
        before = fingerprint(module)
        module.weight[1, 7] += 1  # not one of the values that are compared with the cache
    assert fingerprint(module) != before


@pytest.mark.slow
def test_fingerprints_are_the_same_in_every_process(tmp_path):
    code = (
        "import torch; torch.manual_seed(0)\n"
        "from skdejavid.video.fingerprints import fingerprint\n"
        "print(fingerprint(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Softplus())))"
    )
    found = {
        subprocess.check_output([sys.executable, "-c", code], text=True, cwd=tmp_path)
        for _ in range(2)
    }
    torch.manual_seed(0)
    here = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Softplus())
    assert found == {fingerprint(here) + "\n"}


def mean_color(clips):
    return clips.mean(dim=(2, 3, 4))


class Colors:
    def __call__(self, clips):
        return mean_color(clips)


def closure():
    factor = 2

    def encoder(clips):
        return factor * mean_color(clips)

    return encoder


NOT_MODULES = {
    "lambda": lambda clips: mean_color(clips),
    "function": mean_color,
    "closure": closure(),
    "partial": partial(torch.mean, dim=(2, 3, 4)),
    "builtin_function_or_method": torch.mean,
    "method": torch.nn.Flatten().forward,
    "Colors": Colors(),
}


@pytest.mark.parametrize("kind", NOT_MODULES)
def test_what_is_not_a_module_needs_an_id(kind):
    encoder = NOT_MODULES[kind]
    kind = "function" if kind == "closure" else kind
    message = rf"cannot fingerprint the encoder \(a {kind}\): pass encoder_id, a string unique to"
    with pytest.raises(ValueError, match=message):
        fingerprint(encoder)
    with pytest.raises(ValueError, match=message):
        TSEExtractor(encoder).encoder_fingerprint()
    assert fingerprint(encoder, "mine") == "mine"
    assert TSEExtractor(encoder, encoder_id="mine").encoder_fingerprint() == "mine"


def test_an_id_replaces_the_fingerprint_of_a_module():
    assert fingerprint(Fixed(), "mine") == "mine"


@pytest.mark.parametrize("kind", ["lambda", "function", "closure", "partial", "Colors"])
def test_only_a_store_needs_an_id(kind, rng, tmp_path):
    encoder = NOT_MODULES[kind]
    videos = [rng.integers(0, 256, size=(n, 8, 8, 3), dtype=np.uint8) for n in (5, 9)]
    extractor = TSEExtractor(encoder, frame_size=None, clip_length=2)
    expected = extractor.fit_transform(videos)
    extractor.set_params(store=tmp_path / "store")
    for encode in (extractor.transform, extractor.extract):
        with pytest.raises(ValueError, match="pass encoder_id, a string unique to each encoder"):
            encode(videos)
    assert not (tmp_path / "store").exists()
    extractor.set_params(encoder_id="colors")
    np.testing.assert_array_equal(extractor.transform(videos).frames, expected.frames)
    assert extractor.extract(videos).fingerprint["encoder"] == "colors"
    with pytest.raises(ValueError, match="encoder"):
        extractor.set_params(encoder_id="other colors").transform(videos)
