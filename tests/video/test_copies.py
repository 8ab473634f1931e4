import copy
import gc
import sys
import threading
import warnings
import weakref
from functools import partial

import pytest
import torch
from torch import nn

from skdejavid.video.copies import module_of, private_copy
from skdejavid.video.references import attributes_of


def dropping():
    """Return a module whose output is random in training mode."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.5))


class Odd(nn.Module):
    """A module with all kinds of attributes."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 5)
        self.tied = self.fc.weight
        self.scale = torch.full((5,), 2.0)
        self.result = self.fc.bias * 3  # not a leaf
        self.parts = [dropping(), {"inner": nn.Dropout(0.9)}]
        self.lock, self.file = threading.RLock(), sys.__stderr__
        self.seen = []
        self.forward = partial(Odd.compute, self)

    def compute(self, x):
        with self.lock:
            self.seen.append(len(x))
        return self.parts[1]["inner"](self.parts[0](x) * self.scale + self.result + self.fc(x))


def weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(6, 5)), nn.Dropout(0.5))


def graph():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        exported = torch.export.export(dropping().eval(), (torch.zeros(3, 6),)).module()
        exported(torch.zeros(3, 6))
    return exported


def scripted(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(module)


def frozen():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.freeze(torch.jit.script(dropping().eval()))


def compiled():
    return torch.compile(dropping(), backend="eager")


KINDS = {
    "plain": dropping,
    "odd": Odd,
    "old weight norm": weight_norm,
    "parametrized": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)),
    "scripted": lambda: scripted(dropping()),
    "frozen": frozen,
    "exported": graph,
    "torch.fx": lambda: torch.fx.symbolic_trace(dropping()),
    "compiled": compiled,
    "data parallel": lambda: nn.DataParallel(dropping()),
}


