"""What timm's `features_only` DenseNets give for a picture.

Run where timm is, it writes timm_features.json beside it:

    python -m venv .venv-timm
    .venv-timm/bin/pip install torch==2.14.1 torchvision==0.29.1 timm==1.0.31
    .venv-timm/bin/python tests/helpers/timm_features.py

Weights and pictures are drawn by NumPy, as in pytorch_answers.py. It imports nothing of
keras_densenet.
"""

import json
from pathlib import Path

import numpy as np
import pytorch_answers as pytorch

SIZE = 96
SAMPLES = 50
NAMES = ("densenet121", "densenet161", "densenet169", "densenet201")


def samples(maps):
    """Return some values of maps `(N, H, W, C)`, the same of each shape."""
    places = np.random.default_rng(maps.size).integers(maps.size, size=SAMPLES)
    return np.asarray(maps).reshape(-1)[places]


def main():
    """Write strides, channels, shapes and some values of each network's maps."""
    import timm
    import torch

    written = {}
    for name in NAMES:
        model = timm.create_model(name, pretrained=False, features_only=True).eval()
        drawn = {
            # The name that torchvision has for it, as the package's are.
            key: pytorch.weight(key.replace("features_", "features.", 1), value.shape)
            for key, value in model.state_dict().items()
            if not key.endswith("num_batches_tracked")
        }
        drawn = {key: torch.from_numpy(array) for key, array in drawn.items()}
        model.load_state_dict(drawn, strict=False)
        images = np.moveaxis(pytorch.pictures(SIZE), -1, 1).copy()
        with torch.no_grad():
            maps = [y.permute(0, 2, 3, 1) for y in model(torch.from_numpy(images))]
        written[name] = {
            "reduction": model.feature_info.reduction(),
            "channels": model.feature_info.channels(),
            "module": model.feature_info.module_name(),
            "shapes": [list(y.shape) for y in maps],
            "samples": [samples(y.contiguous().numpy()).tolist() for y in maps],
            "scales": [float(y.abs().max()) for y in maps],
        }
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(written) + "\n")


if __name__ == "__main__":
    main()
