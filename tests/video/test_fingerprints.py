import copy
import sys
import threading
from functools import partial

import numpy as np
import pytest
import torch
from pretrained_models import small_model

from skdejavid import TSEExtractor
from skdejavid.video.fingerprints import fingerprint, needs_id


def fixed(dtype):
    """Return layers with the same numbers in every process."""
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4, 2)
    )
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.arange(parameter.numel()).reshape(parameter.shape))
    return module.to(dtype)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float32, "Sequential-6c3d02003bd3d80f"),
        (torch.float64, "Sequential-744d07a9408a3df3"),
        (torch.float16, "Sequential-ad97f95707969144"),
        (torch.bfloat16, "Sequential-343aebcfaeab8259"),
    ],
)
def test_fingerprints_of_layers_are_those_of_existing_stores(dtype, expected):
    """Otherwise the videos of these stores would have to be encoded again."""
    assert fingerprint(fixed(dtype)) == expected


class Net(torch.nn.Module):
    def __init__(self, encoding="mean"):
        super().__init__()
        self.encoding = encoding
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, clips):
        return getattr(clips, self.encoding)(dim=(2, 3, 4)) * self.scale

    def encode(self, clips):
        return self(clips) * 2


def test_fingerprints_begin_with_the_name_of_the_class():
    assert fingerprint(Net()).startswith("Net-")
    assert fingerprint(torch.nn.ReLU()).startswith("ReLU-")
    assert fingerprint(Net().encode).startswith("Net.encode-")
    assert len(fingerprint(Net())) == len("Net-") + 16


def test_methods_of_modules_count_with_their_module():
    encoders = [Net(), Net().encode, Net().forward, Net("sum").encode]
    assert len({fingerprint(encoder) for encoder in encoders}) == 4
    module = Net()
    before = fingerprint(module.encode)
    assert fingerprint(copy.deepcopy(module).encode) == before
    with torch.no_grad():
        module.scale += 1
    assert fingerprint(module.encode) != before


VIDEOS = [np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)]
OPTIONS = {"width": 4, "stride": 4, "clip_length": 4, "frame_size": None}


def rows(encoder, **options):
    return TSEExtractor(encoder, **OPTIONS, **options).transform(VIDEOS)[0]


class Pool(torch.nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, clips):
        return clips.mean(dim=(2, 3, 4)) if self.how == "mean" else clips.amax(dim=(2, 3, 4))


class Scale(torch.nn.Module):
    def __init__(self, factor, kind):
        super().__init__()
        if kind == "buffer":
            self.register_buffer("factor", torch.tensor(factor), persistent=False)
        else:
            self.factor = torch.tensor(factor)

    def forward(self, clips):
        return clips.mean(dim=(2, 3, 4)) * self.factor


