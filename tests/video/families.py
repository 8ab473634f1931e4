"""Small models of all families of transformers that take pictures or videos."""

import torch
import transformers
from transformers.models.auto.auto_mappings import VIDEO_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.image_processing_auto import (
    IMAGE_PROCESSOR_MAPPING_NAMES,
    get_image_processor_class_from_name,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)

from skdejavid.video.torch_processors import make_video_processor

SIZE = 32  # of the input of most small models

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
    **dict.fromkeys(("num_frames", "frames_per_clip"), 4),
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
    **{"in_channels": [8], "out_channels": [16], "kernel_sizes": [3], "strides": [2]},
    **{"num_block_repeats": [1], "expand_ratios": [1], "hidden_dim": 16},
    **{"width_coefficient": 1.0, "depth_coefficient": 1.0, "image_size": SIZE},
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
    names = IMAGE_PROCESSOR_MAPPING_NAMES.get(model_type, {})
    name = names.get("pil") or names.get("torchvision")
    if name is None:
        return None
    try:
        return get_image_processor_class_from_name(name)(**settings)
    except ImportError:
        return None


def video_processor(model_type, **settings):
    """Return the video processor of a family, or None if it has none without torchvision."""
    name = VIDEO_PROCESSOR_MAPPING_NAMES.get(model_type, {}).get("torchvision")
    if name is None:
        return None
    try:
        return make_video_processor({"video_processor_type": name, **settings}, model_type)
    except ValueError:
        return None
