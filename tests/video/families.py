"""Small models of all families of transformers that take pictures or videos.

``python tests/video/families.py`` writes the tables of docs/howto/encoders.md.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch
import transformers
from PIL import Image
from transformers.models.auto.image_processing_auto import (
    IMAGE_PROCESSOR_MAPPING_NAMES,
    get_image_processor_class_from_name,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)

# The mapping of auto_mappings is not complete before this module is imported.
from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING_NAMES

from skdejavid import TSEExtractor
from skdejavid.video import encoders
from skdejavid.video.encoders import ClipEncoder
from skdejavid.video.geometry import geometry_of
from skdejavid.video.pretrained import check_takes_pictures
from skdejavid.video.processors import input_spec
from skdejavid.video.torch_processors import make_video_processor

# Settings of processors whose pictures are too large for a test.
PROCESSORS = {"donut-swin": {"size": {"height": 64, "width": 48}}}

FRAMES = [(96, 64), (64, 96), (33, 47), (360, 640)]  # height and width

SIZE = 32  # of the input of most small models
N_FRAMES = 4  # of the clips of small models of videos

# Settings of small models, under all names that families have for them.
_SMALL = {
    **dict.fromkeys(("image_size", "crop_size", "input_size"), SIZE),
    **dict.fromkeys(("hidden_size", "embed_dim", "d_model", "pooler_output_size"), 16),
    **dict.fromkeys(("projection_dim", "mit_hidden_size", "pred_hidden_size"), 16),
    **dict.fromkeys(("intermediate_size", "mlp_dim", "mit_intermediate_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "num_layers", "num_pooler_layers"), 1),
    **dict.fromkeys(("pred_num_hidden_layers", "mit_num_hidden_layers"), 1),
    **dict.fromkeys(("num_auxiliary_layers", "depth_coefficient"), 1),
    **dict.fromkeys(("num_attention_heads", "num_heads", "num_key_value_heads"), 2),
    **dict.fromkeys(("pred_num_attention_heads", "mit_num_attention_heads"), 2),
    **dict.fromkeys(("num_frames", "frames_per_clip"), N_FRAMES),
    **{"vocab_size": 99, "max_position_embeddings": 40, "patch_size": 8},
}
_NO_STAGES = {"out_features": None, "out_indices": None}
_FOUR = {"hidden_sizes": [8] * 4, "depths": [1] * 4}
_FOUR_WITH_HEADS = {**_FOUR, "num_attention_heads": [1] * 4}
_CONVOLUTIONS = {"depths": [1, 1], "hidden_sizes": [8, 16], "num_stages": 2, **_NO_STAGES}
_SWIN = {
    **{"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "patch_size": 4},
    **_NO_STAGES,
}
_EFFICIENT_NET = {
    **{"in_channels": [32], "out_channels": [16], "kernel_sizes": [3], "strides": [2]},
    **{"num_block_repeats": [1], "expand_ratios": [1], "hidden_dim": 320},
    **{"width_coefficient": 0.25, "depth_coefficient": 1.0, "image_size": SIZE},
}
_LEVIT = {
    **{"hidden_sizes": [16] * 3, "num_attention_heads": [2] * 3, "depths": [1] * 3},
    **{"key_dim": [4] * 3, "patch_size": 16, "image_size": 64},
}

# Settings of families that need more or other ones.
_SPECIAL = {
    **dict.fromkeys(("beit", "dinov2", "dinov2_with_registers", "pixio"), _NO_STAGES),
    **dict.fromkeys(("swin", "swinv2", "donut-swin"), _SWIN),
    **dict.fromkeys(("convnext", "convnextv2"), _CONVOLUTIONS),
    **dict.fromkeys(("segformer", "glpn", "pvt_v2"), _FOUR_WITH_HEADS),
    "align": _EFFICIENT_NET,
    "bit": {**_CONVOLUTIONS, "embedding_size": 8, "num_groups": 4},
    "cvt": {"embed_dim": [8] * 3, "num_heads": [1, 1, 2]},
    "data2vec-vision": {"out_indices": [0, 0, 0, 0]},
    "dpt": {"backbone_out_indices": [0] * 4, "neck_hidden_sizes": [8] * 4},
    "efficientnet": _EFFICIENT_NET,
    "focalnet": {"embed_dim": 8, "depths": [1] * 4, "hidden_sizes": [8, 16, 32, 32]},
    "hiera": {
        **{"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "patch_size": [7, 7]},
        **{"masked_unit_size": [4, 4], "query_stride": [2, 2], "num_query_pool": 1},
        **{"image_size": [SIZE, SIZE], **_NO_STAGES},
    },
    "levit": _LEVIT,
    "mobilenet_v1": {"depth_multiplier": 0.25},
    "mobilenet_v2": {"depth_multiplier": 0.25},
    "mobilevit": {
        **{"hidden_sizes": [16] * 3, "neck_hidden_sizes": [8] * 7},
        **{"patch_size": 2, "image_size": 64},
    },
    "mobilevitv2": {"width_multiplier": 0.25, "patch_size": 2, "image_size": 64},
    "poolformer": _FOUR,
    "pvt": {**_FOUR_WITH_HEADS, "patch_size": 4},
    "regnet": {**_CONVOLUTIONS, "embedding_size": 8, "groups_width": 8},
    "resnet": {**_CONVOLUTIONS, "embedding_size": 8},
    "swiftformer": {"embed_dims": [8] * 4, "depths": [1] * 4},
    "vivit": {"tubelet_size": [2, 8, 8]},
}


def families():
    """Return the types of models for which transformers has a processor of pictures or videos."""
    with_heads = {
        *MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        *MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES,
    }
    return sorted({*IMAGE_PROCESSOR_MAPPING_NAMES, *VIDEO_PROCESSOR_MAPPING_NAMES, *with_heads})


def model_class(model_type, head=""):
    """Return the class of a family: without head, or the classifier of "image" or "video"."""
    names = {
        "": MODEL_MAPPING_NAMES,
        "image": MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        "video": MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES,
    }[head].get(model_type)
    if names is None:
        return None
    return getattr(transformers, names if isinstance(names, str) else names[0])


def tiny_model(model_type, head=""):
    """Return a small model of a family, with random weights and three classes."""
    kind = model_class(model_type, head)
    settings = kind.config_class().to_dict()
    _shrink(settings, {**_SMALL, **_SPECIAL.get(model_type, {})})
    for part in settings.values():
        if isinstance(part, dict):
            _shrink(part, {**_SMALL, **_SPECIAL.get(model_type, {})})
    settings.update(id2label={i: str(i) for i in range(3)}, label2id={str(i): i for i in range(3)})
    torch.manual_seed(0)
    return kind(kind.config_class.from_dict(settings)).eval()


def _shrink(settings, small):
    """Set those of the `small` settings that there are; lists stay lists."""
    for name, value in small.items():
        old = settings.get(name)
        if name not in settings or (old is None and value is not None):
            continue
        if isinstance(old, list) and isinstance(value, int):
            if name in ("image_size", "patch_size"):
                settings[name] = [value] * len(old)
        else:
            settings[name] = value


def image_processor(model_type, **settings):
    """Return the image processor of a family, or None if it has none without torchvision."""
    family = {"dinov2_with_registers": "dinov2"}.get(model_type, model_type)  # as its files say
    names = IMAGE_PROCESSOR_MAPPING_NAMES.get(family, {})
    name = names.get("pil") or names.get("torchvision")
    if name is None:
        return None
    try:
        return get_image_processor_class_from_name(name)(**settings)
    except ImportError:
        return None


def video_processor(model_type, **settings):
    """Return the video processor of a family, or None if it has none without torchvision."""
    if model_type not in VIDEO_PROCESSOR_MAPPING_NAMES:
        return None
    try:
        return make_video_processor(settings, model_type)
    except ValueError:
        return None


class Row(NamedTuple):
    """What became of a family."""

    family: str
    model: str
    processor: str = "none"
    embedding: str = ""
    difference: float = np.nan  # largest one to the processor, in standard deviations
    refused: str = ""  # why


def examine(model_type, head, folder):
    """Compare what a small model of a family sees with its processor, and find its embedding."""
    kind = model_class(model_type, head)
    name = kind.__name__
    try:
        check_takes_pictures(kind)
    except ValueError as error:
        return Row(model_type, name, refused=reason(error))
    except ImportError:
        return Row(model_type, name, refused="needs a package that is not installed")
    settings = PROCESSORS.get(model_type, {})
    of_video, of_image = video_processor(model_type), image_processor(model_type, **settings)
    if of_video is None and of_image is None:
        return Row(model_type, name, refused="its processor needs torchvision")
    try:
        model = tiny_model(model_type, head)
        embedding = describe_embedding(model)
    except ImportError:
        return Row(model_type, name, refused="needs a package that is not installed")
    except Exception as error:
        model, embedding = None, reason(error)
    is_video = model is not None and input_spec(model).layout == "BTCHW"
    processor = of_video if of_image is None or (is_video and of_video is not None) else of_image
    row = Row(model_type, name, type(processor).__name__, embedding)
    if model is None:
        return row._replace(refused=why_processor_is_refused(processor) or embedding)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    try:
        TSEExtractor(folder).fit()
    except ValueError as error:
        return row._replace(refused=reason(error))
    again = kind.from_pretrained(folder).eval()
    differences = [
        difference(encoder, processor, size, is_video)
        for encoder, sizes in ((str(folder), FRAMES), (again, FRAMES[:1]))
        for size in sizes
    ]
    return row._replace(difference=max(differences))


def why_processor_is_refused(processor):
    try:
        geometry_of(processor)
    except ValueError as error:
        return reason(error)
    return ""


def difference(encoder, processor, size, is_video):
    """Return by how much the input of an encoder differs from what its processor makes."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (N_FRAMES, *size, 3), dtype=np.uint8)
    seen = []

    def record(model, batch):
        seen.append(batch)
        return {"embedding": torch.zeros(len(batch), 2)}

    windows = {"width": N_FRAMES, "stride": N_FRAMES, "clip_length": N_FRAMES}
    extractor = TSEExtractor(encoder, **windows, features="embedding")
    with (
        mock.patch.object(encoders, "run_pretrained", record),
        mock.patch.object(encoders, "_find_head", return_value=None),
    ):
        extractor.transform([frames])
    seen = torch.cat(seen).numpy().reshape(N_FRAMES, *seen[0].shape[-3:])
    made = processor([Image.fromarray(frame) for frame in frames], return_tensors="np")
    (expected,) = (value for key, value in made.items() if key.startswith("pixel_values"))
    expected = np.asarray(expected).reshape(N_FRAMES, *np.asarray(expected).shape[-3:])
    assert seen.shape == expected.shape
    return float(abs(seen - expected).max())


