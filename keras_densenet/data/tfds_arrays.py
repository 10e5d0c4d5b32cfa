"""Data sets of TensorFlow Datasets (TFDS) that fit in memory."""

import os
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from keras_densenet.data.arrays import ArrayDataModule
from keras_densenet.data.preparation import builder_of, prepare, readable

READ = 5_000  # pictures at a time


@dataclass(eq=False, repr=False)
class TFDSArrays(ArrayDataModule):
    """A data set of TFDS in memory; a subclass says which, and how it is split.

    The arguments that are not listed here are those of `SeededDataModule`.

    Args:
        batch_size: Pictures in a global batch, over all replicas.
        data_dir: Where TFDS keeps its data; by default `TFDS_DATA_DIR`, else TFDS's own
            default, `~/tensorflow_datasets`.
        manual_dir: A folder with the archives, for a machine without a network.
        download: Whether to download what is neither prepared nor in `manual_dir`.
        validation_size: Training pictures held out.

    Attributes:
        name: Name of the data set in TFDS.
    """

    name: ClassVar[str]

    data_dir: str | os.PathLike | None = None
    _: KW_ONLY
    manual_dir: str | os.PathLike | None = None
    download: bool = True
    validation_size: int = 0

    def __post_init__(self) -> None:
        """Find out where TFDS keeps its data."""
        super().__post_init__()
        self.data_dir = self.data_dir or os.environ.get("TFDS_DATA_DIR")

    def prepare_data(self) -> None:
        """Prepare the data set unless it is prepared in `data_dir`."""
        prepare(
            self._builder(),
            title=self.title,
            data_dir=self.data_dir,
            manual_dir=self.manual_dir,
            download=self.download,
        )

    def _builder(self) -> tfds.core.DatasetBuilder:
        return builder_of(self.name, self.title, self.data_dir)


def read(
    builder: tfds.core.DatasetBuilder, split: str
) -> tuple[np.ndarray, np.ndarray]:
    """Read pictures and labels of a split, in the order in which they are stored.

    Args:
        builder: TFDS's builder of a data set that is prepared.
        split: Name of the split in TFDS.

    Returns:
        uint8 `(N, H, W, channels)` and int64 `(N,)`.

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
