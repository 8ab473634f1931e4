"""Small Hugging Face models with random weights."""

import torch


def small_model(family):
    """Return a small video classifier: 8 frames of 32 x 32, 24 features, 5 classes."""
    import transformers

    torch.manual_seed(0)
    layers = {
        "hidden_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "num_labels": 5,
        "image_size": 32,
        "patch_size": 16,
        "num_frames": 8,
    }
    predictor = {f"pred_{name}": value for name, value in list(layers.items())[:3]}
    of_family = {
        "VideoMAE": {"tubelet_size": 2},
        "Timesformer": {},
        "Vivit": {"tubelet_size": [2, 16, 16]},
        "VJEPA2": {
            **predictor,
            "mlp_ratio": 1.5,
            "crop_size": 32,
            "frames_per_clip": 8,
            "tubelet_size": 2,
            "num_pooler_layers": 1,
        },
    }
    config = getattr(transformers, f"{family}Config")(**layers | of_family[family])
    return getattr(transformers, f"{family}ForVideoClassification")(config).eval()
