"""Hand-written digits on photographs, with masks: real data for each pixel."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from keras_densenet.data.cifar import CIFAR10
from keras_densenet.data.crops import Size
from keras_densenet.data.digits import split_digits
from keras_densenet.data.mask_files import mask_picture
from keras_densenet.data.mask_folder import MaskFolder
from keras_densenet.pixel_classes import VOID

SIDE = 32  # of a picture, in pixels
SCENES = {"train": 4_000, "val": 500, "test": 500}
DIGITS = (1, 2)  # in a picture, least and most
SIZES = (13, 20)  # of a digit, least and most, in pixels
TRIES = 50  # to find a place for a digit, and a color
SHADES = 60  # digits are so far from black, or from white, at most
CONTRAST = 100  # of a digit to what is behind it, of 3 * 255, at least
INK, EDGE = 128, 64  # from so much of 255 on a pixel is the digit's, or nobody knows
# Photographs are divided from left to right, so that no part is in two splits.
PARTS = {"train": (0.0, 0.7), "val": (0.7, 0.8), "test": (0.8, 1.0)}


@dataclass(eq=False, repr=False)
class DigitScenes(MaskFolder):
    """5,000 pictures of 32x32 with up to two digits on photographs, and their masks.

    They are not a data set of others, but made of scikit-learn's hand-written digits
    and of photographs: parts of the two that scikit-learn has, or pictures of CIFAR-10.
    4,000 are for training, 500 for validation and 500 for the test; no digit and no
    background is in two splits. A digit is 13 to 20 pixels high, nearly white or nearly
    black. A pixel's class is the digit that it is ink of, or the background; the soft
    edge of a digit is void. The files are written once, and laid out as `MaskFolder`
    has them.

    The arguments that are not listed here are those of `MaskFolder`.

    Args:
        root: Where the files are, or are written to; by default in Keras's own folder,
            `~/.keras/datasets`.
        backgrounds: "photos" for those of scikit-learn, "cifar10" for CIFAR-10.
        data_dir: Where TensorFlow Datasets keeps CIFAR-10; see `CIFAR10`.
        mirror: Whether augmentation mirrors them, too: mirrored, few are digits.

    Raises:
        DataUnavailableError: CIFAR-10 can be neither found nor downloaded. The error,
            raised in `prepare_data`, names the ways out.
    """

    title = "digits on photographs"
    crop_area = (0.6, 1.0)

    root: str | os.PathLike = ""
    classes: tuple[str, ...] = ("background", *"0123456789")
    batch_size: int = 32
    image_size: Size = SIDE
    _: KW_ONLY
    backgrounds: Literal["photos", "cifar10"] = "photos"
    data_dir: str | os.PathLike | None = None
    mirror: bool = False
    fit: str | None = "squash"

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        if self.backgrounds not in ("photos", "cifar10"):
            raise ValueError(
                'backgrounds must be "photos" or "cifar10". Received: '
                f"backgrounds={self.backgrounds!r}"
            )

    @property
    def folder(self) -> Path:
        """Return the folder of these files."""
        keras_home = os.environ.get("KERAS_HOME", "~/.keras")
        own = Path(keras_home) / "datasets" / "digit_scenes"
        return Path(self.root or own).expanduser() / self.backgrounds

    def prepare_data(self) -> None:
        """Write the files, unless they are there: all, or none."""
        if self.folder.is_dir():
            return
        photographs = _photos() if self.backgrounds == "photos" else self._cifar10()
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as beside:
            folder = Path(beside) / "scenes"
            for split, digits in split_digits().items():
                for name in ("images", "masks"):
                    (folder / split / name).mkdir(parents=True)
                scenes = _scenes(split, *digits, photographs[split])
                for number, scene in enumerate(scenes):
                    scene.write(folder / split, f"{number:04d}.png")
            try:
                folder.rename(self.folder)
            except OSError:  # another process was faster
                if not self.folder.is_dir():
                    raise

    def _cifar10(self) -> dict[str, np.ndarray]:
        data = CIFAR10(1, self.data_dir)
        data.prepare_data()
        splits = data.load_splits("fit") | data.load_splits("test")
        return {name: np.asarray(split.images) for name, split in splits.items()}


class _Scene(NamedTuple):
    picture: np.ndarray  # uint8 (SIDE, SIDE, 3)
    mask: np.ndarray  # uint8 (SIDE, SIDE)

    def write(self, folder: Path, name: str) -> None:
        """Write a picture, and its mask as a palette picture."""
        Image.fromarray(self.picture).save(folder / "images" / name)
        mask_picture(self.mask).save(folder / "masks" / name)


def _photos() -> dict[str, np.ndarray]:
    """Return windows of the two photographs: uint8 `(N, SIDE, SIDE, 3)` by split."""
    rng = np.random.default_rng(0)
    found: dict[str, list[np.ndarray]] = {split: [] for split in PARTS}
    photographs = [Image.fromarray(photo) for photo in load_sample_images().images]
    for split, (left, right) in PARTS.items():
        for number in range(SCENES[split]):
            photo = photographs[number % len(photographs)]
            begin, end = int(left * photo.width), int(right * photo.width)
            side = int(rng.integers(SIDE, min(end - begin, 3 * SIDE)))
            x = int(rng.integers(begin, end - side + 1))
            y = int(rng.integers(photo.height - side + 1))
            window = photo.crop((x, y, x + side, y + side)).resize((SIDE, SIDE))
            found[split].append(np.asarray(window))
    return {split: np.stack(windows) for split, windows in found.items()}


def _scenes(
    split: str, gray: np.ndarray, digits: np.ndarray, photographs: np.ndarray
) -> Iterator[_Scene]:
    """Make the scenes of a split, the same ones in every run.

    Args:
        split: Its name.
        gray: Of its digits, uint8 `(N, 8, 8)`.
        digits: Which these are, `(N,)`.
        photographs: The backgrounds, uint8 `(N, SIDE, SIDE, 3)`.
    """
    rng = np.random.default_rng(len(digits))
    for number in range(SCENES[split]):
        picture = photographs[number % len(photographs)].astype("float32")
        mask = np.zeros((SIDE, SIDE), np.uint8)
        for _ in range(rng.integers(DIGITS[0], DIGITS[1] + 1)):
            n = rng.integers(len(digits))
            _draw(picture, mask, gray[n], digits[n] + 1, rng)
        yield _Scene(picture.round().clip(0, 255).astype(np.uint8), mask)


def _draw(
    picture: np.ndarray,
    mask: np.ndarray,
    gray: np.ndarray,
    number: int,
    rng: np.random.Generator,
) -> None:
    """Draw a digit where there is none, in a color that is not that behind it.

    Args:
        picture: Drawn on, float32 `(SIDE, SIDE, 3)`.
        mask: Likewise, uint8 `(SIDE, SIDE)`.
        gray: The digit, uint8 `(8, 8)`.
        number: Its class.
        rng: Draws place, size and color.
    """
    side = int(rng.integers(SIZES[0], SIZES[1]))
    large = Image.fromarray(gray).resize((side, side), Image.Resampling.BICUBIC)
    ink = np.asarray(large)
    for _ in range(TRIES):
        y, x = rng.integers(SIDE - side + 1, size=2)
        place = (slice(y, y + side), slice(x, x + side))
        is_dark = picture[place].mean() < 128
        color = rng.uniform(0, SHADES, 3) + is_dark * (255 - SHADES)
        contrast = np.abs(color - picture[place]).sum(-1).min()
        if contrast < CONTRAST or mask[place].any():
            continue
        share = ink[..., np.newaxis] / 255
        picture[place] = share * color + (1 - share) * picture[place]
        mask[place] = np.where(ink >= INK, number, np.where(ink >= EDGE, VOID, 0))
        return
