import functools
import importlib
import sys
import types
from importlib.metadata import version

import numpy as np
import pytest
import torch
import transformers

import skdejavid
from skdejavid.video.libraries import (
    is_versioned,
    library_of_class,
    library_of_function,
    library_of_module,
)


def test_installed_modules_have_a_name_and_most_a_version():
    assert library_of_module(torch.nn) == library_of_module(torch._C._nn) == "torch"
    assert library_of_module(np) == "numpy"
    assert library_of_module(sys) == library_of_module(functools) == "python"
    assert library_of_module(skdejavid) == "skdejavid"
    of_transformers = library_of_module(transformers)
    assert of_transformers == f"transformers {version('transformers')}"
    assert is_versioned(of_transformers)
    assert not any(map(is_versioned, ("torch", "numpy", "python", "skdejavid")))


def test_a_distribution_may_have_another_name_than_its_package():
    import yaml

    assert library_of_module(yaml) == f"PyYAML {version('PyYAML')}"


def test_what_the_user_wrote_has_no_library():
    assert library_of_module(sys.modules["__main__"]) is None
    assert library_of_module(sys.modules[__name__]) is None
    assert library_of_module(types.ModuleType("typed")) is None
    assert library_of_function(test_what_the_user_wrote_has_no_library) is None
    assert library_of_function(lambda: 1) is None
    variables = {}
    exec("def f(): pass", variables)
    assert library_of_function(variables["f"]) is None


def test_functions_belong_to_where_they_are_written():
    assert library_of_function(torch.nn.functional.relu) == "torch"
    assert library_of_function(functools.wraps) == "python"
    # The wrapper is torch's, although it has the name of what it wraps.
    assert library_of_function(torch.no_grad()(lambda: 1)) == "torch"
    assert library_of_function(importlib._bootstrap._find_and_load) == "python"


def test_classes_belong_to_the_module_that_has_them_under_their_name(monkeypatch):
    assert library_of_class(torch.nn.Linear) == "torch"
    assert library_of_class(dict) == library_of_class(type(None)) == "python"
    assert library_of_class(types.GeneratorType) == "python"

    class Linear(torch.nn.Module):
        __module__ = "torch.nn.modules.linear"
        __qualname__ = "Linear"

    assert library_of_class(Linear) is None
    assert library_of_class(type("Made", (), {"__module__": "gone"})) is None


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return a function that installs a package with a version, and imports it."""

    def install(name, code, version="1.0", *, metadata=True, url=None):
        folder = tmp_path / name / "lib" / "site-packages"
        folder.mkdir(parents=True)
        (folder / f"{name}.py").write_text(code)
        if metadata:
            info = folder / f"dist_{name}-{version}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Name: dist_{name}\nVersion: {version}\n")
            (info / "RECORD").write_text(f"{name}.py,sha256={hash(code)},1\n../bin/x,sha256=2,3\n")
            if url is not None:
                (info / "direct_url.json").write_text(url)
        monkeypatch.syspath_prepend(folder)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    return install


def test_what_is_found_among_installed_packages_has_the_version_of_its_metadata(installed):
    module = installed("surely_installed", "class A: pass\ndef f(): pass", "2.5")
    assert library_of_module(module) == "dist_surely_installed 2.5"
    assert (
        library_of_class(module.A) == library_of_function(module.f) == "dist_surely_installed 2.5"
    )


def test_a_file_among_them_without_metadata_is_the_users(installed):
    assert library_of_module(installed("without_metadata", "", metadata=False)) is None


def test_what_was_installed_from_a_folder_counts_by_its_files(installed):
    labels = [
        library_of_module(installed(name, code, url="{}"))
        for name, code in [("built_once", "x = 1"), ("built_again", "x = 2")]
    ]
    for label, name in zip(labels, ("built_once", "built_again"), strict=True):
        assert label.startswith(f"dist_{name} 1.0 ")
    assert labels[0].split()[-1] != labels[1].split()[-1]


def test_operators_of_torch_are_torchs_and_others_are_not():
    assert library_of_module(torch.ops) == library_of_module(torch.ops.aten) == "torch"
    assert library_of_module(torch.ops.somebody_elses) is None
