from functools import partial, wraps
from types import ModuleType

import pytest
import torch
from torch import nn

from skdejavid.video.copies import private_copy
from skdejavid.video.held_modules import check_held_modules

NET = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))


def calls_global(clips):
    return [NET(clip) for clip in clips]


def calls_another(clips):
    return calls_global(clips)


def closing_over(net):
    def encoder(clips):
        return net(clips)

    return encoder


def decorated(net):
    inner = closing_over(net)

    @wraps(inner)
    def encoder(*args):
        return inner(*args)

    return encoder


class Holder:
    def __init__(self, net):
        self.inside = {"nets": [net]}

    def __call__(self, clips):
        return self.embed(clips)

    def embed(self, clips):
        return self.inside["nets"][0](clips)


class OfClass:
    net = NET

    def __call__(self, clips):
        return self.net(clips)


class OfModule(nn.Module):
    def forward(self, clips):
        return NET(clips)


def with_function(net):
    module = nn.Identity()
    module.forward = closing_over(net)
    return module


def with_hook(net):
    module = nn.Identity()
    module.register_forward_hook(lambda part, args, output: net(output))
    return module


HOLDERS = {
    "global": (lambda net: calls_global, "the global 'NET' of 'calls_global'"),
    "another function": (lambda net: calls_another, "the global 'NET' of 'calls_global'"),
    "closure": (closing_over, "the variable 'net' of 'encoder'"),
    "decorated": (decorated, "the variable 'net' of 'encoder'"),
    "default": (lambda net: lambda clips, model=net: model(clips), "a default of '<lambda>'"),
    "keyword": (
        lambda net: lambda clips, *, model=net: model(clips),
        "the default 'model' of '<lambda>'",
    ),
    "partial": (lambda net: partial(torch.vmap, net), "argument 0 of a partial"),
    "keyword of partial": (lambda net: partial(max, key=net), "argument key of a partial"),
    "no grad": (lambda net: torch.no_grad()(closing_over(net)), "the variable 'net' of 'encoder'"),
    "object": (Holder, "an item of a list"),
    "method": (lambda net: Holder(net).embed, "an item of a list"),
    "class": (lambda net: OfClass(), "the attribute 'net' of OfClass"),
    "module": (lambda net: OfModule(), "the global 'NET' of 'forward'"),
    "attribute of a module": (with_function, "the variable 'net' of 'encoder'"),
    "hook of a module": (with_hook, "the variable 'net' of '<lambda>'"),
}


@pytest.fixture(autouse=True)
def trained_net():
    yield NET.train()
    NET.train()


@pytest.mark.fault(124)
@pytest.mark.parametrize("kind", HOLDERS)
def test_a_function_with_a_module_in_training_mode_is_refused(kind):
    make, where = HOLDERS[kind]
    encoder = make(NET)
    for part in encoder.modules() if isinstance(encoder, nn.Module) else ():
        part.training = False
    message = rf"{where} is a module in training mode \(Sequential, whose '1' is a Dropout in"
    with pytest.raises(ValueError, match=message):
        check_held_modules(encoder)
    NET.eval()
    check_held_modules(encoder)


class Custom(nn.Module):
    """A module that asks for its mode in a property and a decorated method."""

    @property
    def rate(self):
        return 0.5 if self.training else 0.0

    def forward(self, clips):
        return clips * self.rate


class Decorated(nn.Module):
    @torch.no_grad()
    def forward(self, clips):
        return clips + self.training


CHANGED_BY_MODE = {
    "dropout": nn.Dropout(0.1),
    "batch norm": nn.BatchNorm2d(3),
    "instance norm": nn.InstanceNorm2d(3, track_running_stats=True),
    "attention": nn.MultiheadAttention(4, 2, dropout=0.1),
    "recurrent": nn.LSTM(2, 2, 2, dropout=0.1),
    "random": nn.RReLU(),
    "property": Custom(),
    "decorated": Decorated(),
}


@pytest.mark.parametrize("kind", CHANGED_BY_MODE)
def test_modules_whose_output_depends_on_the_mode_are_recognized(kind):
    net = nn.Sequential(nn.Linear(2, 2), CHANGED_BY_MODE[kind])
    with pytest.raises(ValueError, match="Call its eval"):
        check_held_modules(closing_over(net))
    check_held_modules(closing_over(net.eval()))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_modules_are_recognized():
    net = torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)))
    with pytest.raises(ValueError, match="Call its eval"):
        check_held_modules(closing_over(net))
    check_held_modules(closing_over(net.eval()))
    check_held_modules(closing_over(torch.jit.freeze(net)))
    check_held_modules(closing_over(torch.jit.script(nn.Linear(2, 2))))


def test_modules_whose_output_does_not_depend_on_the_mode_are_accepted():
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.LayerNorm(2), nn.ReLU(), nn.Dropout(0.0))
    assert net.training
    for make, _ in HOLDERS.values():
        encoder = make(net)
        if encoder not in (calls_global, calls_another) and not isinstance(
            encoder, (OfClass, OfModule)
        ):
            check_held_modules(encoder)


