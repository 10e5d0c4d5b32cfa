"""Hand-written digits that come with scikit-learn: real data without a network."""

from dataclasses import KW_ONLY, dataclass

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_densenet.data.arrays import ArrayDataModule, Split

VAL_SIZE = 180
TEST_SIZE = 360


@dataclass(eq=False, repr=False)
class Digits(ArrayDataModule):
    """1,797 hand-written digits (Alpaydin and Kaynak 1998), as 32x32 RGB pictures.

    scikit-learn ships them as 8x8 pixels; every pixel becomes a square of 4x4. 1,257
    are for training, 180 for validation and 360 for the test, each with the same share
    of every digit. Augmentation shifts them and does not mirror them.

    The arguments that are not listed here are those of `ArrayDataModule` and of
    `SeededDataModule`.

    Args:
        mirror: Whether augmentation mirrors them, too: mirrored, few are digits.
    """

    title = "the digits"
    num_classes = 10
    input_shape = (32, 32, 3)
    class_names = tuple("0123456789")
    mean = (77.8, 77.8, 77.8)  # of the training pictures; a test computes them
    std = (95.8, 95.8, 95.8)

    _: KW_ONLY
    mirror: bool = False

    def load_splits(self, stage: str) -> dict[str, Split]:
        """Read the three splits, which are the same in every run."""
        return {name: _enlarged(*digits) for name, digits in split_digits().items()}


def split_digits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the digits of each split: uint8 `(N, 8, 8)`, and which they are, `(N,)`.

    Each split has the same share of every digit.
    """
    pixels, labels = load_digits(return_X_y=True)  # (1797, 64), in 0..16
    gray = np.round(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    labels = labels.astype(np.int64)
    gray, test_gray, labels, test_labels = train_test_split(
        gray, labels, test_size=TEST_SIZE, stratify=labels, random_state=0
    )
    gray, val_gray, labels, val_labels = train_test_split(
        gray, labels, test_size=VAL_SIZE, stratify=labels, random_state=0
    )
    return {
        "train": (gray, labels),
        "val": (val_gray, val_labels),
        "test": (test_gray, test_labels),
    }


def _enlarged(gray: np.ndarray, labels: np.ndarray) -> Split:
    """Make RGB pictures of 32x32 pixels."""
    large = gray.repeat(4, axis=1).repeat(4, axis=2)  # (N, 32, 32)
    return Split(large[..., np.newaxis].repeat(3, axis=3), labels)
