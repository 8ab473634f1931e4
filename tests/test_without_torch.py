"""Everything but videos, tensors and CUDA works where torch is not installed."""

import os
import subprocess
import sys

import numpy as np
import pytest

from skdejavid import TSEStore
from skdejavid.datasets import make_order_sequences


@pytest.fixture
def run(tmp_path):
    """Runs code in a process, and in processes that it starts, in which torch is not installed."""
    stub = tmp_path / "path" / "torch.py"
    stub.parent.mkdir()
    stub.write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    paths = [str(stub.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def run(code):
        return subprocess.check_output(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, text=True
        )

    return run


@pytest.mark.slow
def test_fit_predict_save_load_and_search_need_no_torch(run):
    code = """
import sys
import numpy as np
from sklearn.model_selection import GridSearchCV
from skdejavid import DejaVidClassifier
from skdejavid.datasets import make_order_sequences

X, y = make_order_sequences(24, random_state=0)
clf = DejaVidClassifier(n_epochs=2, random_state=0).fit(X, y)
clf.save("model.safetensors")
loaded = DejaVidClassifier.load("model.safetensors")
assert (loaded.predict_proba(X) == clf.predict_proba(X)).all()
search = GridSearchCV(clf, {"n_timesteps": [4, 6]}, cv=2, n_jobs=2, error_score="raise")
search.fit(X, y).predict(X)
assert "torch" not in sys.modules
print("done")
"""
    assert run(code) == "done\n"


@pytest.mark.slow
def test_the_command_line_needs_no_torch_for_stores(run, tmp_path):
    X, y = make_order_sequences(24, random_state=0)
    store = TSEStore.create(tmp_path / "store", dtype="float32", fingerprint={})
    with store.write() as writer:
        for i, x in enumerate(X):
            writer.append(str(i), x)
        writer.commit()
    TSEStore(tmp_path / "store").set_labels({str(i): f"order {label}" for i, label in enumerate(y)})
    code = """
import sys
from skdejavid.cli import skdejavid

skdejavid(["fit", "store", "-o", "model", "--set", "n_epochs=2"], standalone_mode=False)
skdejavid(["evaluate", "model", "store"], standalone_mode=False)
skdejavid(["predict", "model", "store"], standalone_mode=False)
assert "torch" not in sys.modules
"""
    printed = run(code)
    assert "fitted to" in printed
    assert "top-1 accuracy" in printed
    assert "path,label,probability" in printed


@pytest.mark.slow
def test_the_command_line_names_the_extra_that_encoders_need(run, tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").touch()
    (tmp_path / "encoder.py").write_text("def make():\n    return len\n")
    code = """
import click
from skdejavid.cli import skdejavid

arguments = ["extract", "videos", "-o", "store", "--encoder", "encoder.py:make"]
try:
    skdejavid(arguments, standalone_mode=False)
except click.ClickException as error:
    print(error.message)
"""
    assert "needs torch, which is not installed: pip install 'skdejavid[video]'" in run(code)


@pytest.mark.slow
@pytest.mark.extras
def test_what_needs_torch_names_the_extra_that_brings_it(run, tmp_path):
    import torch

    (tmp_path / "features").mkdir()
    np.save(tmp_path / "features" / "a.npy", np.ones((3, 2)))
    torch.save(torch.ones(3, 2), tmp_path / "features" / "b.pt")
    code = """
from skdejavid import TSEExtractor
from skdejavid.interchange import import_sequences

for use in (
    lambda: import_sequences("features", "store"),
    lambda: TSEExtractor(len).fit(),
    lambda: TSEExtractor(len).transform(["a.mp4"]),
):
    try:
        use()
    except ImportError as error:
        print(error)
"""
    imported, fitted, transformed = run(code).splitlines()
    assert "b.pt needs torch, which is not installed: pip install 'skdejavid[nn]'" in imported
    assert "needs torch, which is not installed: pip install 'skdejavid[video]'" in fitted
    assert transformed == fitted
