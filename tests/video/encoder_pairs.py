"""Pairs of encoders that differ in one respect, made from a seed.

`values_of_kinds` returns kinds of objects, `PLACES` are where an encoder may hold one, `SOURCES`
are edits of code, and `CHANGES` are what can be done to a module.
"""

import collections
import dataclasses
import datetime
import enum
import functools
import pathlib
import re
import types
from typing import NamedTuple

import numpy as np
import torch


class Level(enum.Enum):
    LOW = 2
    HIGH = 5


class Pair(NamedTuple):
    factor: float
    name: str


@dataclasses.dataclass
class Settings:
    factor: float
    names: list = dataclasses.field(default_factory=list)


class Slots:
    __slots__ = ("factor",)

    def __init__(self, factor):
        self.factor = factor


class Low:
    factor = 3


class High:
    factor = 4


class Weighted(torch.nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))


def number_of(value):
    """Return a number that depends on what a value of any kind contains."""
    if callable(value) and not isinstance(value, (type, torch.nn.Module)):
        value = value(2.0)
    if isinstance(value, torch.nn.Module):
        value = value.weight
    if isinstance(value, torch.Tensor):
        value = value.to_dense().to(torch.float64).flatten()
        return float((value * torch.arange(1, len(value) + 1)).sum())
    if isinstance(value, np.ndarray):
        return float((value.ravel() * np.arange(1, value.size + 1)).sum())
    for name in ("factor", "value", "stop", "pattern", "year"):
        if hasattr(value, name):
            return number_of(getattr(value, name))
    if isinstance(value, torch.dtype):
        return torch.finfo(value).bits
    if isinstance(value, (int, float, np.generic)):
        return float(value)
    if isinstance(value, complex):
        return value.real + 2 * value.imag
    text = str(sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value)
    return float(sum(i * ord(character) for i, character in enumerate(text, start=1)))


def factor_of(value):
    """Return a factor that is not too large."""
    return (1 + abs(number_of(value))) ** 0.125


def values_of_kinds(rng):
    """Return pairs of values by kind."""
    a, b = (round(float(x), 3) for x in rng.permutation(np.arange(1.5, 40))[:2])
    i, j = int(a), int(b)
    weights = [torch.from_numpy(rng.normal(size=(3, 40))) for _ in range(2)]
    element = weights[0].clone()
    element[1, int(rng.integers(40))] += 1
    return {
        "float": (a, b),
        "int": (i, j),
        "bool": (True, False),
        "str": (f"{a}", f"{b}"),
        "bytes": (f"{a}".encode(), f"{b}".encode()),
        "complex": (complex(a, b), complex(b, a)),
        "tensor": (weights[0], weights[1]),
        "one element": (weights[0], element),
        "dtype of a tensor": (weights[0].to(torch.float16), weights[0].to(torch.bfloat16)),
        "sparse tensor": (weights[0].to_sparse(), weights[1].to_sparse()),
        "array": (weights[0].numpy(), weights[1].numpy()),
        "array of objects": (np.array([a, 1], object), np.array([b, 1], object)),
        "number of NumPy": (np.float32(a), np.float32(b)),
        "enum": (Level.LOW, Level.HIGH),
        "dtype": (torch.float16, torch.float32),
        "class": (Low, High),
        "object": (types.SimpleNamespace(factor=a), types.SimpleNamespace(factor=b)),
        "slots": (Slots(a), Slots(b)),
        "data class": (Settings(a), Settings(b)),
        "named tuple": (Pair(a, "x"), Pair(b, "x")),
        "list": ([a, b], [b, a]),
        "dict": ({"x": a, "y": b}, {"y": b, "x": a}),
        "ordered dict": (collections.OrderedDict(x=a), collections.OrderedDict(x=b)),
        "set": ({i, "x"}, {j, "x"}),
        "frozenset": (frozenset({i}), frozenset({j})),
        "range": (range(i), range(j)),
        "slice": (slice(i), slice(j)),
        "pattern": (re.compile(f"{a}"), re.compile(f"{b}")),
        "path": (pathlib.PurePath(f"x/{a}"), pathlib.PurePath(f"x/{b}")),
        "date": (datetime.date(2000 + i, 1, 1), datetime.date(2000 + j, 1, 1)),
        "module": (Weighted(a), Weighted(b)),
        "partial": (functools.partial(scaled, by=a), functools.partial(scaled, by=b)),
        "closure": (scaling(a), scaling(b)),
        "lambda": (eval(f"lambda x: x * {a}"), eval(f"lambda x: x * {b}")),
        "method": (Multiplier(a).times, Multiplier(b).times),
    }


def scaled(x, by):
    return x * by


def scaling(by):
    def scale(x):
        return x * by

    return scale


class Multiplier:
    def __init__(self, by):
        self.by = by

    def times(self, x):
        return x * self.by


