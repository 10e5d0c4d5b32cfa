"""A process that trains PyTorch's DenseNet-BC on written batches.

See `loss_curves.py`. `losses_torch_perturbed` begins with each weight multiplied by
1 + 1e-7 times normal noise, about one rounding of a float32.
`losses_torch_channels_first` has maps (N, C, H, W) in the memory, not (N, H, W, C), for
which PyTorch has other kernels, which add up in another order.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import worker
import written_batches
from torch import nn
from torch_worker import densenet_bc

VARIANTS = ["losses_torch", "losses_torch_perturbed", "losses_torch_channels_first"]
NOISE = 1e-7


def load(model: nn.Module, path: Path) -> None:
    """Load weights that have torchvision's names, whose order the model has."""
    saved = torch.load(path)
    names = model.state_dict()
    model.load_state_dict(dict(zip(names, saved.values(), strict=True)))


@torch.no_grad()
def perturb(model: nn.Module, seed: int = 1) -> None:
    """Multiply each trainable weight by 1 + 1e-7 times normal noise."""
    rng = np.random.default_rng(seed)
    for weight in model.parameters():
        factors = 1 + NOISE * rng.standard_normal(tuple(weight.shape))
        weight.copy_(weight.double() * torch.tensor(factors))


def training_step(
    model: nn.Module, layout: torch.memory_format
) -> Callable[[np.ndarray, np.ndarray], float]:
    """Return a function that takes a step of the authors' recipe."""
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=0.1,
        momentum=0.9,
        dampening=0,
        weight_decay=1e-4,
        nesterov=True,
    )

    def step(images: np.ndarray, labels: np.ndarray) -> float:
        model.train()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(
            model(pictures(images, layout)), torch.from_numpy(labels)
        )
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def pictures(images: np.ndarray, layout: torch.memory_format) -> torch.Tensor:
    """Return pictures (N, H, W, 3) as (N, 3, H, W), in a layout of the memory."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=layout)


def main() -> None:
    """Train on the batches, as many steps as the input asks for."""
    arguments = worker.parse(VARIANTS)
    is_first = arguments.variant == "losses_torch_channels_first"
    layout = torch.contiguous_format if is_first else torch.channels_last
    model = densenet_bc(arguments.depth, arguments.growth_rate, efficient=False)
    load(model, Path(arguments.folder) / written_batches.WEIGHTS)
    if arguments.variant == "losses_torch_perturbed":
        perturb(model)
    model = model.to(memory_format=layout)

    @torch.no_grad()
    def classes(images: np.ndarray) -> np.ndarray:
        return model.eval()(pictures(images, layout)).argmax(1).numpy()

    written_batches.serve(
        arguments,
        training_step(model, layout),
        classes,
        worker.versions(torch=torch.__version__),
    )


if __name__ == "__main__":
    main()
