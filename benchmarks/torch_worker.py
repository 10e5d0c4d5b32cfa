"""A process that trains one PyTorch variant of DenseNet-BC; see `worker.py`.

`torch_checkpoint` computes each layer's concatenation, batch norm, ReLU and 1x1
convolution again, in the way of efficient_densenet_pytorch.
"""

import time

STARTED = time.perf_counter()  # before what takes seconds to import

from collections.abc import Callable  # noqa: E402

import torch  # noqa: E402
import worker  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

VARIANTS = ["torch", "torch_compile", "torch_checkpoint"]


class DenseLayer(nn.Module):
    """BN-ReLU-1x1 convolution, BN-ReLU-3x3 convolution."""

    def __init__(self, channels: int, growth_rate: int, efficient: bool) -> None:
        super().__init__()
        self.efficient = efficient
        width = 4 * growth_rate
        self.bottleneck = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, width, 1, bias=False),
        )
        self.new = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, growth_rate, 3, padding=1, bias=False),
        )

    def forward(self, *features: torch.Tensor) -> torch.Tensor:
        """Make k new maps of all the maps before."""

        def bottleneck(*features: torch.Tensor) -> torch.Tensor:
            return self.bottleneck(torch.cat(features, 1))

        if self.efficient and any(f.requires_grad for f in features):
            return self.new(checkpoint(bottleneck, *features, use_reentrant=False))
        return self.new(bottleneck(*features))


class DenseBlock(nn.ModuleList):
    """Dense layers, each reading all the maps before it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input's maps and each layer's."""
        features = [x]
        for layer in self:
            features.append(layer(*features))
        return torch.cat(features, 1)


def densenet_bc(depth: int, growth_rate: int, efficient: bool) -> nn.Module:
    """Build the paper's network for 32x32 pictures, as torchvision writes it."""
    channels = 2 * growth_rate
    stem = [nn.Conv2d(3, channels, 3, padding=1, bias=False)]
    sizes = [(depth - 4) // 6] * 3
    return _network(stem, sizes, channels, growth_rate, 10, efficient)


def densenet_121() -> nn.Module:
    """Build DenseNet-121 for 224x224 pictures, as torchvision writes it."""
    stem = [
        nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    ]
    return _network(stem, [6, 12, 24, 16], 64, 32, 1000, efficient=False)


def _network(
    stem: list[nn.Module],
    sizes: list[int],
    channels: int,
    growth_rate: int,
    classes: int,
    efficient: bool,
) -> nn.Module:
    layers = list(stem)
    for i, size in enumerate(sizes):
        if i:
            layers += [
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
                nn.Conv2d(channels, channels // 2, 1, bias=False),
                nn.AvgPool2d(2),
            ]
            channels //= 2
        block = DenseBlock()
        for _ in range(size):
            block.append(DenseLayer(channels, growth_rate, efficient))
            channels += growth_rate
        layers.append(block)
    layers += [
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, classes),
    ]
    return nn.Sequential(*layers)


def training_step(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> Callable:
    """Return a function that takes one step and returns the loss."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True)

    def step() -> float:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main() -> None:
    """Train on one batch of noise, as many steps as the input asks for."""
    arguments = worker.parse(VARIANTS)
    imported = time.perf_counter()
    torch.manual_seed(0)
    efficient = arguments.variant == "torch_checkpoint"
    model = densenet_bc(arguments.depth, arguments.growth_rate, efficient)
    model = model.to(memory_format=torch.channels_last).train()
    if arguments.variant == "torch_compile":
        model = torch.compile(model)
    size = arguments.image_size
    images = torch.randn(arguments.batch_size, 3, size, size)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (arguments.batch_size,))
    worker.serve(
        training_step(model, images, labels),
        STARTED,
        imported,
        worker.versions(torch=torch.__version__),
    )


if __name__ == "__main__":
    main()
