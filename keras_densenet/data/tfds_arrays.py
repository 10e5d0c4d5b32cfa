"""Data sets of TensorFlow Datasets (TFDS) that fit in memory."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from keras_densenet.data.arrays import ArrayDataModule
from keras_densenet.data.preparation import builder_of, prepare, readable

READ = 5_000  # pictures at a time


class TFDSArrays(ArrayDataModule):
    """A data set of TFDS in memory; a subclass says which, and how it is split.

    Args:
        batch_size: Pictures in a global batch, over all replicas.
        data_dir: Where TFDS keeps its data; by default `TFDS_DATA_DIR`, else TFDS's own
            default, `~/tensorflow_datasets`.
        manual_dir: A folder with the archives, for a machine without a network.
        download: Whether to download what is neither prepared nor in `manual_dir`.
        validation_size: Training pictures held out.
        augment: Whether to augment training pictures.
        seed: Seed of shuffling and augmentation; see `ArrayDataModule`.
        mean: Of each channel, in 0..255; None for the authors'.
        std: Of each channel, in 0..255; None for the authors'.
        strong: Mixup, cutmix, cutout, RandAugment; see `StrongAugmentation`.

    Attributes:
        name: Of the data set in TFDS.
    """

    name: str

    def __init__(
        self,
        batch_size: int = 64,
        data_dir: str | os.PathLike | None = None,
        *,
        manual_dir: str | os.PathLike | None = None,
        download: bool = True,
        validation_size: int = 0,
        augment: bool = True,
        seed: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        strong: dict[str, float] | None = None,
    ) -> None:
        super().__init__(
            batch_size, augment=augment, seed=seed, mean=mean, std=std, strong=strong
        )
        self.data_dir = data_dir or os.environ.get("TFDS_DATA_DIR")
        self.manual_dir = manual_dir
        self.download = download
        self.validation_size = validation_size

    def prepare_data(self) -> None:
        """Prepare the data set unless it is prepared in `data_dir`."""
        prepare(
            self._builder(),
            title=self.title,
            data_dir=self.data_dir,
            manual_dir=self.manual_dir,
            download=self.download,
        )

    def _builder(self) -> Any:
        return builder_of(self.name, self.title, self.data_dir)


def read(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Read pictures and labels of a split, in the order in which they are stored.

    Raises:
        DataUnavailableError: The files are damaged.
    """
    with readable(builder.name, builder.data_path):
        batches = list(tfds.as_numpy(builder.as_dataset(split=split, batch_size=READ)))
    images, labels = (
        np.concatenate([batch[name] for batch in batches])
        for name in ("image", "label")
    )
    return images, labels
