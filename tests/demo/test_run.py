"""Which demonstrations run, and what is printed at the end."""

import sys
from types import SimpleNamespace

import pytest

from skdejavid.demo import run
from skdejavid.demo.run import run_demo


@pytest.fixture
def demonstrations(monkeypatch):
    """Demonstrations that only return their picture."""
    import skdejavid.demo.events

    monkeypatch.setattr(run, "classify_vowels", lambda folder: folder / "a.png")
    monkeypatch.setattr(skdejavid.demo.events, "classify_videos", lambda folder: folder / "b.png")


@pytest.mark.usefixtures("demonstrations")
def test_pictures_seconds_and_what_to_try_next_come_last(tmp_path, capsys):
    run_demo(str(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    pictures = [line for line in lines if line.startswith("picture: ")]
    assert pictures == [f"picture: {tmp_path / 'a.png'}", f"picture: {tmp_path / 'b.png'}"]
    assert lines[lines.index(pictures[-1]) + 1].startswith("finished in 0 s")
    assert lines.index("What to try next") > lines.index(pictures[-1])


@pytest.mark.usefixtures("demonstrations")
@pytest.mark.parametrize("package", ["torch", "av"])
def test_without_a_package_for_videos_the_rest_runs(package, tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "skdejavid.demo.events")
    monkeypatch.setitem(sys.modules, package, None)
    run_demo(str(tmp_path))
    printed = capsys.readouterr().out
    assert (
        f"left out: The demonstration with videos needs {package}, which is not installed: "
        "pip install 'skdejavid[demo]'"
    ) in printed
    assert "a.png" in printed
    assert "What to try next" in printed


@pytest.mark.parametrize(
    ("urls", "shown"),
    [
        (["Source, https://a.org", "Documentation, https://b.org/docs"], "https://b.org/docs"),
        (None, "help(skdejavid.DejaVidClassifier)"),
    ],
)
@pytest.mark.usefixtures("demonstrations")
def test_the_documentation_is_where_the_package_says(urls, shown, tmp_path, monkeypatch, capsys):
    package = SimpleNamespace(get_all={"Project-URL": urls}.get)
    monkeypatch.setattr(run, "metadata", {"skdejavid": package}.get)
    run_demo(str(tmp_path))
    assert capsys.readouterr().out.endswith(f"Documentation: {shown}\n")


def test_the_code_that_is_shown_runs_on_a_table(tmp_path, monkeypatch):
    import pandas as pd

    from skdejavid.datasets import load_japanese_vowels

    X, y, _, _ = load_japanese_vowels()
    rows = [
        {"id": i, "time": t, **dict(zip("abc", frame[:3].tolist(), strict=True)), "label": y[i]}
        for i in (*range(6), *range(264, 270))
        for t, frame in enumerate(X[i])
    ]
    monkeypatch.chdir(tmp_path)
    pd.DataFrame(rows).sample(frac=1, random_state=0).to_csv("my.csv", index=False)
    code = [line.strip() for line in run._NEXT.splitlines() if line.startswith("    ")]
    namespace = {}
    exec("\n".join(line for line in code if not line.startswith("skdejavid ")), namespace)
    assert namespace["X"].n_features == 3
    assert namespace["clf"].score(namespace["X"], namespace["y"]) == 1.0