def describe(module):
    """Return all that must be as found: modes, tensors, hooks and attributes."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return (
        [getattr(part, "training", None) for part in module.modules()],
        [sorted(map(str, vars(part))) for part in module.modules()],
        [(name, id(t), t.data_ptr(), t.requires_grad, t.grad) for name, t in tensors],
        [t.detach().clone().tolist() for _, t in tensors],
        [len(part._forward_hooks) for part in module.modules()],
    )


@pytest.mark.slow
@pytest.mark.fault(124, 129)
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch, which copies exported programs
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_gives_the_outputs_of_evaluation_and_the_original_stays_as_found(kind):
    module = KINDS[kind]()
    x = torch.linspace(-1, 1, 18).reshape(3, 6)
    if not isinstance(module, torch.jit.ScriptModule):  # they have no hooks
        module.register_forward_hook(lambda part, args, output: output + 1)
    before = describe(module)
    copied = private_copy(module, None)
    with torch.no_grad():
        outputs = [copied(x) for _ in range(3)]
    assert describe(module) == before
    assert all(torch.equal(output, outputs[0]) for output in outputs)
    for part in module.modules():
        if hasattr(part, "training"):
            part.training = False
    if kind == "odd":
        module.parts[0].eval(), module.parts[1]["inner"].eval()
    with torch.no_grad():
        assert torch.equal(outputs[0], module(x))
    own = {tensor.data_ptr() for tensor in (*module.parameters(), *module.buffers())} - {0}
    assert not own & {tensor.data_ptr() for tensor in (*copied.parameters(), *copied.buffers())}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "odd"])
def test_a_copy_is_described_like_the_original(kind):
    module = KINDS[kind]()
    copied = private_copy(module, None)
    assert repr(copied) == repr(module)
    state, other = module.state_dict(), copied.state_dict()
    assert list(state) == list(other)
    assert all(torch.equal(state[name], other[name]) for name in state)


def test_everything_of_a_module_is_copied_but_locks_and_files():
    module = Odd().requires_grad_(False)
    module.fc.weight.note = "kept"
    copied = private_copy(module, None)
    assert copied.tied is copied.fc.weight is not module.fc.weight
    assert copied.fc.weight.note == "kept"
    assert type(copied.fc.weight) is nn.Parameter
    assert not copied.fc.weight.requires_grad
    for tensor, other in ((copied.scale, module.scale), (copied.result, module.result)):
        assert torch.equal(tensor, other)
        assert tensor.data_ptr() != other.data_ptr()
    assert copied.parts[0] is not module.parts[0]
    assert not copied.parts[1]["inner"].training
    assert module.parts[1]["inner"].training
    assert copied.lock is module.lock
    assert copied.file is module.file
    assert copied.forward.args == (copied,)
    copied(torch.zeros(3, 6))
    assert (copied.seen, module.seen) == ([3], [])


def test_attributes_in_slots_are_copied():
    class Slotted:
        __slots__ = ("inner", "unset")

    module = dropping()
    module.slotted = Slotted()
    module.slotted.inner = module[0].weight * 2
    copied = private_copy(module, None)
    assert torch.equal(copied.slotted.inner, module.slotted.inner)
    assert not hasattr(copied.slotted, "unset")
    assert list(attributes_of(module.slotted)) == ["inner"]


def test_no_gradient_is_copied():
    module = dropping()
    module(torch.zeros(3, 6)).sum().backward()
    copied = private_copy(module, None)
    assert all(parameter.grad is None for parameter in copied.parameters())
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_copies_of_tensors_of_inference_mode_are_ordinary_ones():
    with torch.inference_mode():
        module = dropping()
        copied = private_copy(module, None)
    assert module[0].weight.is_inference()
    assert not any(t.is_inference() for t in (*copied.parameters(), *copied.buffers()))


def test_parameters_and_buffers_are_copied_to_the_device_and_others_stay():
    module = Odd()
    copied = private_copy(module, torch.device("meta"))
    moved = [*copied.parameters(), *copied.parts[0].parameters(), *copied.parts[0].buffers()]
    assert {tensor.device.type for tensor in moved} == {"meta"}
    assert copied.tied is copied.fc.weight
    assert copied.scale.device.type == "cpu"
    recurrent = private_copy(nn.LSTM(3, 4), torch.device("meta"))
    assert {id(t) for t in recurrent._flat_weights} == {id(t) for t in recurrent.parameters()}


class Recorder:
    """An object of the user, whose method is a hook."""

    def __init__(self):
        self.outputs = []

    def keep(self, module, args, output):
        self.outputs.append(output)


def test_objects_that_only_hooks_refer_to_are_the_users_own():
    module, recorder, stored = nn.Sequential(nn.Linear(2, 2)), Recorder(), {}
    module.register_forward_hook(recorder.keep)
    module[0].register_forward_hook(partial(lambda store, *args: store.update(x=args), stored))
    private_copy(module, None)(torch.zeros(1, 2))
    assert len(recorder.outputs) == len(stored) == 1
    recorder.outputs.clear()
    module.recorder = recorder  # now it belongs to the module
    copied = private_copy(module, None)
    copied(torch.zeros(1, 2))
    assert (len(recorder.outputs), len(copied.recorder.outputs)) == (0, 1)


def test_a_hook_that_is_a_method_of_the_module_runs_with_the_copy():
    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.calls = nn.Linear(2, 2), 0
            self.inner.register_forward_hook(self.count)
            self.inner.register_forward_hook(partial(Watching.count, self))

        def count(self, *args):
            self.calls += 1

        def forward(self, x):
            return self.inner(x)

    module = Watching()
    copied = private_copy(module, None)
    copied(torch.zeros(1, 2))
    assert (module.calls, copied.calls) == (0, 2)


def test_a_module_that_cannot_be_copied_is_named_with_the_remedy():
    module = nn.Sequential(nn.Linear(2, 2))
    module[0].numbers = (i for i in range(3))
    message = r"its attribute '0.numbers' raises TypeError\(cannot pickle 'generator' object\)"
    with pytest.raises(ValueError, match=rf"{message}.*encoder.eval\(\) and pass a function"):
        private_copy(module, None)

    class Refusing(nn.Linear):
        def __deepcopy__(self, memo):
            raise RuntimeError("on purpose")

    with pytest.raises(ValueError, match=r"it raises RuntimeError\(on purpose\)"):
        private_copy(Refusing(2, 2), None)


def test_a_module_that_returns_itself_as_its_copy_keeps_its_mode():
    class Single(nn.Dropout):
        def __deepcopy__(self, memo):
            return self

    module = nn.Sequential(Single())
    copied = private_copy(module, None)
    assert copied[0] is module[0]
    assert module[0].training
    assert not copied.training


def test_a_lazy_module_must_be_called_before():
    module = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(ValueError, match=r"'0.weight' is not initialized, .* lazy module: call it"):
        private_copy(module, None)
    module(torch.zeros(2, 4))
    assert private_copy(module, None)[0].weight.shape == (3, 4)


class Replaced(nn.Linear):
    """A module that another thread changes while it is copied, for the first `n` times."""

    def __init__(self, n, change):
        super().__init__(2, 2)
        self.n, self.change = n, change

    def __deepcopy__(self, memo):
        if self.n:
            self.n -= 1
            self.change(self)
        copied = nn.Linear(2, 2)
        vars(copied).update({name: copy.deepcopy(v, memo) for name, v in vars(self).items()})
        return copied


def resize(module):
    raise RuntimeError("dictionary changed size during iteration")


def replace(module):
    module.extra = module.weight * 2  # not a leaf, and not there when the tensors were found


@pytest.mark.parametrize("change", [resize, replace])
def test_a_module_that_changes_meanwhile_is_copied_again(change):
    module = nn.Sequential(Replaced(3, change))
    copied = private_copy(module, None)
    assert torch.equal(copied[0].weight, module[0].weight)


def test_a_copy_contains_the_weights_of_one_moment(monkeypatch):
    from skdejavid.video import copies

    module, copy_tensor, changes = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), None, [3]
    copy_tensor = copies._copy_tensor

    def train_meanwhile(tensor, device):
        copied = copy_tensor(tensor, device)
        if changes[0]:
            changes[0] -= 1
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.add_(1)
        return copied

    monkeypatch.setattr(copies, "_copy_tensor", train_meanwhile)
    copied = private_copy(module, None)
    assert changes == [0]
    for parameter, other in zip(copied.parameters(), module.parameters(), strict=True):
        assert torch.equal(parameter, other)
    changes[0] = 10**9
    monkeypatch.setattr(copies, "_PATIENCE", 0.05)
    with pytest.raises(RuntimeError, match="let the thread that trains it wait until"):
        private_copy(module, None)


def test_a_copy_is_freed_without_the_garbage_collector():
    module = nn.Sequential(dropping(), dropping())
    gc.disable()
    try:
        copied = weakref.ref(private_copy(module, None))
        assert copied() is None
    finally:
        gc.enable()


def test_methods_and_partials_belong_to_a_module():
    first, second = Odd(), Odd()
    method = partial(first.compute, x=torch.ones(2, 6))
    assert module_of(first) is module_of(first.compute) is module_of(method) is first
    assert module_of(partial(first)) is first
    assert module_of(torch.mean) is module_of(partial(torch.mean, first)) is None
