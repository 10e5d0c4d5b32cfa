"""What MONAI's and torchvision's DenseNets of unusual blocks have, and answer.

Run where PyTorch, torchvision and MONAI are, it writes own_blocks_answers.json beside
it:

    python -m venv .venv-monai
    .venv-monai/bin/pip install torch==2.14.1 torchvision==0.29.1 monai==1.6.1
    .venv-monai/bin/python tests/helpers/own_blocks_answers.py

Weights and pictures are drawn by NumPy, as in pytorch_answers.py. It imports nothing of
keras_densenet.
"""

import json
from pathlib import Path

import pytorch_answers as pytorch

SIZE = 40


def pictures(channels):
    """Draw two pictures `(2, SIZE, SIZE, channels)`."""
    return pytorch.pictures(SIZE)[..., :channels]


def networks():
    """Make the networks, with PyTorch's random weights."""
    from monai.networks.nets import DenseNet
    from torchvision.models import densenet

    return {
        "monai": DenseNet(
            spatial_dims=2,
            in_channels=1,
            out_channels=5,
            init_features=24,
            growth_rate=16,
            block_config=(2, 3, 4),
            bn_size=2,
            dropout_prob=0.1,
        ),
        "torchvision": densenet.DenseNet(
            growth_rate=8,
            block_config=(3, 2),
            num_init_features=10,
            bn_size=3,
            num_classes=4,
        ),
    }


def main():
    """Write names and shapes of the weights, the trainable ones' number, and logits."""
    import torch

    written = {}
    for library, model in networks().items():
        shapes = {
            name: list(value.shape)
            for name, value in model.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
        drawn = {
            name: torch.from_numpy(pytorch.weight(name, tuple(shape)))
            for name, shape in shapes.items()
        }
        model.load_state_dict(drawn, strict=False)
        channels = shapes["features.conv0.weight"][1]
        images = torch.from_numpy(pictures(channels).transpose(0, 3, 1, 2).copy())
        with torch.no_grad():
            logits = model.eval()(images)
        written[library] = {
            "parameters": sum(p.numel() for p in model.parameters()),
            "shapes": shapes,
            "logits": logits.double().tolist(),
        }
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(written) + "\n")


if __name__ == "__main__":
    main()
