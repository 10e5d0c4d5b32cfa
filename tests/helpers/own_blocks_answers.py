"""What MONAI's and torchvision's DenseNets of unusual blocks have, and answer.

Of MONAI also those of signals and of volumes, and the losses of 20 steps of SGD.

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

import numpy as np
import pytorch_answers as pytorch

SIZE = 40
STEPS = 20


def pictures(channels, rank=2):
    """Draw two pictures `(2, SIZE, SIZE, channels)`, or signals, or volumes."""
    if rank == 2:
        return pytorch.pictures(SIZE)[..., :channels]
    shape = (2, *(SIZE,) * rank, channels)
    return np.random.default_rng(rank).normal(size=shape).astype("float32")


def batches(rank, classes):
    """Draw four signals or volumes and their classes for each step."""
    rng = np.random.default_rng(10 + rank)
    images = rng.normal(size=(STEPS, 4, *(32,) * rank, 1))
    return images, rng.integers(classes, size=(STEPS, 4))


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
        "monai_signals": _of_rank(1),
        "monai_volumes": _of_rank(3),
    }


def _of_rank(rank):
    from monai.networks.nets import DenseNet

    return DenseNet(
        spatial_dims=rank,
        in_channels=1,
        out_channels=3,
        init_features=8,
        growth_rate=4,
        block_config=(2, 2),
    )


def losses(model, rank, classes):
    """Return the loss of each step of SGD, in float64."""
    import torch

    model = model.double().train()
    how = {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, **how)
    found = []
    for images, labels in zip(*batches(rank, classes), strict=True):
        optimizer.zero_grad()
        logits = model(torch.from_numpy(np.moveaxis(images, -1, 1).copy()))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


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
        _, channels, *sizes = shapes["features.conv0.weight"]
        images = np.moveaxis(pictures(channels, len(sizes)), -1, 1).copy()
        with torch.no_grad():
            logits = model.eval()(torch.from_numpy(images))
        written[library] = {
            "parameters": sum(p.numel() for p in model.parameters()),
            "shapes": shapes,
            "logits": logits.double().tolist(),
        }
        if len(sizes) != 2:
            classes = logits.shape[1]
            written[library]["losses"] = losses(model, len(sizes), classes)
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(written) + "\n")


if __name__ == "__main__":
    main()