class Encoder(torch.nn.Module):
    """Mean colors times a number that depends on what `find` returns."""

    def find(self):
        return self.held

    def forward(self, clips):
        return clips.mean(dim=(2, 3, 4)) * factor_of(self.find())


class InList(Encoder):
    def find(self):
        return self.held[1][0]


class InDict(Encoder):
    def find(self):
        return self.held["x"]["y"]


class InObject(Encoder):
    def find(self):
        return self.held.inside.inside


class InSubmodule(Encoder):
    def find(self):
        return self.layers[0].held


class InHiddenModule(Encoder):
    def find(self):
        return self.layers["first"][0].held


class InParent(Encoder):
    def find(self):
        return self.child.parent.held


class InCall(Encoder):
    def find(self):
        return self.held()


class OfClass(Encoder):
    held = None


def _holding(kind, value):
    encoder = kind()
    encoder.held = value
    return encoder


def _in_container(kind, name, wrap):
    def make(value):
        encoder = kind()
        setattr(encoder, name, wrap(value))
        return encoder

    return make


def _with_parent(value):
    encoder = _holding(InParent, value)
    encoder.child = torch.nn.Module()
    object.__setattr__(encoder.child, "parent", encoder)
    return encoder


def _of_class(value):
    class Derived(OfClass):
        held = staticmethod(value) if callable(value) and not isinstance(value, type) else value

    return Derived()


def _with_default(value):
    encoder = InCall()
    encoder.held = lambda held=value: held
    return encoder


def _with_closure(value):
    encoder = InCall()
    encoder.held = lambda: value
    return encoder


def _with_global(value):
    encoder, variables = InCall(), {"VALUE": value}
    exec("def read():\n    return VALUE", variables)
    encoder.held = variables["read"]
    return encoder


def _with_module_variable(value):
    encoder, settings = InCall(), types.ModuleType("settings")
    settings.value = value
    variables = {"settings": settings}
    exec("def read():\n    return settings.value", variables)
    encoder.held = variables["read"]
    return encoder


def _with_hook(value):
    encoder = _holding(Encoder, 1.0)
    encoder.register_forward_hook(lambda module, inputs, output: output * factor_of(value))
    return encoder


def _with_pre_hook(value):
    encoder = _holding(Encoder, 1.0)
    encoder.register_forward_pre_hook(lambda module, inputs: inputs[0] * factor_of(value))
    return encoder


def _with_own_forward(value):
    encoder = _holding(Encoder, 1.0)
    encoder.forward = lambda clips: clips.mean(dim=(2, 3, 4)) * factor_of(value)
    return encoder


def _nested(value):
    return types.SimpleNamespace(inside=types.SimpleNamespace(inside=value))


PLACES = {
    "attribute": lambda value: _holding(Encoder, value),
    "list": _in_container(InList, "held", lambda value: [0, (value,)]),
    "dict": _in_container(InDict, "held", lambda value: {"x": {"y": value}}),
    "object": _in_container(InObject, "held", _nested),
    "submodule": _in_container(
        InSubmodule, "layers", lambda value: torch.nn.ModuleList([_holding(Encoder, value)])
    ),
    "hidden module": _in_container(
        InHiddenModule, "layers", lambda value: {"first": (_holding(Encoder, value),)}
    ),
    "parent": _with_parent,
    "class": _of_class,
    "default": _with_default,
    "closure": _with_closure,
    "global": _with_global,
    "module": _with_module_variable,
    "hook": _with_hook,
    "pre-hook": _with_pre_hook,
    "own forward": _with_own_forward,
}


def _net(body):
    return f"""
class Net(torch.nn.Module):
    def forward(self, clips):
        mean = clips.mean(dim=(2, 3, 4))
        return {body}
"""


# Code of encoders, in which {k} is edited.
SOURCES = {
    "constant": _net("mean * {k}"),
    "global constant": "K = {k}\n" + _net("mean * K"),
    "helper": "def f(x):\n    return x * {k}\n" + _net("f(mean)"),
    "constant of a helper": "K = {k}\ndef f(x): return x * K\n" + _net("f(mean)"),
    "keyword default": "def f(x, *, k={k}): return x * k\n" + _net("f(mean)"),
    "lambda": "f = lambda x: x * {k}\n" + _net("f(mean)"),
    "object of a helper": "class A:\n    k = {k}\na = A()\n" + _net("mean * a.k"),
    "method": _net("self.f(mean)") + "    def f(self, x): return x * {k}\n",
    "property": _net("mean * self.k") + "    @property\n    def k(self): return {k}\n",
    "static method": _net("self.f(mean)") + "    @staticmethod\n    def f(x): return x * {k}\n",
    "class attribute": _net("mean * self.k") + "    k = {k}\n",
    "base class": "class Base:\n    def f(self, x): return x * {k}\n"
    + _net("self.f(mean)").replace("(torch", "(Base, torch"),
    "inner function": _net("(lambda x: x * {k})(mean)"),
    "comprehension": _net("torch.stack([row * {k} for row in mean])"),
    "set": _net("mean * sum(k for k in range(500) if k in {1, {k}})"),
    "decorator": "def times(k):\n    def around(f):\n        return lambda x: k * f(x)\n"
    "    return around\n@times({k})\ndef f(x):\n    return x\n" + _net("f(mean)"),
    "decorator of torch": "@torch.no_grad()\ndef f(x):\n    return x * {k}\n" + _net("f(mean)"),
    "caught error": "def f(x):\n    try:\n        return x[99]\n"
    "    except IndexError:\n        return x * {k}\n" + _net("f(mean)"),
    "cached function": "import functools\n@functools.lru_cache\ndef k():\n    return {k}\n"
    + _net("mean * k()"),
    "generator": "def ks():\n    yield {k}\n" + _net("mean * sum(ks())"),
    "function of autograd": "import torch\nclass F(torch.autograd.Function):\n    @staticmethod\n"
    "    def forward(ctx, x): return x * {k}\n" + _net("F.apply(mean)"),
}