def describe_embedding(model):
    """Return which output of a model is its embedding, and check that it is the one."""
    spec = input_spec(model)
    size = spec.shorter_side or SIZE
    shape = (2, spec.clip_length or 1, 3, size, size)
    clips = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    runner = ClipEncoder(model, layout=spec.layout)
    with runner.session():
        embedding, again = (runner.encode(clips) for _ in range(2))
    np.testing.assert_array_equal(embedding, again)
    batch = torch.from_numpy(clips).float() / 255
    batch = batch if spec.layout == "BTCHW" else batch[:, 0]
    for text, value in candidates(model, batch):
        if value.shape == embedding.shape and np.allclose(value, embedding, atol=1e-5):
            return text
    raise AssertionError(f"the embedding of {type(model).__name__} is none of its outputs")


def candidates(model, batch):
    """Yield the outputs of a model that may be its embedding, and what they are called."""
    for function in ("get_video_features", "get_image_features"):
        if hasattr(model, function) and hasattr(model, "get_text_features"):
            with torch.no_grad():
                output = getattr(model, function)(batch)
            value = output["pooler_output"] if isinstance(output, Mapping) else output
            of_first = value.ndim == 3 and value.shape[1] > 1
            yield (
                f"`{function}`" + (", first token" if of_first else ""),
                value[:, 0] if value.ndim == 3 else value,
            )
            return
    head = next((h for h in ("classifier", "fc", "head") if callable(getattr(model, h, None))), "")
    seen = []
    if "Classification" in type(model).__name__:
        heads = [getattr(model, h, None) for h in ("classifier", "fc", "head")]
        module = next(h for h in heads if h is not None and not isinstance(h, torch.nn.ModuleList))
        head = next(h for h in ("classifier", "fc", "head") if getattr(model, h, None) is module)
        module.register_forward_hook(lambda m, x, y: seen.append((x[0].clone(), y.clone())))
    with torch.no_grad():
        output = model(**{model.main_input_name: batch})
    if seen:
        parts = [part.flatten(1) for part in seen[-1]]
        yield f"input of `{head}`, and logits", torch.cat(parts, dim=1)
    if output.get("pooler_output") is not None:
        yield "`pooler_output`", output["pooler_output"].flatten(1)
    hidden = output.get("last_hidden_state")
    if hidden is not None:
        what = "tokens" if hidden.ndim == 3 else "positions"
        yield (
            f"mean of `last_hidden_state` over {what}",
            hidden.mean(dim=1) if hidden.ndim == 3 else hidden.flatten(2).mean(dim=2),
        )


