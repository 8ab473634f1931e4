import cmath
import enum
import functools
import importlib
import math
import sys
import types

import pytest
import torch
import transformers
from pretrained_models import small_model

from skdejavid.video.fingerprints import fingerprint
from skdejavid.video.object_graphs import UnknowableError, digest_of
from skdejavid.video.object_parts import describe


def digest(value):
    return digest_of(value, describe, "f")


def function(body, name="f", **variables):
    """Return a function that takes x, and reads some global variables."""
    exec(f"def {name}(x):\n    {body}", variables)
    return variables[name]


@pytest.fixture
def helpers(tmp_path, monkeypatch):
    """Return a function that writes and imports a package of two modules."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(scale, more="", name="helpers_of_a_user"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").write_text("import os\nUNUSED = object()\n" + more)
        (folder / "numbers.py").write_text(
            f"import threading\nlock = threading.Lock()\nscale = {scale}\n"
            "def by_scale(x):\n    return x * scale\n"
        )
        for module in [m for m in sys.modules if m.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, module)
        importlib.invalidate_caches()
        return importlib.import_module(f"{name}.numbers") and sys.modules[name]

    return write


@pytest.mark.fault(125)
@pytest.mark.parametrize(
    "body",
    [
        "return helpers.numbers.by_scale(x)",
        "return [helpers.numbers.scale for _ in x]",
        "from helpers_of_a_user.numbers import by_scale; return by_scale(x)",
        "from helpers_of_a_user import numbers as n; return n.by_scale(x)",
        "import helpers_of_a_user.numbers; return helpers_of_a_user.numbers.scale",
    ],
)
def test_of_a_users_module_what_code_reads_counts(body, helpers):
    digests = [
        digest(function(body, helpers=helpers(scale, more)))
        for scale, more in [(2, ""), (3, ""), (2, "other = 3")]
    ]
    assert digests[0] != digests[1]
    assert digests[0] == digests[2]


def test_of_a_module_that_is_passed_on_all_counts(helpers):
    body = "return getattr(helpers, 'x')"
    digests = {digest(function(body, helpers=_plain_module(x=x, y=1))) for x in (1, 2)}
    assert len(digests) == 2
    for body in ("return vars(helpers)", "import helpers_of_a_user as h; return vars(h)"):
        with pytest.raises(UnknowableError, match=r"numbers\.lock is a lock, whose state cannot"):
            digest(function(body, helpers=helpers(2)))


def _plain_module(**variables):
    module = types.ModuleType("settings")
    vars(module).update(variables)
    return module


def test_a_module_that_is_imported_late_counts(helpers, monkeypatch):
    body = "from helpers_of_a_user.numbers import scale; return scale"
    helpers(2)
    expected = digest(function(body))
    for name in ("helpers_of_a_user", "helpers_of_a_user.numbers"):
        monkeypatch.delitem(sys.modules, name)
    assert digest(function(body)) == expected
    assert digest(function("import no_such_module; return x")) == digest(
        function("import no_such_module; return x")
    )


def test_which_library_code_reads_counts():
    body = "return lib.sqrt(x)"
    modules = [torch, math, cmath]
    assert len({digest(function(body, lib=module)) for module in modules}) == 3


def test_lambdas_of_a_library_count_by_their_code():
    variables = vars(math_functions := types.ModuleType("math_functions"))
    code = compile("f, g = lambda x: x, lambda x: -x", torch.__file__, "exec")
    exec(code, variables)
    assert digest(math_functions.f) != digest(math_functions.g)


def test_whether_a_library_has_been_imported_does_not_count(monkeypatch):
    f = function("import colorsys; return colorsys.rgb_to_hsv(x)")
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    before = digest(f)
    assert "colorsys" not in sys.modules
    import colorsys

    assert digest(f) == before
    monkeypatch.setattr(colorsys, "rgb_to_hsv", lambda x: x)
    assert digest(f) != before


def test_attributes_with_underscores_count():
    def net(name, value):
        body = f"class Net:\n    {name} = {value}\n    def f(self): return self.{name}"
        variables = {}
        exec(body, variables)
        return digest(variables["Net"]())

    for name in ("_k_", "__k__", "__k", "_k"):
        assert net(name, 1) == net(name, 1) != net(name, 2), name


def test_modules_may_be_put_into_evaluation_mode():
    assert digest(function("return x.eval()")) != digest(function("return x.train()"))


@pytest.mark.parametrize("name", ["eval", "exec", "__import__", "import_module"])
def test_code_that_runs_other_code_is_refused(name):
    with pytest.raises(UnknowableError, match=f"^f calls {name}, which runs code that it does not"):
        digest(function(f"return {name}(x)"))


def test_code_that_reads_variables_by_name_depends_on_all():
    body = "return globals()['a' + x]"
    assert digest(function(body, ab=1)) != digest(function(body, ab=2))
    assert digest(function("return x", ab=1)) == digest(function("return x", ab=2))


def test_attributes_and_defaults_of_functions_count():
    def make(default=1, attribute=1):
        def f(x=default):
            return x

        f.attribute = attribute
        return f

    assert digest(make()) == digest(make())
    assert len({digest(make()), digest(make(default=2)), digest(make(attribute=2))}) == 3


def test_the_module_in_which_code_is_written_does_not_count():
    source = "class Net:\n    def __call__(self, x): return x"
    found = []
    for name in ("__main__", "train"):
        variables = {"__name__": name}
        exec(source, variables)
        found.append(digest(variables["Net"]()))
    assert found[0] == found[1]


def test_classes_count_by_name_methods_attributes_bases_and_metaclass():
    class Meta(type):
        def __call__(cls):
            return 3

    def make(name="A", bases=(), **attributes):
        return types.new_class(name, bases, exec_body=lambda names: names.update(attributes))

    kinds = [
        make(),
        make("B"),
        make(x=1),
        make(x=2),
        make(f=lambda self: 1),
        make(f=lambda self: 2),
        make(f=staticmethod(lambda self: 2)),
        make(f=classmethod(lambda self: 2)),
        make(f=property(lambda self: 2)),
        make(f=functools.cached_property(lambda self: 2)),
        make(bases=(make(x=1),)),
        make(bases=(make(x=2),)),
        make(bases=(dict,)),
        make(bases=(torch.nn.Module,)),
        Meta("A", (), {}),
    ]
    assert len({digest(kind) for kind in kinds}) == len(kinds)
    documented = make(__doc__="What it is.", __annotations__={"x": int}, __slots__=())
    assert digest(documented) == digest(make(__slots__=()))


def test_enumerations_count_by_their_members():
    def make(**members):
        return enum.Enum("Color", members)

    assert digest(make(RED=1)) == digest(make(RED=1))
    found = [make(RED=1), make(RED=2), make(BLUE=1), make(RED=1, BLUE=2)]
    assert len({digest(kind) for kind in found}) == 4
    assert digest(found[3].RED) != digest(found[3].BLUE)


@pytest.mark.fault(125)
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (torch.nn.Linear, "forward"),
        (torch.nn.Module, "__call__"),
        (torch.nn.functional, "linear"),
        (torch, "relu"),
        (torch.Tensor, "mean"),
    ],
    ids=["method", "call", "function", "native function", "method of tensors"],
)
def test_what_the_user_replaces_in_torch_counts(owner, name, monkeypatch):
    encoder = torch.nn.Sequential(torch.nn.Linear(2, 2))
    before = fingerprint(encoder)
    found = {before}
    original = getattr(owner, name)
    for factor in (2, 3):

        def replacement(*arguments, factor=factor, **keywords):
            return original(*arguments, **keywords) * factor

        monkeypatch.setattr(owner, name, functools.wraps(original)(replacement))
        found.add(fingerprint(encoder))
    monkeypatch.setattr(owner, name, torch.no_grad()(replacement))
    found.add(fingerprint(encoder))
    assert len(found) == 4
    monkeypatch.undo()
    assert fingerprint(encoder) == before


@pytest.mark.fault(125)
def test_what_the_user_replaces_in_another_library_counts(monkeypatch):
    model = small_model("VideoMAE")
    before = fingerprint(model)
    module = sys.modules[type(model).__module__]
    monkeypatch.setattr(module, "eager_attention_forward", lambda *arguments, **keywords: None)
    assert fingerprint(model) != before
    monkeypatch.undo()
    monkeypatch.setattr(module.VideoMAELayer, "forward", lambda self, x: x)
    assert fingerprint(model) != before
    monkeypatch.undo()
    # A function of another library, as that of a package that makes models faster
    monkeypatch.setattr(module.VideoMAELayer, "forward", transformers.set_seed)
    assert fingerprint(model) == before  # of the same library
    monkeypatch.setattr(module.VideoMAELayer, "forward", pytest.importorskip)
    assert fingerprint(model) != before


def test_a_replaced_function_that_code_names_counts(monkeypatch):
    f = function("return torch.fft.rfft(x)", torch=torch)
    before = digest(f)
    monkeypatch.setattr(torch.fft, "rfft", lambda x: x)
    assert digest(f) != before


def test_native_functions_count_by_name_and_object():
    functions = [torch.relu, torch.sigmoid, torch._C._nn.gelu, len, [1].append, [2].append]
    functions += [torch.Tensor.relu, dict.get, dict.fromkeys, (1).__add__, int.__add__]
    assert len({digest(f) for f in functions}) == len(functions)


COUNTED = """
import torch
class Net(torch.nn.Module):
    n = 0
    shapes = []
    def forward(self, clips):
        global calls
        calls += 1
        seen.append(len(clips))
        counts["calls"] += 1
        type(self).n += len(clips)
        Net.shapes.append(clips.shape)
        self.last = clips.shape
        return clips.mean(dim=(2, 3, 4)) * {factor}
"""


def test_counters_and_collections_that_code_never_reads_do_not_count():
    def make(factor="1"):
        variables = {"calls": 0, "seen": [], "counts": {"calls": 0}}
        exec(COUNTED.replace("{factor}", factor), variables)
        return variables["Net"]()

    encoder = make()
    before = fingerprint(encoder)
    encoder(torch.ones(1, 3, 2, 4, 4))
    assert type(encoder).n == 1
    assert fingerprint(encoder) == before == fingerprint(make())
    for factor in ("calls", "len(seen)", "counts['calls']", "self.n", "getattr(self, 'n')"):
        reading = make(factor)
        before = fingerprint(reading)
        reading(torch.ones(1, 3, 2, 4, 4))
        assert fingerprint(reading) != before, factor
