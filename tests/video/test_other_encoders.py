"""A store never returns the rows of another encoder, and those of the same one again."""

import ast
import copy
import json
import os
import pickle
import subprocess
import sys

import encoder_pairs
import numpy as np
import pytest
import torch
from encoder_pairs import CHANGES, PLACES, SOURCES, Layered, draw_pair, run_source, values_of_kinds

from skdejavid import TSEExtractor
from skdejavid.video.fingerprints import fingerprint

VIDEOS = [np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)]
OPTIONS = {"width": 2, "stride": 2, "clip_length": 2, "frame_size": None}
OTHER_ENCODER = "was created with different settings: encoder is"


def rows(encoder, **options):
    return TSEExtractor(encoder, **OPTIONS, **options).transform(VIDEOS)[0]


def check_rows_are_its_own(first, change, store):
    """Check that a store which one encoder has filled is refused to another one."""
    of_first = rows(first, store=store)
    other = change()
    expected = rows(other)
    assert not np.array_equal(of_first, expected)
    with pytest.raises(ValueError, match=OTHER_ENCODER):
        rows(other, store=store)


@pytest.mark.slow
@pytest.mark.fault(125)
@pytest.mark.parametrize("start", range(0, 200, 25))
def test_of_200_pairs_none_returns_the_rows_of_the_first(start, tmp_path):
    for seed in range(start, start + 25):
        what, first, change = draw_pair(seed)
        try:
            check_rows_are_its_own(first, change, tmp_path / f"{seed}")
        except BaseException as error:
            error.add_note(f"seed {seed}: {what}")
            raise


@pytest.mark.slow
@pytest.mark.fault(125)
def test_every_kind_of_value_is_seen_in_every_place():
    pairs = values_of_kinds(np.random.default_rng(0))
    for kind, (one, other) in pairs.items():
        for place, hold in PLACES.items():
            found = [fingerprint(hold(value)) for value in (one, other, one)]
            assert found[0] == found[2] != found[1], (kind, place)


@pytest.mark.fault(125)
@pytest.mark.parametrize("kind", SOURCES)
def test_an_edit_of_code_makes_another_encoder(kind, tmp_path):
    source, edited = (SOURCES[kind].replace("{k}", k) for k in ("21", "34"))
    check_rows_are_its_own(run_source(source), lambda: run_source(edited), tmp_path / "store")


@pytest.mark.fault(125)
@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_of_a_module_makes_another_encoder(kind, tmp_path):
    encoder, rng = Layered(0), np.random.default_rng(0)
    check_rows_are_its_own(encoder, lambda: CHANGES[kind](encoder, rng), tmp_path / "store")


def reformatted(source):
    """Return a source with other lines, comments and docstrings, which computes the same."""
    tree = ast.parse(source)
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            function.body.insert(0, ast.Expr(ast.Constant("What it does.")))
            for argument in function.args.args:
                argument.annotation = ast.Name("object")
    lines = ast.unparse(ast.fix_missing_locations(tree)).splitlines()
    return "\n\n".join(f"{line}  # a comment" for line in lines)


@pytest.mark.parametrize("kind", SOURCES)
def test_comments_and_layout_of_code_do_not_matter(kind):
    source = SOURCES[kind].replace("{k}", "21")
    assert fingerprint(run_source(source)) == fingerprint(run_source(reformatted(source)))


SAME = {
    "copy": copy.deepcopy,
    "pickle": lambda encoder: pickle.loads(pickle.dumps(encoder)),
    "mode": lambda encoder: encoder.train(not encoder.training),
    "gradients": lambda encoder: encoder.requires_grad_(False),
    "order of attributes": lambda encoder: _reversed_attributes(encoder),
    "strides": lambda encoder: _with_strides(encoder),
    "use": lambda encoder: _used(encoder),
}


def _reversed_attributes(encoder):
    attributes = dict(reversed(vars(encoder).items()))
    vars(encoder).clear()
    vars(encoder).update(attributes)
    return encoder


def _with_strides(encoder):
    for parameter in encoder.parameters():
        parameter.data = parameter.data.t().contiguous().t()
    return encoder


def _used(encoder):
    with torch.no_grad():
        encoder(torch.ones(1, 3, 2, 8, 8))
    return encoder


@pytest.mark.slow
@pytest.mark.parametrize("how", SAME)
def test_the_same_encoder_finds_its_rows(how, tmp_path):
    for seed in range(20):
        _, encoder, _ = draw_pair(5 * seed)
        if how == "pickle" and not _is_picklable(encoder):
            encoder = Layered(seed)
        if how == "strides":
            encoder = Layered(seed)
        store = tmp_path / f"{seed}"
        expected = rows(encoder, store=store)
        again = SAME[how](encoder)
        np.testing.assert_array_equal(rows(again, store=store), expected)


def _is_picklable(encoder):
    try:
        pickle.dumps(encoder)
    except (pickle.PicklingError, AttributeError):
        return False
    return True


@pytest.mark.slow
def test_fingerprints_of_100_encoders_are_the_same_in_every_process(tmp_path):
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1])\n"
        "from encoder_pairs import draw_pair\n"
        "from skdejavid.video.fingerprints import fingerprint\n"
        "print(json.dumps([fingerprint(draw_pair(seed)[1]) for seed in range(100)]))"
    )
    folder = os.path.dirname(encoder_pairs.__file__)
    outputs = [
        subprocess.check_output(
            [sys.executable, "-P", "-c", code, folder],
            cwd=tmp_path,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
        )
        for hash_seed in ("1", "2")
    ]
    here = [fingerprint(draw_pair(seed)[1]) for seed in range(100)]
    assert json.loads(outputs[0]) == json.loads(outputs[1]) == here
