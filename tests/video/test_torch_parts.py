import copy
import pickle
import sys

import pytest
import torch
from pretrained_models import small_model

from skdejavid.video.fingerprints import fingerprint
from skdejavid.video.object_graphs import UnknowableError, digest_of
from skdejavid.video.object_parts import describe
from skdejavid.video.torch_parts import original_module


def digest(value):
    return digest_of(value, describe, "it")


def layers(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())


def double(module, *arguments):
    return arguments[-1] * 2


def triple(module, *arguments):
    return arguments[-1] * 3


def test_hooks_around_the_forward_pass_count_with_their_order_and_options():
    def with_hooks(*hooks, name="register_forward_hook", **options):
        module = layers()
        for hook in hooks:
            getattr(module[0], name)(hook, **options)
        return digest(module)

    found = [
        digest(layers()),
        with_hooks(double),
        with_hooks(triple),
        with_hooks(double, triple),
        with_hooks(triple, double),
        with_hooks(double, with_kwargs=True),
        with_hooks(double, always_call=True),
        with_hooks(double, name="register_forward_pre_hook"),
        with_hooks(double, name="register_forward_pre_hook", with_kwargs=True),
    ]
    assert len({*found}) == len(found)
    assert with_hooks(double) == found[1]  # although torch has given it another number
    assert with_hooks(double, name="register_full_backward_hook") == found[0]
    assert with_hooks(double, name="register_state_dict_post_hook") == found[0]


def test_hooks_for_all_modules_count():
    module = layers()
    before = fingerprint(module)
    handle = torch.nn.modules.module.register_module_forward_hook(double)
    try:
        assert fingerprint(module) != before
    finally:
        handle.remove()
    assert fingerprint(module) == before


def test_hooks_of_this_package_do_not_count():
    from skdejavid.video.encoders import ClipEncoder

    module = layers()
    before = digest(module)
    encoder = ClipEncoder(module, layout="BCTHW")
    module[0].register_forward_pre_hook(encoder._keep_input, with_kwargs=True)
    module[0].register_forward_hook(encoder._keep_output)
    assert digest(module) == before


def test_the_order_of_submodules_counts():
    one, other = torch.nn.Linear(2, 2), torch.nn.ReLU()
    orders = [{"a": one, "b": other}, {"b": other, "a": one}]
    assert len({digest(torch.nn.ModuleDict(order)) for order in orders}) == 2


@pytest.mark.fault(125)
@pytest.mark.parametrize("wrap", [torch.nn.Sequential, lambda m: layers().append(m)])
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_inside_is_refused_with_its_path(wrap):
    module = wrap(torch.jit.freeze(torch.jit.script(layers().eval())))
    with pytest.raises(UnknowableError, match=r"^it\[[02]\] is TorchScript, whose code cannot be"):
        digest(module)


def test_parametrizations_count():
    def with_parametrization(kind):
        module = layers()
        torch.nn.utils.parametrize.register_parametrization(module[0], "weight", kind())
        return module

    found = [layers(), with_parametrization(torch.nn.Tanh), with_parametrization(torch.nn.Sigmoid)]
    assert len({digest(module) for module in found}) == 3
    assert digest(found[1]) == digest(copy.deepcopy(found[1]))


def test_recurrent_layers_and_their_copies_are_the_same():
    torch.manual_seed(0)
    module = torch.nn.LSTM(2, 3)
    assert (
        digest(module)
        == digest(copy.deepcopy(module))
        == digest(pickle.loads(pickle.dumps(module)))
    )


@pytest.mark.slow
def test_graphs_of_torch_fx_count_by_their_code():
    def traced(activation):
        return torch.fx.symbolic_trace(layers().append(activation))

    module = traced(torch.nn.Tanh())
    found = fingerprint(module)
    assert found.startswith("GraphModule-")
    assert found == fingerprint(traced(torch.nn.Tanh())) == fingerprint(copy.deepcopy(module))
    assert found == fingerprint(pickle.loads(pickle.dumps(module)))
    for node in module.graph.nodes:
        if node.target == "2":
            node.target = "1"
    module.recompile()
    assert fingerprint(module) != found


def mine(graph, inputs):
    return graph.forward


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside of torch
def test_compiling_makes_no_other_encoder_unless_the_compiler_is_unknown():
    module = layers()
    found = fingerprint(module)
    for backend in ("inductor", "eager"):
        compiled = torch.compile(module, backend=backend)
        assert original_module(compiled) is module
        assert fingerprint(compiled) == found
    compiled = torch.compile(module, backend=mine)
    assert original_module(compiled) is None
    assert fingerprint(compiled) != found
    assert fingerprint(compiled) == fingerprint(torch.compile(layers(), backend=mine))
    module.compile(backend="eager")
    assert fingerprint(module) == found
    module.compile(backend=mine)
    assert fingerprint(module) != found
    hooked = torch.compile(layers())
    hooked.register_forward_hook(double)
    assert fingerprint(hooked) != found


def test_operators_of_torch_have_a_name_and_others_are_refused():
    with torch.library._scoped_library("somebodys_operators", "DEF") as library:
        library.define("twice(Tensor x) -> Tensor")
        with pytest.raises(UnknowableError, match="is a custom operator, whose code cannot be"):
            digest(torch.ops.somebodys_operators.twice.default)
        with pytest.raises(UnknowableError, match="is a custom operator, whose code cannot be"):
            digest(lambda x: torch.ops.somebodys_operators.twice(x))
    operators = [torch.ops.aten.relu, torch.ops.aten.relu.default, torch.ops.aten.tanh]
    assert len({digest(operator) for operator in operators}) == 3
    assert digest(lambda x: torch.ops.aten.relu(x)) == digest(lambda x: torch.ops.aten.relu(x))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["VideoMAE", "Timesformer", "Vivit", "VJEPA2"])
def test_a_hugging_face_model_is_the_same_from_memory_and_from_a_folder(family, tmp_path):
    model = small_model(family)
    found = fingerprint(model)
    model.save_pretrained(tmp_path)
    assert fingerprint(model) == found
    loaded = type(model).from_pretrained(tmp_path)
    assert fingerprint(loaded) == found == fingerprint(copy.deepcopy(loaded).train())
    if model.supports_gradient_checkpointing:
        enable = getattr(model, "activation_checkpointing_enable", None)
        (enable or model.gradient_checkpointing_enable)()
        assert fingerprint(model) == found
    model.config.hidden_act = "tanh"
    assert fingerprint(model) != found


@pytest.mark.slow
def test_lists_in_the_settings_of_a_model_are_the_same_from_memory_and_from_a_folder(tmp_path):
    import transformers

    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=(8, 8), depths=(1, 1))
    model = transformers.ResNetModel(config)
    model.save_pretrained(tmp_path)
    loaded = transformers.ResNetModel.from_pretrained(tmp_path)
    assert type(model.config.depths) is not type(loaded.config.depths)
    assert fingerprint(loaded) == fingerprint(model)
    loaded.config.depths = [1, 2]
    assert fingerprint(loaded) != fingerprint(model)


def test_the_attention_that_a_user_has_registered_counts(monkeypatch):
    registry = sys.modules[small_model("VideoMAE").__class__.__mro__[2].__module__]
    model, found = small_model("VideoMAE"), set()
    for attend in (lambda *arguments: 1, lambda *arguments: 2):
        monkeypatch.setitem(registry.ALL_ATTENTION_FUNCTIONS._global_mapping, "mine", attend)
        model.config._attn_implementation_internal = "mine"
        found.add(fingerprint(model))
    assert len(found) == 2
