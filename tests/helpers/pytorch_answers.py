"""What torchvision's and timm's DenseNets answer, with weights that all can make.

Run where PyTorch, torchvision and timm are, it writes pytorch_answers.json beside it,
and two small files as PyTorch saves them, in today's format and in that before 1.6:

    python -m venv .venv-torchvision
    .venv-torchvision/bin/pip install torch==2.14.1 torchvision==0.29.1 timm==1.0.31
    .venv-torchvision/bin/python tests/helpers/pytorch_answers.py

Weights and pictures are drawn by NumPy, from the name of each weight. Of each stage a
few values are kept, and its mean and deviation. It imports nothing of keras_densenet.
"""

import json
import zlib
from pathlib import Path

import numpy as np

SIZES = (224, 197)
NETWORKS = ("densenet121", "densenet161", "densenet169", "densenet201")
STAGES = (
    *("features.norm0", "features.denseblock1", "features.transition1"),
    *("features.denseblock2", "features.transition2", "features.denseblock3"),
    *("features.transition3", "features.denseblock4", "features.norm5"),
)
VALUES = 8


def weight(name, shape):
    """Draw a weight of PyTorch's shape: kernels He-normal, positive variances."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape).astype("float32")
    if len(shape) > 1:
        fan_in = np.prod(shape[1:])
        return rng.normal(0, np.sqrt(2 / fan_in), shape).astype("float32")
    is_gamma = "norm" in name and name.endswith("weight")
    return rng.normal(1.0 if is_gamma else 0.0, 0.2, shape).astype("float32")


def pictures(size):
    """Draw two pictures `(2, size, size, 3)`."""
    rng = np.random.default_rng(size)
    return rng.normal(size=(2, size, size, 3)).astype("float32")


def summary(maps):
    """Return a few values of maps `(N, H, W, C)`, and their mean and deviation."""
    flat = np.asarray(maps, "float64").ravel()
    places = np.linspace(0, len(flat) - 1, VALUES).astype(int)
    return [*flat[places], flat.mean(), flat.std()]


def answers(model, size):
    """Return the logits and stages of a network of PyTorch."""
    import torch

    found, hooks = {}, []
    for name, module in model.named_modules():
        if name in STAGES:

            def keep(module, inputs, output, name=name):
                # A dense block of torchvision and timm returns all maps, concatenated.
                found[name] = summary(output.permute(0, 2, 3, 1).numpy())

            hooks.append(module.register_forward_hook(keep))
    images = torch.from_numpy(pictures(size).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        logits = model.eval()(images)
    for hook in hooks:
        hook.remove()
    return {"logits": logits[:, ::50].double().tolist(), "stages": found}


def views():
    """Return tensors of all kinds: transposed, sharing storage, of other precisions."""
    import torch

    numbers = torch.arange(12, dtype=torch.float32)
    return {
        "matrix": numbers.reshape(3, 4),
        "transposed": numbers.reshape(3, 4).T,
        "middle": numbers[5:9],
        "half": torch.tensor([0.5, -2.0], dtype=torch.float16),
        "bfloat16": torch.tensor([0.5, -2.0], dtype=torch.bfloat16),
        "double": torch.tensor([[0.1]], dtype=torch.float64),
        "count": torch.tensor(3),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }


def main():
    """Write the answers of all networks of both libraries."""
    import timm
    import torch
    import torchvision

    makers = {
        "torchvision": lambda name: getattr(torchvision.models, name)(weights=None),
        "timm": lambda name: timm.create_model(name, pretrained=False),
    }
    written = {}
    for library, make in makers.items():
        for name in NETWORKS:
            model = make(name)
            state = {
                key: value
                if key.endswith("num_batches_tracked")
                else torch.from_numpy(weight(key, tuple(value.shape)))
                for key, value in model.state_dict().items()
            }
            model.load_state_dict(state)
            for size in SIZES:
                written[f"{library} {name} {size}"] = answers(model, size)
    for name, is_new in (("new", True), ("old", False)):
        path = Path(__file__).with_name(f"pytorch_{name}.pth")
        torch.save(views(), path, _use_new_zipfile_serialization=is_new)
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(written, indent=None) + "\n")


if __name__ == "__main__":
    main()
