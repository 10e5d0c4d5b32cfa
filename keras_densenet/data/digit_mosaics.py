"""Several hand-written digits in a picture: real data of several labels, built in."""

from dataclasses import KW_ONLY, dataclass
from functools import reduce

import numpy as np

from keras_densenet.data.arrays import ArrayDataModule, Split, folds_among
from keras_densenet.data.datamodule import Members
from keras_densenet.data.digits import split_digits
from keras_densenet.data.folds import Fold

MOSAICS = {"train": 4_000, "val": 500, "test": 1_000}
EMPTY = 0.25  # of the four places, on average
SIDE = 16  # of a digit, in pixels


@dataclass(eq=False, repr=False)
class DigitMosaics(ArrayDataModule):
    """5,500 gray pictures of 32x32, with up to four digits of scikit-learn's in 2x2.

    A picture's labels are the digits that are in it: ten labels, of which it has none
    to four. They are not a data set of others, but made of `Digits`: each split of the
    digits of its own split, so that no digit is in two splits, as no patient may be.

    The arguments that are not listed here are those of `ArrayDataModule` and of
    `SeededDataModule`.

    Args:
        unknown: Share of the training's labels that are not known, 0 <= x < 1.
        mirror: Whether augmentation mirrors them, too: mirrored, few are digits.
    """

    title = "the digit mosaics"
    num_classes = 10
    labels = "several"
    input_shape = (32, 32, 1)
    class_names = tuple("0123456789")
    mean = (58.2,)  # of the training pictures; a test computes them
    std = (89.5,)

    _: KW_ONLY
    unknown: float = 0.0
    mirror: bool = False

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        if not 0 <= self.unknown < 1:
            raise ValueError(
                "unknown is a share of the labels, 0 <= unknown < 1. Received: "
                f"unknown={self.unknown!r}"
            )

    def load_splits(self, stage: str) -> dict[str, Split]:
        """Make the three splits, which are the same in every run."""
        return {
            name: self._mosaics(name, *digits, MOSAICS[name])
            for name, digits in split_digits().items()
        }

    def load_fold(self, fold: Fold) -> tuple[dict[str, Split], Members]:
        """Make 4,500 pictures, each of the digits of its own fold.

        So no digit is in two folds.
        """
        read = split_digits()
        every = Split(*read["train"]).followed_by(Split(*read["val"]))
        numbers = folds_among(every, fold.folds, self.class_names)
        ends = np.linspace(0, MOSAICS["train"] + MOSAICS["val"], fold.folds + 1)
        firsts = ends.astype(int)
        made: dict[str, list[Split]] = {"train": [], "val": []}
        for n, many in enumerate(np.diff(firsts).tolist(), 1):
            split = "val" if n == fold.number else "train"
            made[split].append(self._mosaics(split, *every.at(numbers == n), many))
        splits = {
            name: reduce(Split.followed_by, parts) for name, parts in made.items()
        }
        places = np.arange(firsts[fold.number - 1], firsts[fold.number])
        return splits, Members(places)

    def _mosaics(
        self, split: str, pixels: np.ndarray, digits: np.ndarray, many: int
    ) -> Split:
        """Make the pictures of a split.

        Args:
            split: Its name.
            pixels: Of its digits, uint8 `(N, 8, 8)`.
            digits: Which these are, `(N,)`.
            many: How many pictures to make.
        """
        rng = np.random.default_rng([len(digits), many])
        chosen = rng.integers(len(digits), size=(many, 4))
        is_there = rng.random((many, 4)) >= EMPTY
        large = pixels.repeat(SIDE // 8, axis=1).repeat(SIDE // 8, axis=2)
        parts = large[chosen] * is_there[..., np.newaxis, np.newaxis]
        parts = parts.reshape(many, 2, 2, SIDE, SIDE).transpose(0, 1, 3, 2, 4)
        images = parts.reshape(many, 2 * SIDE, 2 * SIDE, 1).astype(np.uint8)
        labels = np.zeros((many, self.num_classes), np.float32)
        rows, places = np.nonzero(is_there)
        labels[rows, digits[chosen[rows, places]]] = 1
        if split == "train" and self.unknown:
            labels[rng.random(labels.shape) < self.unknown] = np.nan
        return Split(images, labels)
