"""Hand-written digits as volumes: real data of three dimensions, built in."""

from dataclasses import KW_ONLY, dataclass

import numpy as np

from keras_densenet.data.arrays import ArrayDataModule, Split
from keras_densenet.data.digits import split_digits

SIDE = 16  # of a volume, in voxels: as many as there are shades of gray
AXES = 3


@dataclass(eq=False, repr=False)
class DigitVolumes(ArrayDataModule):
    """1,797 volumes of 16x16x16, each a hand-written digit of scikit-learn's in relief.

    They are not a data set of others, but made of `Digits`. A digit has 8x8 pixels of
    the shades 0 to 16: each becomes a column of 2x2 voxels that is so high. Every third
    digit stands on the volume's bottom, the others on its front and on its side, so
    that no slices along one axis show all of them. 1,257 are for training, 180 for
    validation and 360 for the test, each with the same share of every digit.
    Augmentation shifts them by a voxel and does not mirror them.

    The arguments that are not listed here are those of `ArrayDataModule` and of
    `SeededDataModule`.

    Args:
        mirror: Along which axes augmentation mirrors them, too: mirrored, few are
            digits.
        shift: By how many voxels augmentation shifts at most.
    """

    title = "the digits in relief"
    num_classes = 10
    input_shape = (SIDE, SIDE, SIDE, 1)
    class_names = tuple("0123456789")
    mean = (77.7,)  # of the training volumes; a test computes them
    std = (117.4,)

    _: KW_ONLY
    mirror: bool | tuple[int, ...] = False
    shift: int = 1

    def load_splits(self, stage: str) -> dict[str, Split]:
        """Make the three splits, which are the same in every run."""
        return {name: _in_relief(*digits) for name, digits in split_digits().items()}


def _in_relief(gray: np.ndarray, labels: np.ndarray) -> Split:
    """Make volumes of digits, uint8 `(N, 8, 8)` in 0..255."""
    shades = np.round(gray / (255 / SIDE)).astype(int)  # 0..16
    base = shades.repeat(2, axis=1).repeat(2, axis=2)[:, np.newaxis]  # (N, 1, 16, 16)
    heights = np.arange(SIDE).reshape(1, SIDE, 1, 1)
    volumes = np.where(heights < base, np.uint8(255), np.uint8(0))  # (N, D, H, W)
    for turn in range(1, AXES):
        some = slice(turn, None, AXES)
        axes = np.roll([1, 2, 3], turn)  # in turn: two that change places would mirror
        volumes[some] = volumes[some].transpose(0, *axes)
    return Split(volumes[..., np.newaxis], labels)
