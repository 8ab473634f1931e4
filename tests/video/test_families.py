"""What encoders see equals what their processors make, for all families of transformers."""

from pathlib import Path

import families
import pytest
import torch
from families import Row, examine, heads

DOCS = Path(__file__).parents[2] / "docs" / "howto" / "encoders.md"

# Families that must work: those that are trained to embed pictures or videos.
WORK = {
    *("aimv2", "align", "altclip", "beit", "bit", "blip", "chinese_clip", "clip", "convnext"),
    *("convnextv2", "cvt", "data2vec-vision", "deit", "dinov2", "dinov2_with_registers", "dpt"),
    *("efficientnet", "flava", "focalnet", "groupvit", "hiera", "ijepa", "levit", "metaclip_2"),
    *("mlcd", "mobilenet_v1", "mobilenet_v2", "mobilevit", "mobilevitv2", "pixio", "poolformer"),
    *("pvt", "pvt_v2", "regnet", "resnet", "segformer", "siglip", "swiftformer", "swin", "swinv2"),
    *("timesformer", "videomae", "vit", "vit_msn", "vivit", "vjepa2", "xclip"),
}
TOLERANCE = 1e-3  # standard deviations


@pytest.fixture(autouse=True)
def _one_thread():
    """Hundreds of small models are faster without threads that wait for each other."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def check(row):
    if row.refused:
        assert row.family not in WORK or not row.embedding, row
        assert len(row.refused) > 20, row
    else:
        assert row.embedding, row
        assert row.difference <= TOLERANCE, row


@pytest.mark.fault(127, 134)
@pytest.mark.parametrize("family", ["clip", "mobilevit", "videomae", "vivit", "vjepa2"])
def test_the_input_is_that_of_the_processor(family, tmp_path):
    row = examine(family, "", tmp_path)
    assert not row.refused
    check(row)


@pytest.mark.slow
@pytest.mark.fault(126, 127, 134)
def test_the_input_is_that_of_the_processor_for_all_families():
    rows = list(families.examine_all())
    for row in rows:
        check(row)
    assert {row.family for row in rows if not row.refused} >= WORK
    assert {row.family for row in rows} == {f for f in families.families() if heads(f)}


def test_the_page_lists_the_families_that_work():
    page = DOCS.read_text()
    assert {family for family in WORK if f"| {family}: `" not in page} == set()


def test_a_difference_would_be_found():
    with pytest.raises(AssertionError):
        check(Row("vit", "ViTModel", "a processor", "`pooler_output`", 0.017))
    with pytest.raises(AssertionError):
        check(Row("vit", "ViTModel", "a processor", "`pooler_output`", refused="a" * 30))