def test_what_imported_modules_contain_is_found(monkeypatch):
    models = ModuleType("models")
    models.inner = ModuleType("models.inner")
    models.inner.net = NET
    with pytest.raises(ValueError, match=r"the variable 'models.inner.net' of '<lambda>'"):
        check_held_modules(lambda clips: models.inner.net(clips))
    check_held_modules(lambda clips: models.other(clips))
    monkeypatch.setitem(calls_global.__globals__, "NET", models)
    check_held_modules(calls_global)
    with pytest.raises(ValueError, match=r"the global 'NET.inner.net' of 'imports'"):
        check_held_modules(lambda clips: imports(clips))


def imports(clips):
    def forward():
        return NET.inner.net(clips)

    return forward()


def test_what_other_packages_refer_to_is_not_the_encoders():
    """As an assertion in a function does, which pytest rewrites to call its own functions."""
    library = ModuleType("library")
    library.session = {"items": [NET]}
    exec("def check(x): return session['items'] and x", vars(library))

    def encoder(clips):
        assert clips is not None
        return library.check(clips)

    globals_ = {"__name__": "elsewhere", "check": library.check, "library": library}
    exec("def encode(x): return check(x), library.check(x)", globals_)
    check_held_modules(globals_["encode"])
    vars(library)["check"] = closing_over(NET)  # which the user's own code has given to it
    with pytest.raises(ValueError, match="the variable 'net' of 'encoder'"):
        check_held_modules(encoder)


def test_a_global_with_the_name_of_an_attribute_is_not_the_attribute():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls_global = nn.Identity()

        def forward(self, clips):
            return self.calls_global(clips)

    check_held_modules(Named().eval())


class Trainer:
    """An object that trains one module and embeds with another."""

    def __init__(self):
        self.student, self.teacher, self.name = NET, nn.Linear(2, 2), "student"

    def step(self, clips):
        return calls_global(self.student(clips))

    def embed(self, clips):
        return self.inner(clips)

    def inner(self, clips):
        return self.teacher(clips)

    def by_name(self, clips):
        return getattr(self, self.name)(clips)


def test_methods_are_followed_by_the_attributes_that_they_use():
    trainer = Trainer()
    check_held_modules(trainer.embed)
    for method in (trainer.step, trainer.by_name):
        with pytest.raises(ValueError, match="the attribute 'student' of a Trainer is a module"):
            check_held_modules(method)
    trainer.teacher.append = nn.Dropout()
    with pytest.raises(ValueError, match="the attribute 'teacher' of a Trainer is a module"):
        check_held_modules(trainer.embed)


def test_objects_are_followed_by_the_names_that_code_uses():
    class Settings:
        pass

    settings = Settings()
    settings.used, settings.unused = nn.Linear(2, 2), NET
    check_held_modules(lambda clips: settings.used(clips))
    with pytest.raises(ValueError, match=r"the variable 'settings.unused' of '<lambda>'"):
        check_held_modules(lambda clips: settings.unused(clips))


def test_variables_without_a_value_and_endless_references_are_no_error():
    def encoder(clips):
        return late(clips)

    check_held_modules(encoder)
    late = [encoder]
    late.append(late)
    check_held_modules(encoder)
    check_held_modules(torch.mean)
    check_held_modules(len)


def keeps_in_global(part, args, output):
    NET.f = output


def hooked_deeply(module):
    inner = nn.Sequential(nn.Sequential(nn.Sequential(nn.Sequential(nn.Sequential(nn.Identity())))))
    module.append(inner)
    inner[0][0][0][0][0].register_forward_hook(keeps_in_global)
    return module


def of_class(make):
    def build(module):
        module.append(make(module)())
        return module

    return build


def with_method(module):
    class Inner(nn.Module):
        def forward(self, x):
            return module[0](x)

    return Inner


def with_property(module):
    class Inner(nn.Module):
        @property
        def net(self):
            return module[0]

        def forward(self, x):
            return self.net(x)

    return Inner


class Descriptor:
    def __init__(self, module):
        self.module = module

    def __get__(self, item, kind=None):
        return self.module[0]


def with_descriptor(module):
    class Inner(nn.Module):
        net = Descriptor(module)

        def forward(self, x):
            return self.net(x)

    return Inner


def with_tensor(module):
    weight = module[0].weight

    class Inner(nn.Module):
        def forward(self, x):
            return x @ weight

    return Inner


ORIGINALS = {
    "global": (hooked_deeply, "the global 'NET' of 'keeps_in_global' is a Sequential"),
    "method": (of_class(with_method), "the variable 'module' of 'forward' is a Sequential"),
    "property": (of_class(with_property), "the variable 'module' of 'net' is a Sequential"),
    "descriptor": (
        of_class(with_descriptor),
        "the attribute 'module' of a Descriptor is a Sequential",
    ),
    "tensor": (of_class(with_tensor), "the variable 'weight' of 'forward' is a Parameter"),
}


@pytest.mark.fault(124)
@pytest.mark.parametrize("kind", ORIGINALS)
def test_code_of_a_copy_that_uses_the_original_is_refused(kind, monkeypatch):
    make, where = ORIGINALS[kind]
    net = nn.Sequential(nn.Linear(2, 2)).eval()
    monkeypatch.setitem(globals(), "NET", net)
    module = make(net)
    check_held_modules(module)
    with pytest.raises(ValueError, match=rf"{where} of the original.*call encoder.eval\(\) and"):
        private_copy(module, None)
