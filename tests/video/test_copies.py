import copy
import gc
import json
import sys
import threading
import warnings
import weakref
from argparse import Namespace
from functools import lru_cache, partial, wraps
from types import MethodType

import pytest
import torch
from pretrained_models import small_model
from torch import nn

from skdejavid.video.copies import module_of, private_copy, uses_shared_state
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
    class Single(nn.Linear):
        def __deepcopy__(self, memo):
            return self

    module = nn.Sequential(Single(2, 2))
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
    first = Odd()
    method = partial(first.compute, x=torch.ones(2, 6))
    assert module_of(first) is module_of(first.compute) is module_of(method) is first
    assert module_of(partial(first)) is first
    assert module_of(torch.mean) is module_of(partial(torch.mean, first)) is None
    other = private_copy(partial(method, factor=2), None)
    assert module_of(other) not in (None, first)
    assert other.keywords["factor"] == 2
    assert torch.equal(other.keywords["x"], torch.ones(2, 6))


class Body(nn.Module):
    """A module whose submodules contribute what they are called with to its output."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(6, 5), nn.ReLU())
        self.seen, self.by_name, self.f = [], {}, None

    def forward(self, x):
        self.seen.clear()
        y = self.net(x)
        parts = [y, self.f, *self.seen, *self.by_name.values()]
        return torch.cat([part for part in parts if part is not None], dim=1)

    def keep(self, module, args, output):
        self.f = output


class CallableHook:
    __slots__ = ("__owner",)  # its name is mangled

    def __init__(self, owner):
        self.__owner = owner

    def __call__(self, module, args, output):
        self.__owner.f = output


def with_hook(make):
    def build():
        module = Body()
        module.net[0].register_forward_hook(make(module))
        return module

    return build


def default_hook(module):
    def hook(part, args, output, owner=module, *, seen=module.seen):
        seen.append(output * 2)
        owner.f = output

    return hook


def nested_hook(module):
    def inner(output):
        def innermost():
            module.f = output

        innermost()

    return lambda part, args, output: inner(output)


def recursive_hook(module):
    def hook(part, args, output, again=True):
        if again:
            return hook(part, args, output, again=False)
        module.f = output

    return hook


def wrapped_hook(module):
    hook = partial(lambda owner, part, args, output: owner.keep(part, args, output), module)

    @wraps(hook)
    def wrapper(*args):
        return wrapper.__wrapped__(*args)

    return wrapper


def weak_hook(module):
    weak = weakref.ref(module)
    return lambda part, args, output: setattr(weak(), "f", output)


def proxy_hook(module):
    weak = weakref.proxy(module)
    return lambda part, args, output: setattr(weak, "f", output)


def namespace_hook(module):
    attributes = vars(module)
    return lambda part, args, output: attributes.update(f=output)


def weak_method_hook(module):
    weak = weakref.WeakMethod(module.keep)
    return lambda *args: weak()(*args)


def all_hooks():
    module = Body()
    net = module.net
    net.register_forward_pre_hook(lambda part, args: module.seen.append(args[0]))
    net[0].register_forward_pre_hook(
        lambda part, args, kwargs: module.by_name.update(a=args[0] * 3), with_kwargs=True
    )
    net[1].register_forward_hook(
        lambda part, args, kwargs, output: setattr(module, "f", output),
        with_kwargs=True,
        always_call=True,
    )
    return module


def forward_of_closure():
    module, stored = Body(), {}
    module.net[0].register_forward_hook(lambda part, args, output: stored.update(x=output))

    def forward(x):
        module.net(x)
        return stored["x"] * 2

    module.forward = forward
    return module


def shared_variable():
    module, value = Body(), None

    def keep(part, args, output):
        nonlocal value
        value = output

    module.net[0].register_forward_hook(keep)
    module.read = lambda: value
    module.forward = MethodType(lambda self, x: (self.net(x), self.read())[1], module)
    return module


def decorated_forward():
    module = Body()
    module.net[0].register_forward_hook(module.keep)
    inner = module.forward

    @wraps(inner)
    def forward(x):
        module.seen.append(module.f)
        return inner(x)

    module.forward = torch.no_grad()(forward)
    return module


def method_of_closure():
    module, outputs = Body(), []
    module.net[0].register_forward_hook(lambda part, args, output: outputs.append(output))

    def forward(self, x):
        outputs.clear()
        assert self is module
        return module.net(x) + outputs[0]

    module.forward = MethodType(forward, module)
    return module


def cached_function():
    module = Body()
    module.scale = lru_cache(maxsize=3)(lambda n: (n, setattr(module, "f", torch.ones(1, n)))[0])
    module.forward = lambda x: module.net(x) * module.scale(5) + module.f
    return module


def parent_of_submodule():
    class Child(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            self.parent().f = self.again.f = y
            return y

    module = Body()
    module.net[0] = child = Child(6, 5)
    child.parent, child.again = weakref.ref(module), weakref.proxy(module)
    return module


def compiled_attribute():
    module = Body()
    module.net[0].register_forward_hook(module.keep)
    module.run = torch.compile(
        lambda x: module.net(x) + module.net[0].weight[0, 0], backend="eager"
    )
    module.forward = lambda x: module.run(x) + module.f
    return module


def normed():
    module = Body()
    module.net[0] = nn.utils.parametrizations.weight_norm(module.net[0])
    module.net[0].register_forward_hook(lambda part, args, output: setattr(module, "f", output))
    return module


class WithSlot(Body):
    __slots__ = ("values",)

    def __init__(self):
        super().__init__()
        self.values = [0.0]

    def forward(self, x):
        y = super().forward(x)
        self.values[0] = y.sum()
        return self.values[0] + y


def with_slot():
    module = WithSlot()
    module.net.register_forward_hook(lambda *args: module.values.__setitem__(0, args[2]))
    return module


def native_method():
    module = Body()
    module.keep = module.seen.append
    module.net[0].register_forward_hook(lambda part, args, output: module.keep(output * 2))
    return module


def function_of_tensor():
    module = Body()
    module.net[0].weight.note = lambda output: setattr(module, "f", output)
    module.net[0].register_forward_hook(lambda part, args, output: part.weight.note(output))
    return module


LEADING_BACK = {
    "closure": with_hook(lambda m: lambda part, args, output: setattr(m, "f", output)),
    "list": with_hook(lambda m: partial(lambda seen, *args: seen.append(args[2]), m.seen)),
    "dict": with_hook(lambda m: lambda part, args, output: m.by_name.update(x=output)),
    "bound append": with_hook(lambda m: lambda *args, add=m.seen.append: add(args[2])),
    "method": with_hook(lambda m: m.keep),
    "object": with_hook(CallableHook),
    "defaults": with_hook(default_hook),
    "nested": with_hook(nested_hook),
    "recursive": with_hook(recursive_hook),
    "wrapped": with_hook(wrapped_hook),
    "weak": with_hook(weak_hook),
    "proxy": with_hook(proxy_hook),
    "weak method": with_hook(weak_method_hook),
    "namespace": with_hook(namespace_hook),
    "no grad": with_hook(lambda m: torch.no_grad()(lambda *args: setattr(m, "f", args[2]))),
    "all hooks": all_hooks,
    "forward of closure": forward_of_closure,
    "shared variable": shared_variable,
    "decorated forward": decorated_forward,
    "method of closure": method_of_closure,
    "cached function": cached_function,
    "parent of submodule": parent_of_submodule,
    "compiled attribute": compiled_attribute,
    "parametrized": normed,
    "slot of module": with_slot,
    "native method": native_method,
    "attribute of tensor": function_of_tensor,
}


def state(module):
    """Return the identities of what attributes and containers of a module contain."""
    lists = (module.seen, list(module.by_name.values()))
    attributes = [(name, id(value)) for name, value in vars(module).items()]
    return attributes, [[id(item) for item in items] for items in lists], module.f


@pytest.mark.fault(124)
@pytest.mark.parametrize("kind", LEADING_BACK)
def test_functions_that_lead_back_to_the_module_act_on_the_copy(kind):
    module, reference = LEADING_BACK[kind](), LEADING_BACK[kind]()
    earlier, x = torch.linspace(-2, 1, 18).reshape(3, 6), torch.linspace(-1, 3, 18).reshape(3, 6)
    with torch.no_grad():
        stale = module(earlier)  # as a caller who has run the original before
        expected = reference(x)
        before = state(module)
        copied = private_copy(module, None)
        with torch.no_grad():
            for parameter in module.parameters():  # the copy does not read those either
                parameter.add_(1)
        output = copied(x)
    assert not torch.equal(expected, stale)
    assert torch.equal(output, expected)
    assert state(module) == before


@pytest.mark.fault(124)
def test_backward_and_state_hooks_are_those_of_the_copy():
    module = Body()
    module.net.register_full_backward_hook(lambda *args: setattr(module, "f", "backward"))
    module.register_state_dict_pre_hook(lambda *args: setattr(module, "f", "before"))
    module.register_state_dict_post_hook(lambda *args: module.seen.append("after"))
    module.register_load_state_dict_pre_hook(lambda *args: module.seen.append("load"))
    module.register_load_state_dict_post_hook(lambda *args: module.seen.append("loaded"))
    copied = private_copy(module, None)
    copied.load_state_dict(copied.state_dict())
    assert (copied.f, copied.seen) == ("before", ["after", "load", "loaded"])
    copied.f = None
    copied.net(torch.zeros(2, 6, requires_grad=True)).sum().backward()
    assert copied.f == "backward"
    assert (module.f, module.seen) == (None, [])


@pytest.mark.fault(124)
def test_functions_keep_their_identity_and_are_copied_only_if_they_lead_back():
    module, count = Body(), 0

    def count_calls(*args):
        nonlocal count
        count += 1

    def shared():
        value = module

        def first(*args):
            return value

        def second(*args):
            return value

        return first, second

    first, second = shared()
    first.note, first.__kwdefaults__ = "kept", {"other": 1}
    module.functions = [first, second, first, count_calls, torch.relu, nn.functional.max_pool2d]
    del module.functions[3]
    for hook in (count_calls, first):
        module.register_forward_hook(hook)
    copied = private_copy(module, None)
    one, two, again, relu, pool = copied.functions
    assert one() is two() is copied
    assert one is again is list(copied._forward_hooks.values())[1] is not first
    assert one.__closure__[0] is two.__closure__[0] is not first.__closure__[0]
    assert (one.note, one.__kwdefaults__, one.__qualname__) == (
        "kept",
        {"other": 1},
        first.__qualname__,
    )
    assert (relu, pool) == (torch.relu, nn.functional.max_pool2d)
    assert next(iter(copied._forward_hooks.values())) is count_calls
    copied.net(torch.zeros(1, 6))
    copied._forward_hooks.popitem()
    copied.f = torch.zeros(1, 1)
    copied(torch.zeros(1, 6))
    assert count == 1


def generator_hook(module):
    def outputs():
        while True:
            module.f = yield

    sink = outputs()
    next(sink)
    return lambda part, args, output: sink.send(output)


def outer_object(module):
    """Return a hook by way of an object that only a weak reference leads to."""
    outer = Recorder()
    outer.module = module
    KEPT.append(outer)
    weak = weakref.ref(outer)
    return lambda part, args, output: setattr(weak().module, "f", output)


def weak_values(module):
    modules = weakref.WeakValueDictionary(owner=module)
    return lambda part, args, output: setattr(modules["owner"], "f", output)


def local_hook(module):
    local = threading.local()
    local.module = module
    return lambda part, args, output: setattr(local.module, "f", output)


def property_hook(module):
    module.itself = property(lambda item: module)
    return lambda part, args, output: setattr(module.itself.fget(module), "f", output)


KEPT = []
REFUSED = {
    "generator": (generator_hook, "cannot pickle 'generator' object"),
    "weak object": (
        outer_object,
        r"encoder\..*\.__closure__\['weak'\]\(\).module would be the Body of",
    ),
    "local": (local_hook, r"\['local'\].*\['module'\] would be the Body of the original"),
    "property": (property_hook, r"encoder\.itself\.__closure__\['module'\] would be the Body of"),
    "weak values": (weak_values, r"encoder\..*\['modules'\].*would be the Body of the original"),
}


@pytest.mark.fault(124)
@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_use_the_original_is_refused_by_name(kind):
    make, message = REFUSED[kind]
    with pytest.raises(ValueError, match=rf"(?s){message}.*call encoder.eval\(\) and pass a func"):
        private_copy(with_hook(make)(), None)
    KEPT.clear()


@pytest.mark.fault(124)
def test_a_hook_of_all_modules_that_would_use_the_original_is_refused():
    module = Body()
    every = nn.modules.module.register_module_forward_hook(
        lambda part, args, output: setattr(module, "f", output)
    )
    try:
        with pytest.raises(ValueError, match=r"the hooks of all modules of torch, .*'module'"):
            private_copy(module, None)
    finally:
        every.remove()
    private_copy(module, None)


@pytest.mark.fault(124)
def test_arguments_and_functions_of_methods_and_partials_lead_to_the_copy():
    module, calls = Body(), []

    def embed(self, x, net, note):
        calls.append(note)
        return self is module, net is module.net, module.net

    own = private_copy(partial(MethodType(embed, module), net=module.net, note=calls), None)
    is_copy, has_net, net = own(torch.zeros(1, 6))
    assert is_copy
    assert has_net
    assert net is not module.net
    assert calls == [calls]  # an argument that does not lead to the module is the user's


@pytest.mark.slow
@pytest.mark.fault(124)
def test_a_module_that_is_compiled_in_place_runs_as_it_is_compiled():
    n_compiled = 0

    def double(graph, inputs):
        nonlocal n_compiled
        n_compiled += 1
        return lambda *args: tuple(2 * output for output in graph(*args))

    class Compiled(nn.Module):  # torch does not compile its own classes in place
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 5)

        def forward(self, x):
            return self.fc(x)

    module = Compiled()
    x = torch.linspace(-1, 1, 18).reshape(3, 6)
    with torch.no_grad():
        expected = 2 * module(x)
        module.compile(backend=double)
        for _ in range(3):
            copied = private_copy(module, None)
            assert torch.equal(copied(x), expected)
        copied.fc.weight.zero_()
        copied.fc.bias.fill_(1)
        assert torch.equal(copied(x), torch.full((3, 5), 2.0))
        assert torch.equal(module(x), expected)
    assert n_compiled <= 2


class _Fused(torch.nn.Module):
    """Weights are merged for evaluation, as those of low-rank adapters."""

    def __init__(self):
        super().__init__()
        self.weight, self.delta = torch.nn.Parameter(torch.ones(2)), torch.ones(2)
        self.is_merged = False

    def train(self, mode=True):
        if mode is False and not self.is_merged:
            self.weight.data += self.delta
            self.is_merged = True
        return super().train(mode)

    def forward(self, x):
        return x * (self.weight + self.delta if self.training else self.weight)


class _Eager(_Fused):
    train = torch.nn.Module.train

    def eval(self):
        return _Fused.train(self, False)


class _Flagged(torch.nn.Linear):
    is_training = True

    def train(self, mode=True):
        self.is_training = mode
        return super().train(mode)

    def forward(self, x):
        return super().forward(x) * (2 if self.is_training else 1)


@pytest.mark.fault(124)
@pytest.mark.parametrize("make", [_Fused, _Eager, lambda: _Flagged(2, 2)])
def test_a_module_that_changes_with_its_mode_has_to_be_switched(make):
    module = torch.nn.Sequential(torch.nn.Flatten(), make())
    before = {name: value.clone() for name, value in module.state_dict().items()}
    kind = type(module[1]).__name__
    message = rf"a {kind} that is changed by the own 'train' or 'eval' of a {kind} in.*eval\(\)"
    with pytest.raises(ValueError, match=message):
        private_copy(module, None)
    torch.testing.assert_close(dict(module.state_dict()), before)
    assert all(part.training for part in module.modules())
    module.eval()
    module[1].eval()
    x = torch.ones(1, 2)
    torch.testing.assert_close(private_copy(module, None)(x), module(x))


class _Frozen(torch.nn.Sequential):
    """The batch normalization is never trained, as in many video models."""

    def train(self, mode=True):
        super().train(mode)
        self[0].eval()
        return self


@pytest.mark.fault(124)
@pytest.mark.parametrize(
    "make", [lambda: _Frozen(torch.nn.BatchNorm3d(3)), lambda: small_model("VideoMAE")]
)
def test_a_module_whose_mode_is_but_the_mode_is_switched(make):
    module = make().train()
    own = private_copy(module, None)
    assert not any(part.training for part in own.modules())
    assert module.training
    assert any(part.training for part in module.modules())


def test_a_method_train_of_an_instance_counts():
    module = torch.nn.Linear(2, 2)

    def train(mode=True):
        module.bias = None

    module.train = train
    with pytest.raises(ValueError, match="a Linear that is changed by the own 'train'"):
        private_copy(module, None)
    assert module.bias is not None


@pytest.mark.fault(124)
@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_without_running_statistics_is_refused(training):
    """Rows would depend on the other videos of a batch."""
    norm = torch.nn.BatchNorm3d(3, track_running_stats=False).train(training)
    with pytest.raises(ValueError, match="a BatchNorm3d without running statistics, with which"):
        private_copy(torch.nn.Sequential(norm), None)
    own = private_copy(torch.nn.Sequential(torch.nn.InstanceNorm3d(3)), None)
    assert own(torch.ones(2, 3, 2, 2, 2)).shape == (2, 3, 2, 2, 2)


class AttrDict(dict):
    """A configuration, whose items are attributes."""

    def __init__(self, *args, **named):
        super().__init__(*args, **named)
        self.__dict__ = self


class _Configured(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.functions, self.json = torch.nn.functional, json
        self.options = Namespace(scale=2.0)
        self.by_name = vars(self.options)

    def forward(self, x):
        return self.functions.relu(x) * self.by_name["scale"] * self.options.scale


def test_modules_of_python_are_shared_and_namespaces_copied():
    module = _Configured()
    own = private_copy(module, None)
    assert own.functions is torch.nn.functional
    assert own.by_name is vars(own.options) is not module.by_name
    torch.testing.assert_close(own(torch.ones(2)), torch.full((2,), 4.0))
    own.options.scale = 3.0
    assert own.by_name["scale"] == 3.0
    assert module.options.scale == 2.0


class _Uncopied:
    def __deepcopy__(self, memo):
        raise ValueError("no copy of me")


def test_a_variable_that_cannot_be_copied_is_told():
    module, held = torch.nn.Linear(2, 2), _Uncopied()
    module.forward = lambda x: (held, module)
    with pytest.raises(ValueError, match=r"cannot be copied.*'forward' raises ValueError\(no copy"):
        private_copy(module, None)


SEEN = {}


def test_containers_that_are_no_part_of_a_module_are_shared_state():
    seen = {}

    class Inner(torch.nn.Module):
        def forward(self, x):
            return seen["x"]

    def keep(module, args, output):
        SEEN["x"] = output

    plain = torch.nn.Sequential(torch.nn.Linear(2, 2))
    plain.settings, plain.features = {"a": 1}, []
    hooked = torch.nn.Sequential(torch.nn.Linear(2, 2))
    hooked[0].register_forward_hook(keep)
    own_hook = torch.nn.Sequential(torch.nn.Linear(2, 2))
    own_hook[0].register_forward_hook(lambda m, i, o: own_hook.__setattr__("x", o))
    states = [uses_shared_state(private_copy(m, None)) for m in (plain, Inner(), hooked, own_hook)]
    assert states == [False, True, True, False]
    assert not uses_shared_state(torch.mean)
    assert not uses_shared_state(lambda x: plain[0](x))
    assert uses_shared_state(lambda x: hooked(x))
    assert uses_shared_state(lambda x: SEEN["x"])


def test_a_dictionary_of_its_own_attributes_is_copied(tmp_path):
    module = torch.nn.Linear(2, 2)
    module.config = AttrDict(scale=2.0, sizes=[1])
    with (tmp_path / "log").open("w+b") as module.log:
        own = private_copy(module, None)
        assert own.log is module.log
    own.config.scale = 3.0
    own.config.sizes.append(2)
    assert (own.config["scale"], module.config.scale, module.config.sizes) == (3.0, 2.0, [1])


@pytest.mark.fault(124)
def test_frames_of_other_threads_are_read_without_the_garbage_collector(monkeypatch):
    """Which frees tensors, and so lets these threads return from the frames meanwhile."""
    from skdejavid.video import copies

    states, is_in_step = [], copies._is_in_step

    def remember(frame):
        states.append(gc.isenabled())
        return is_in_step(frame)

    monkeypatch.setattr(copies, "_is_in_step", remember)
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    private_copy(dropping(), None)
    assert gc.isenabled()
    gc.disable()
    try:
        private_copy(dropping(), None)
        assert not gc.isenabled()
    finally:
        gc.enable()
        event.set()
        thread.join()
    assert states
    assert not any(states)
