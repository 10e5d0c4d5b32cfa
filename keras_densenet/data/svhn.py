"""Street View House Numbers through TensorFlow Datasets (TFDS)."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np

from keras_densenet.data.arrays import Split
from keras_densenet.data.tfds_arrays import TFDSArrays, read

MOST_HELD_OUT = 60_000  # 4,000 training pictures a class, of 4,659 of the rarest


@dataclass(eq=False, repr=False)
class SVHN(TFDSArrays):
    """SVHN, cropped (Netzer et al. 2011): digits from house numbers, 32x32 pixels.

    As in the paper (section 4.1): 73,257 training and 531,131 additional pictures, of
    which 6,000 are held out for validation, 26,032 for the test; pixels are divided by
    255, nothing is augmented. Of each class 400 training and 200 additional pictures
    are held out, as has been the custom since Sermanet et al. (2012).

    The paper tests the network of the epoch with the lowest validation error, here
    `trainer.test(module, data, ckpt_path="best")`, and not that of the last epoch.

    In memory it takes 1.9 GB, and three times that for a moment while it is read.

    The arguments that are not listed here are those of `TFDSArrays` and of
    `SeededDataModule`.

    Args:
        batch_size: Pictures in a global batch, over all replicas.
        data_dir: Where TFDS keeps its data; by default `TFDS_DATA_DIR`, else TFDS's own
            default, `~/tensorflow_datasets`.
        manual_dir: A folder with the three .mat files, for a machine without a network.
        validation_size: Pictures held out: a multiple of 30 in 0..60,000, two thirds of
            them training and one third additional pictures, the same number of each
            class.
        augment: Whether to shift training pictures by up to 4 pixels.
        mirror: Whether augmentation mirrors them, too: mirrored, few are digits.
        mean: Number that is subtracted from each channel; None for 0.
        std: Number that each channel is divided by; None for 255.

    Raises:
        DataUnavailableError: The data set can be neither found nor downloaded. The
            error, raised in `prepare_data`, names the ways out.
    """

    name, title = "svhn_cropped", "SVHN"
    num_classes = 10
    input_shape = (32, 32, 3)
    class_names = tuple("0123456789")
    mean = (0.0, 0.0, 0.0)
    std = (255.0, 255.0, 255.0)

    _: KW_ONLY
    validation_size: int = 6_000
    augment: bool = False
    mirror: bool = False

    def __post_init__(self) -> None:
        """Check how many pictures are held out."""
        super().__post_init__()
        if not 0 <= self.validation_size <= MOST_HELD_OUT or self.validation_size % 30:
            raise ValueError(
                "validation_size, the pictures held out, must be a multiple of 30 in "
                f"0..{MOST_HELD_OUT:,}: 2 training pictures and 1 additional one of "
                "each of 10 classes; the paper holds out 6,000. "
                f"Received: validation_size={self.validation_size}"
            )

    def load_splits(self, stage: str) -> dict[str, Split]:
        """Read training and additional pictures, in two parts, or the test pictures."""
        builder = self._builder()
        if stage not in ("fit", "validate"):
            return {"test": Split(*read(builder, "test"))}
        a_class = self.validation_size // 30
        parts = [
            held_out(Split(*read(builder, "train")), 2 * a_class),
            held_out(Split(*read(builder, "extra")), a_class),
        ]
        train, val = (_joined(splits) for splits in zip(*parts, strict=True))
        return {"train": train, "val": val}


def held_out(split: Split, a_class: int) -> tuple[Split, Split]:
    """Hold out the last pictures of each class.

    Args:
        split: All pictures.
        a_class: Number of pictures to hold out of each class.

    Returns:
        The pictures that are left, and those that are held out.
    """
    held = np.zeros(len(split), bool)
    for label in np.unique(split.labels):
        (numbers,) = np.nonzero(split.labels == label)
        held[numbers[len(numbers) - a_class :]] = True
    return (
        Split(split.images[~held], split.labels[~held]),
        Split(split.images[held], split.labels[held]),
    )


def _joined(splits: Sequence[Split]) -> Split:
    images, labels = zip(*splits, strict=True)
    return Split(np.concatenate(images), np.concatenate(labels))