def run_source(source):
    """Return the encoder that a source defines, as a notebook or a file does."""
    variables = {"torch": torch, "__name__": "__main__"}
    exec(compile(source, "<source>", "exec"), variables)
    return variables["Net"]()


def _set_element(encoder, rng):
    encoder.layer.weight.data.view(-1)[int(rng.integers(encoder.layer.weight.numel()))] += 1
    return encoder


def _set_through_numpy(encoder, rng):
    array = encoder.layer.weight.detach().numpy()
    array.flat[int(rng.integers(array.size))] += 1
    return encoder


def _negate(encoder, rng):
    encoder.layer.weight.data.neg_()
    return encoder


def _swap_rows(encoder, rng):
    encoder.layer.weight.data[:] = encoder.layer.weight.data[[1, 0]]
    return encoder


def _set_buffer(encoder, rng):
    encoder.offset += int(rng.integers(1, 9))
    return encoder


def _take_step(encoder, rng):
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    encoder(torch.ones(1, 3, 1, 8, 8)).square().sum().backward()
    optimizer.step()
    return encoder


def _replace_class(encoder, rng):
    class Doubled(Layered):
        def forward(self, clips):
            return 2 * super().forward(clips)

    encoder.__class__ = Doubled
    return encoder


def _replace_method(encoder, rng):
    encoder.layer.forward = types.MethodType(lambda self, x: x[:, :2], encoder.layer)
    return encoder


def _add_hook(encoder, rng):
    encoder.layer.register_forward_hook(lambda module, inputs, output: output - 1)
    return encoder


def _replace_activation(encoder, rng):
    encoder.activation = torch.nn.functional.softplus
    return encoder


def _insert_layer(encoder, rng):
    encoder.layer = torch.nn.Sequential(encoder.layer, torch.nn.Tanh())
    return encoder


def _parametrize(encoder, rng):
    torch.nn.utils.parametrize.register_parametrization(encoder.layer, "weight", torch.nn.Tanh())
    return encoder


CHANGES = {
    "element": _set_element,
    "element through NumPy": _set_through_numpy,
    "signs": _negate,
    "order": _swap_rows,
    "buffer": _set_buffer,
    "training": _take_step,
    "class": _replace_class,
    "method": _replace_method,
    "hook": _add_hook,
    "activation": _replace_activation,
    "layer": _insert_layer,
    "parametrization": _parametrize,
}


class Layered(torch.nn.Module):
    """An encoder with parameters, a buffer and an activation function."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.layer = torch.nn.Linear(3, 2)
        with torch.no_grad():
            self.layer.weight.copy_(torch.rand(2, 3, generator=generator) + 0.5)
            self.layer.bias.zero_()
        self.register_buffer("offset", torch.zeros(2), persistent=False)
        self.activation = torch.nn.functional.relu

    def forward(self, clips):
        return self.activation(self.layer(clips.mean(dim=(2, 3, 4)))) + self.offset


def draw_pair(seed):
    """Return what is different, the first encoder, and a function that returns the other one."""
    rng = np.random.default_rng(seed)
    how = ("value", "value", "value", "source", "change")[seed % 5]
    if how == "value":
        pairs = values_of_kinds(rng)
        kind, place = str(rng.choice([*pairs])), str(rng.choice([*PLACES]))
        one, other = pairs[kind]
        return f"{kind} in {place}", PLACES[place](one), lambda: PLACES[place](other)
    if how == "source":
        kind = str(rng.choice([*SOURCES]))
        a, b = (int(k) for k in rng.permutation(np.arange(2, 400))[:2])
        sources = [SOURCES[kind].replace("{k}", str(k)) for k in (a, b)]
        return f"code: {kind}", run_source(sources[0]), lambda: run_source(sources[1])
    kind = str(rng.choice([*CHANGES]))
    first = Layered(seed)
    return f"change of the {kind}", first, lambda: CHANGES[kind](first, rng)