def reason(error):
    """Return why a model or processor is refused."""
    text = " ".join(str(error).split())
    for begin, end in (("because ", ". Pass"), ("encoder: ", ". Pass"), ("loaded (", "): ")):
        if begin in text:
            return text.partition(begin)[2].partition(end)[0]
    return text


def heads(model_type):
    return [head for head in ("", "image", "video") if model_class(model_type, head) is not None]


def examine_all():
    for model_type in families():
        for head in heads(model_type):
            with tempfile.TemporaryDirectory() as folder:
                yield examine(model_type, head, Path(folder))


def as_tables(rows):
    """Return the table of the families that work, and that of the others by reason."""
    works = ["| family | processor | embedding | largest difference |", "|---|---|---|---|"]
    by_reason = {}
    for row in rows:
        if row.refused:
            why = row.refused.replace(row.model, "").strip()
            by_reason.setdefault(why, []).append(row.family)
        else:
            works.append(
                f"| {row.family}: `{row.model}` | `{row.processor}` | {row.embedding} | "
                f"{row.difference:.1g} |"
            )
    refused = ["| the model ... | families |", "|---|---|"]
    for why, names in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        refused.append(f"| {why} | {', '.join(dict.fromkeys(names))} |")
    return "\n".join(works), "\n".join(refused)


def write_tables(page):
    """Replace the tables of a page, each of which follows a comment."""
    text = page.read_text()
    for number, table in enumerate(as_tables(examine_all()), start=1):
        begin, mark, rest = text.partition(f"<!-- table {number} -->\n")
        text = f"{begin}{mark}\n{table}\n\n{rest[rest.index('<!-- end -->') :]}"
    page.write_text(text)


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    write_tables(Path(__file__).parents[2] / "docs" / "howto" / "encoders.md")