class Hidden(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.models = [Scale(factor, "buffer")]

    def forward(self, clips):
        return self.models[0](clips)


def replaced_forward(factor):
    module = Pool("mean")
    module.forward = lambda clips: clips.mean(dim=(2, 3, 4)) * factor
    return module


def edited(factor):
    variables = {}
    exec(
        "import torch\nclass Edited(torch.nn.Module):\n"
        f"    def forward(self, clips): return clips.mean(dim=(2, 3, 4)) * {factor}",
        variables,
    )
    return variables["Edited"]()


SIX_KINDS = {
    "attribute": (Pool("mean"), Pool("max")),
    "tensor": (Scale(1.0, "tensor"), Scale(2.0, "tensor")),
    "buffer": (Scale(1.0, "buffer"), Scale(2.0, "buffer")),
    "modules in a list": (Hidden(1.0), Hidden(2.0)),
    "replaced forward": (replaced_forward(1), replaced_forward(2)),
    "edited forward": (edited(1), edited(2)),
}


@pytest.mark.fault(125)
@pytest.mark.parametrize("kind", SIX_KINDS)
def test_a_store_does_not_return_the_rows_of_another_encoder(kind, tmp_path):
    one, other = SIX_KINDS[kind]
    of_one = rows(one, store=tmp_path / "store")
    assert not np.array_equal(rows(other), of_one)
    with pytest.raises(ValueError, match=r"encoder is a .* Choose another folder"):
        rows(other, store=tmp_path / "store")
    np.testing.assert_array_equal(rows(copy.deepcopy(one), store=tmp_path / "store"), of_one)


@pytest.mark.fault(125)
@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("kind", ["scripted", "traced", "frozen"])
def test_torchscript_needs_an_id(kind):
    with torch.no_grad():
        script = torch.jit.trace if kind == "traced" else torch.jit.script
        arguments = [torch.ones(1, 3, 4, 4, 4)] if kind == "traced" else []
        module = script(torch.nn.Flatten().eval(), *arguments)
    module = torch.jit.freeze(module) if kind == "frozen" else module
    assert needs_id(module)
    with pytest.raises(ValueError, match=r"cannot fingerprint the encoder \(a .*\): pass encoder_"):
        fingerprint(module)
    assert fingerprint(module, "mine") == "mine"


@pytest.mark.fault(125)
def test_what_cannot_be_known_is_named_and_an_id_is_asked_for(tmp_path):
    module = torch.nn.Sequential(Net(), Net())
    module[1].cache = {"lock": threading.Lock()}
    message = (
        r"^cannot fingerprint the encoder: encoder\[1\]\.cache\['lock'\] is a lock, whose state "
        "cannot be compared: pass encoder_id, a string unique to each encoder$"
    )
    with pytest.raises(ValueError, match=message):
        TSEExtractor(module, store=tmp_path / "store", **OPTIONS).transform(VIDEOS)
    assert not (tmp_path / "store").exists()
    assert TSEExtractor(module, encoder_id="mine").encoder_fingerprint() == "mine"


def test_fingerprints_of_modules_follow_structure_and_parameters():
    module = torch.nn.Sequential(torch.nn.Linear(30, 30), torch.nn.ReLU())
    found = {fingerprint(module)}
    module[1] = torch.nn.GELU()  # no parameter changes
    found.add(fingerprint(module))
    module[0].weight.data.mul_(2)  # the version counter does not change
    found.add(fingerprint(module))
    module[0].weight.detach().numpy()[7, 3] += 1  # torch does not know of it
    found.add(fingerprint(module))
    assert len(found) == 4
    assert fingerprint(module) in found
    assert fingerprint(copy.deepcopy(module)) == fingerprint(module)


def test_changes_without_a_version_counter_are_seen():
    with torch.inference_mode():
        module = torch.nn.Linear(300, 3).requires_grad_(False)
        before = fingerprint(module)
        module.weight[1, 7] += 1
    assert fingerprint(module) != before


def test_a_fingerprint_of_a_library_does_not_depend_on_the_version_of_python(monkeypatch):
    from skdejavid.video import code_parts

    model, own = small_model("VideoMAE"), Net()
    before = [fingerprint(model), fingerprint(own)]
    monkeypatch.setattr(code_parts, "_PYTHON", "3.99")
    assert fingerprint(model) == before[0]
    assert fingerprint(own) != before[1]


def test_the_version_of_a_library_counts(monkeypatch):
    from skdejavid.video import libraries

    model, layers = small_model("VideoMAE"), fixed(torch.float32)
    before = [fingerprint(model), fingerprint(layers)]
    libraries._library_of_path.cache_clear()
    monkeypatch.setattr(libraries, "_distribution", lambda folder, package: f"{package} 99.0")
    after = [fingerprint(model), fingerprint(layers)]
    libraries._library_of_path.cache_clear()
    assert after[0] != before[0]
    assert after[1] == before[1]


@pytest.mark.slow
def test_threads_get_the_fingerprints_of_their_own_modules():
    modules = [Net(encoding) for encoding in ("mean", "sum", "amax", "amin")]
    expected = [fingerprint(module) for module in modules]
    found = [[] for _ in modules]

    def work(i):
        for _ in range(20):
            found[i].append(fingerprint(modules[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(modules))]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert found == [[one] * 20 for one in expected]


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
    "method": Colors().__call__,
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
    assert fingerprint(Net(), "mine") == "mine"


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


class _Scaled(torch.nn.Module):
    def set_scale(self, scale):
        self.scale = scale
        return self


class _Matched(_Scaled):
    def forward(self, x):
        match self:
            case _Matched(scale=2.0):
                return 2 * x
        return x


class _Formatted(_Scaled):
    def forward(self, x):
        return x * float("{0.scale}".format(self))  # noqa: UP030, UP032


class _Stated(_Scaled):
    def forward(self, x):
        return x * self.__getstate__()["scale"]


@pytest.mark.fault(125)
@pytest.mark.parametrize("kind", [_Matched, _Formatted, _Stated])
def test_attributes_that_are_read_in_other_ways_count(kind):
    two, same, three = (fingerprint(kind().set_scale(scale)) for scale in (2.0, 2.0, 3.0))
    assert two == same != three
