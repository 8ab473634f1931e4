"""What of torch's modules, hooks and operators decides, and of compiled modules."""

from __future__ import annotations

import sys
from types import FunctionType
from typing import TYPE_CHECKING, Any

from skdejavid.compat.optional import import_optional
from skdejavid.video.libraries import library_of_function
from skdejavid.video.object_graphs import Node, UnknowableError
from skdejavid.video.references import cells_of, content_of

if TYPE_CHECKING:
    import torch
else:
    torch = import_optional("torch", "video", "TSEExtractor")

__all__ = ["left_out_of", "module_parts", "operator_node", "original_module"]

_Parts = list[tuple[str, Any]]

_REGISTERED = ("_parameters", "_buffers", "_modules")

# Hooks that are called before and after `forward`, and where torch stores how they are called.
_HOOKS = {
    "_forward_pre_hooks": ("_forward_pre_hooks_with_kwargs", ""),
    "_forward_hooks": ("_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
}

# Attributes that do not decide, by module and name of the class that has them.
_LEFT_OUT = {
    ("torch.nn.modules.module", "Module"): {
        *_REGISTERED,
        *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs"),
        *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
        *("training", "_non_persistent_buffers_set", "_is_hf_initialized"),
        *("_compiled_call_impl", "_is_torch_compile"),
        *("_backward_hooks", "_backward_pre_hooks", "_is_full_backward_hook"),
        *("_state_dict_hooks", "_state_dict_pre_hooks"),
        *("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
    },
    ("torch.nn.modules.rnn", "RNNBase"): {"_flat_weight_refs"},
    ("torch._dynamo.eval_frame", "OptimizedModule"): {
        *("dynamo_ctx", "forward", "get_compiler_config", "_super_module_initialized"),
        *("_torchdynamo_orig_callable", "_torchdynamo_wrapper_id"),
    },
    # The code that they are translated to counts.
    ("torch.fx.graph_module", "GraphModule"): {"_graph", "_lineno_map", "_prologue_start", "meta"},
    # Where a model comes from, and how it is trained.
    ("transformers.modeling_utils", "PreTrainedModel"): {
        *("name_or_path", "warnings_issued", "_weight_conversions", "_use_kernels"),
    },
    ("transformers.configuration_utils", "PreTrainedConfig"): {
        *("_name_or_path", "_commit_hash", "transformers_version", "architectures", "model_type"),
        *("dtype", "torch_dtype"),
    },
}
_LEFT_OUT_OF_TRANSFORMERS = {"gradient_checkpointing", "_gradient_checkpointing_func"}

# Namespaces of operators that are part of torch.
_TORCHS_OPERATORS = {"aten", "prim", "prims", "quantized"}


def left_out_of(kind: type) -> set[str]:
    """Return names of attributes that do not decide, or that are described apart from others."""
    names = set()
    for base in kind.__mro__:
        names |= _LEFT_OUT.get((base.__module__, base.__qualname__), set())
    if kind.__module__.startswith("transformers."):
        names |= _LEFT_OUT_OF_TRANSFORMERS
    return names


def module_parts(module: torch.nn.Module) -> _Parts:
    """Return modules, parameters, buffers, hooks and the compiler of a module.

    Raises
    ------
    UnknowableError
        If it is TorchScript, whose code cannot be read.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise UnknowableError("is TorchScript, whose code cannot be compared")
    parts: _Parts = []
    for registry in _REGISTERED:
        for name, value in vars(module).get(registry, {}).items():
            parts.append((f".{name}" if name.isidentifier() else f"[{name}]", value))
    return [*parts, *_hooks_of(module), *_foreign_backend(module), *_attention_of(module)]


def _attention_of(module: torch.nn.Module) -> _Parts:
    """Return the function by which a Hugging Face model attends, if the user has registered it."""
    transformers = sys.modules.get("transformers.modeling_utils")
    if transformers is None or not isinstance(module, transformers.PreTrainedModel):
        return []
    name = getattr(module.config, "_attn_implementation", None)
    function = transformers.ALL_ATTENTION_FUNCTIONS.get(name)
    is_users = isinstance(function, FunctionType) and library_of_function(function) is None
    return [(".config._attn_implementation", function)] if is_users else []


def original_module(module: torch.nn.Module) -> torch.nn.Module | None:
    """Return the module that ``torch.compile`` has compiled, if it computes the same, else None.

    As another device does, a compiler of torch changes the last bits at most.
    """
    is_compiled = _is_compiled(module) and not _hooks_of(module) and not _foreign_backend(module)
    return module._modules["_orig_mod"] if is_compiled else None


def _is_compiled(module: torch.nn.Module) -> bool:
    kind = type(module)
    return (kind.__module__, kind.__qualname__) == ("torch._dynamo.eval_frame", "OptimizedModule")


def _hooks_of(module: torch.nn.Module) -> _Parts:
    """Return the hooks of a module, without those of this package."""
    attributes = vars(module)
    parts: _Parts = []
    for registry, (with_kwargs, always) in _HOOKS.items():
        for i, (key, hook) in enumerate(attributes.get(registry, {}).items()):
            function = getattr(hook, "__func__", hook)
            is_own = isinstance(function, FunctionType) and _library_is(function, "skdejavid")
            if not is_own:
                flags = (key in attributes.get(with_kwargs, ()), key in attributes.get(always, ()))
                parts += [(f".{registry}[{i}]", hook), (f".{registry}[{i}].how", flags)]
    return parts


def _foreign_backend(module: torch.nn.Module) -> _Parts:
    """Return with what a module was compiled, if it is no compiler of torch."""
    compiled = vars(module).get("_compiled_call_impl")
    if _is_compiled(module):
        backend: Any = vars(module)["dynamo_ctx"].callback
    elif compiled is None:
        return []
    else:
        backend = content_of(cells_of(compiled)["callback"])
    while hasattr(backend, "_torchdynamo_orig_backend"):
        backend = backend._torchdynamo_orig_backend
    backend = getattr(backend, "compiler_fn", backend)
    if isinstance(backend, FunctionType):
        is_torchs = _library_is(backend, "torch")
    else:
        is_torchs = type(backend).__module__ == "torch"
    return [] if is_torchs else [(".backend", backend)]


def _library_is(function: FunctionType, name: str) -> bool:
    return library_of_function(function) == name


def operator_node(operator: Any) -> Node:
    """Return what decides of an operator of ``torch.ops``: its name, if it is part of torch."""
    name = str(operator)
    if name.partition(".")[0] not in _TORCHS_OPERATORS:
        raise UnknowableError("is a custom operator, whose code cannot be compared")
    return Node(f"operator {name}")
