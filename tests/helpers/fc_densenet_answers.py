"""What FC-DenseNets of PyTorch answer, written here from the paper (arXiv 1611.09326).

Run where PyTorch is, it writes fc_densenet_answers.json beside it:

    python -m venv .venv-torch
    .venv-torch/bin/pip install torch==2.14.1
    .venv-torch/bin/python tests/helpers/fc_densenet_answers.py

Weights are drawn by NumPy from the names of our layers, in Keras's shapes; pictures are
drawn by NumPy, too. It imports nothing of keras_densenet.
"""

import json
from pathlib import Path

import numpy as np
from pytorch_answers import weight

EPSILON = 1e-5
CASES = {  # growth rate, layers of each block, classes, height and width
    "even": (4, (2, 3, 2), 5, (12, 16)),
    "odd": (5, (2, 3, 4, 3, 1), 3, (27, 22)),
    "paper": (12, (4,) * 11, 11, (64, 32)),
}


def pictures(name):
    """Draw two pictures `(2, H, W, 3)`."""
    height, width = CASES[name][-1]
    shape = (2, height, width, 3)
    return np.random.default_rng(height).normal(size=shape).astype("float32")


def drawn(path, shape):
    """Draw a weight of Keras by its layer's path and its own name, as `bn/gamma`."""
    layer, _, kind = path.rpartition("/")
    if kind == "kernel":  # (H, W, in, out): fan-in for He-normal
        values = weight(path, (shape[-1], *shape[:-1]))
        return np.moveaxis(values, 0, -1)
    torchs = {"gamma": "weight", "beta": "bias", "bias": "bias"}
    torchs |= {"moving_mean": "running_mean", "moving_variance": "running_var"}
    return weight(f"{layer}/norm.{torchs[kind]}", shape)


class Reference:
    """The network as a function of pictures, from the paper's Tables 1 and 2."""

    def __init__(self, growth_rate, blocks, classes):
        self.k, self.blocks, self.classes = growth_rate, blocks, classes

    def __call__(self, images):
        """Return the probabilities of each pixel's classes `(N, H, W, classes)`."""
        import torch

        x = torch.from_numpy(np.moveaxis(images, -1, 1).copy())
        x = self.convolve(x, "stem_conv", 48, 3)
        pools = len(self.blocks) // 2
        skips = []
        for i in range(1, pools + 1):
            x = torch.cat([x, *self.new_maps(x, i)], 1)
            skips.append(x)
            path = f"transition_down{i}"
            x = self.convolve(self.bn_relu(x, f"{path}/bn"), f"{path}/conv", None, 1)
            x = torch.nn.functional.max_pool2d(x, 2)
        for i in range(1, pools + 1):
            new = torch.cat(self.new_maps(x, pools + i), 1)
            maps = new.shape[1]
            kernel = drawn(f"transition_up{i}/kernel", (3, 3, maps, maps))
            # Keras has (H, W, out, in), and PyTorch (in, out, H, W).
            kernel = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
            up = torch.nn.functional.conv_transpose2d(new, kernel, stride=2)
            skip = skips.pop()
            x = torch.cat([up[:, :, : skip.shape[2], : skip.shape[3]], skip], 1)
        x = torch.cat([x, *self.new_maps(x, 2 * pools + 1)], 1)
        x = self.convolve(x, "classifier", self.classes, 1)
        bias = torch.from_numpy(drawn("classifier/bias", (self.classes,)))
        return torch.softmax(x + bias[:, None, None], 1).permute(0, 2, 3, 1)

    def new_maps(self, x, block):
        """Return the maps of each layer of a dense block."""
        import torch

        new = []
        for i in range(1, self.blocks[block - 1] + 1):
            path = f"dense_block{block}/layer{i}"
            y = self.bn_relu(torch.cat([x, *new], 1), f"{path}/bn")
            new.append(self.convolve(y, f"{path}/conv", self.k, 3))
        return new

    def bn_relu(self, x, path):
        """Normalize with moving statistics, then ReLU."""
        import torch

        kinds = ("moving_mean", "moving_variance", "gamma", "beta")
        vectors = [
            torch.from_numpy(drawn(f"{path}/{kind}", (x.shape[1],))) for kind in kinds
        ]
        return torch.nn.functional.batch_norm(x, *vectors, eps=EPSILON).relu()

    def convolve(self, x, path, maps, size):
        """Convolve to so many maps, as many as there are by None."""
        import torch

        shape = (size, size, x.shape[1], maps or x.shape[1])
        kernel = torch.from_numpy(
            drawn(f"{path}/kernel", shape).transpose(3, 2, 0, 1).copy()
        )
        return torch.nn.functional.conv2d(x, kernel, padding=size // 2)


def main():
    """Write the probabilities of some pixels of each case."""
    import torch

    written = {}
    for name, (growth_rate, blocks, classes, _) in CASES.items():
        with torch.no_grad():
            answers = Reference(growth_rate, blocks, classes)(pictures(name))
        shown = answers.double().numpy()[:, ::3, ::3]
        written[name] = shown.round(6).tolist()
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(written) + "\n")


if __name__ == "__main__":
    main()
