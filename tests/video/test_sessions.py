import gc
import weakref
from functools import partial

import pytest
import torch
from torch import nn

from skdejavid.video import sessions
from skdejavid.video.sessions import evaluation, first_parameter, first_tensor, precision

X = torch.linspace(-1, 1, 12).reshape(4, 3)


def mixed():
    module = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(3)))
    module[1].eval()
    return module


@pytest.mark.fault(73)
def test_an_evaluation_never_touches_the_module():
    module = mixed()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with evaluation(module, None) as own:
        assert own is not module
        assert not any(part.training for part in own.modules())
        assert [part.training for part in module.modules()] == [True, True, False, False]
        assert not torch.is_grad_enabled()
        own(X)
    assert torch.is_grad_enabled()
    with pytest.raises(RuntimeError, match="on purpose"), evaluation(module, None):
        raise RuntimeError("on purpose")
    assert [part.training for part in module.modules()] == [True, True, False, False]
    assert all(torch.equal(module.state_dict()[name], before[name]) for name in before)


@pytest.mark.fault(124)
def test_methods_and_partials_run_with_the_copy():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.fc = nn.Dropout(0.9), nn.Linear(3, 2, dtype=torch.float64)

        def embed(self, x, factor=1):
            return self, self.drop(x) * factor

    module = Named()
    for encoder, factor in ((module.embed, 1), (partial(module.embed, factor=3), 3)):
        assert first_parameter(encoder) is first_tensor(encoder) is module.fc.weight
        with evaluation(encoder, None) as own:
            used, output = own(X)
        assert used is not module
        assert torch.equal(output, X * factor)
    assert module.drop.training


@pytest.mark.fault(124)
def test_functions_are_run_as_they_are_and_checked_before():
    net = mixed()

    def encoder(clips):
        return net(clips)

    with (
        pytest.raises(ValueError, match="the variable 'net' of 'encoder' is a module in training"),
        evaluation(encoder, None),
    ):
        pytest.fail("it began")
    net.eval()
    with evaluation(encoder, None) as own:
        assert own is encoder
        assert first_parameter(own) is first_tensor(own) is None


@pytest.mark.fault(132)
def test_what_an_encoder_stores_can_be_trained_with_later():
    cache = {}

    class Rotary(nn.Module):
        def forward(self, x):
            if "angles" not in cache:
                cache["angles"] = torch.arange(3.0)
            return x * cache["angles"]

    module = nn.Sequential(nn.Linear(3, 3), Rotary())
    with evaluation(module, None) as own:
        own(X)
    assert "angles" in cache
    module(X).sum().backward()
    assert module[0].weight.grad is not None


def test_autocast_of_the_caller_is_not_that_of_the_extraction():
    fc = nn.Linear(3, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for dtype, expected in ((None, torch.float32), ("bfloat16", torch.bfloat16)):
            with torch.no_grad(), precision(torch.device("cpu"), dtype):
                assert fc(X).dtype == expected
        assert fc(X).dtype == torch.bfloat16
    with precision(torch.device("meta"), None):
        pass


def test_the_copy_is_freed_at_the_end():
    gc.disable()
    try:
        with evaluation(mixed(), None) as own:
            copied = weakref.ref(own)
            del own
            assert copied() is not None
        assert copied() is None
    finally:
        gc.enable()


def test_a_large_copy_whose_hooks_refer_to_it_is_freed_before_the_next_one(monkeypatch):
    monkeypatch.setattr(sessions, "_MAX_ENDED", 0)
    module = mixed()
    module[1].register_forward_hook(lambda part, args, output: setattr(module, "f", output))
    gc.disable()
    try:
        with evaluation(module, None) as own:
            first = weakref.ref(own)
            del own
        assert first() is not None
        with evaluation(module, None):
            assert first() is None
    finally:
        gc.enable()
