"""A process that makes training batches as torchvision does, with PIL and a DataLoader.

The transforms are torchvision's for PIL, call by call: RandomCrop with padding or
RandomResizedCrop (bicubic), RandomHorizontalFlip, ToTensor, Normalize.
"""

import time

STARTED = time.perf_counter()  # before what takes seconds to import

import math  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
import worker  # noqa: E402
from PIL import Image, ImageOps  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402

VARIANTS = ["cifar_torch", "jpeg_torch"]
MEAN = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
STD = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)


class Pixels(Dataset):
    """Random pixels of CIFAR-10's size, shifted and mirrored."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (50_000, 32, 32, 3), dtype=np.uint8)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        """Return one picture and its label."""
        image = ImageOps.expand(Image.fromarray(self.images[number]), 4)
        left, top = random.randint(0, 8), random.randint(0, 8)
        return finished(image.crop((left, top, left + 32, top + 32))), 0


class Folder(Dataset):
    """JPEGs, cropped at random and resized to 224."""

    def __init__(self, folder: str) -> None:
        self.paths = sorted(Path(folder).rglob("*.jpg"))

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.paths)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        """Return one picture and its label."""
        with Image.open(self.paths[number]) as file:
            image = file.convert("RGB")
        crop = image.crop(window(*image.size))
        return finished(crop.resize((224, 224), Image.Resampling.BICUBIC)), 0


def window(width: int, height: int) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a random crop."""
    for _ in range(10):
        area = width * height * random.uniform(0.08, 1.0)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = random.randint(0, width - w), random.randint(0, height - h)
            return left, top, left + w, top + h
    return 0, 0, width, height


def finished(image: Image.Image) -> torch.Tensor:
    """Mirror half of the pictures, and standardize."""
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
    return (pixels.float().div(255) - MEAN) / STD


def without_end(loader: DataLoader) -> Iterator:
    """Iterate over the batches of epoch after epoch."""
    while True:
        yield from loader


def main() -> None:
    """Make as many batches as the input asks for."""
    arguments = worker.parse(VARIANTS)
    imported = time.perf_counter()
    is_cifar = arguments.variant == "cifar_torch"
    loader = DataLoader(
        Pixels() if is_cifar else Folder(arguments.folder),
        arguments.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=os.cpu_count() or 1,
        persistent_workers=True,
    )
    batches = without_end(loader)
    worker.serve(
        lambda: next(batches),
        STARTED,
        imported,
        worker.versions(torch=torch.__version__),
    )


if __name__ == "__main__":
    main()
