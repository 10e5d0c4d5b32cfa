"""A process that trains one PyTorch variant of DenseNet-BC; see `worker.py`.

`torch_checkpoint` computes each layer's concatenation, batch norm, ReLU and 1x1
convolution again, in the way of efficient_densenet_pytorch. `torch_monai` is MONAI's
own network, which is DenseNet-121 alone. `torch_bf16` computes by autocast in bfloat16.
"""

import time

STARTED = time.perf_counter()  # before what takes seconds to import

from collections.abc import Callable, Sequence  # noqa: E402

import torch  # noqa: E402
import worker  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

VARIANTS = ["torch", "torch_bf16", "torch_compile", "torch_checkpoint", "torch_monai"]
IMAGENET = {121: (6, 12, 24, 16)}  # depth: dense layers in each block


class DenseLayer(nn.Module):
    """BN-ReLU-1x1 convolution, BN-ReLU-3x3 convolution."""

    def __init__(
        self, channels: int, growth_rate: int, efficient: bool, rank: int = 2
    ) -> None:
        super().__init__()
        self.efficient = efficient
        width = 4 * growth_rate
        norm, conv = _of_rank("BatchNorm", rank), _of_rank("Conv", rank)
        self.bottleneck = nn.Sequential(
            norm(channels),
            nn.ReLU(inplace=True),
            conv(channels, width, 1, bias=False),
        )
        self.new = nn.Sequential(
            norm(width),
            nn.ReLU(inplace=True),
            conv(width, growth_rate, 3, padding=1, bias=False),
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


def densenet_bc(
    depth: int, growth_rate: int, efficient: bool, rank: int = 2, channels: int = 3
) -> nn.Module:
    """Build the paper's network for small pictures, as torchvision writes it.

    Of rank 1 or 3 it is one of signals or volumes; of depth 121 DenseNet-121.
    """
    if depth in IMAGENET:
        return densenet_121(rank, channels, 10, efficient)
    made = 2 * growth_rate
    stem = [_of_rank("Conv", rank)(channels, made, 3, padding=1, bias=False)]
    sizes = [(depth - 4) // 6] * 3
    return _network(stem, sizes, made, growth_rate, 10, efficient, rank)


def densenet_121(
    rank: int = 2, channels: int = 3, classes: int = 1000, efficient: bool = False
) -> nn.Module:
    """Build DenseNet-121 for 224x224 pictures, as torchvision writes it."""
    stem = [
        _of_rank("Conv", rank)(channels, 64, 7, stride=2, padding=3, bias=False),
        _of_rank("BatchNorm", rank)(64),
        nn.ReLU(inplace=True),
        _of_rank("MaxPool", rank)(3, stride=2, padding=1),
    ]
    return _network(stem, IMAGENET[121], 64, 32, classes, efficient, rank)


def monai_121(rank: int, channels: int) -> nn.Module:
    """Build MONAI's DenseNet-121."""
    from monai.networks.nets import DenseNet121

    return DenseNet121(spatial_dims=rank, in_channels=channels, out_channels=10)


def _of_rank(kind: str, rank: int) -> type[nn.Module]:
    """Return PyTorch's layer of a kind for signals, pictures or volumes."""
    return getattr(nn, f"{kind}{rank}d")


def _network(
    stem: Sequence[nn.Module],
    sizes: Sequence[int],
    channels: int,
    growth_rate: int,
    classes: int,
    efficient: bool,
    rank: int,
) -> nn.Module:
    layers = list(stem)
    for i, size in enumerate(sizes):
        if i:
            layers += [
                _of_rank("BatchNorm", rank)(channels),
                nn.ReLU(inplace=True),
                _of_rank("Conv", rank)(channels, channels // 2, 1, bias=False),
                _of_rank("AvgPool", rank)(2),
            ]
            channels //= 2
        block = DenseBlock()
        for _ in range(size):
            block.append(DenseLayer(channels, growth_rate, efficient, rank))
            channels += growth_rate
        layers.append(block)
    layers += [
        _of_rank("BatchNorm", rank)(channels),
        nn.ReLU(inplace=True),
        _of_rank("AdaptiveAvgPool", rank)(1),
        nn.Flatten(),
        nn.Linear(channels, classes),
    ]
    return nn.Sequential(*layers)


def training_step(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor, in_bfloat16: bool
) -> Callable:
    """Return a function that takes one step and returns the loss."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True)

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
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
    *sides, channels = worker.shape(arguments)
    rank = len(sides)
    # Signals have no layout of their own.
    layout = {2: torch.channels_last, 3: torch.channels_last_3d}.get(
        rank, torch.contiguous_format
    )
    if arguments.variant == "torch_monai":
        model = monai_121(rank, channels)
    else:
        model = densenet_bc(
            arguments.depth, arguments.growth_rate, efficient, rank, channels
        )
    model = model.to(memory_format=layout).train()
    if arguments.variant == "torch_compile":
        model = torch.compile(model)
    images = torch.randn(arguments.batch_size, channels, *sides)
    images = images.to(memory_format=layout)
    labels = torch.randint(0, 10, (arguments.batch_size,))
    worker.serve(
        training_step(model, images, labels, arguments.variant == "torch_bf16"),
        STARTED,
        imported,
        worker.versions(torch=torch.__version__),
    )


if __name__ == "__main__":
    main()
