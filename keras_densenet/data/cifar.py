"""CIFAR through TensorFlow Datasets (TFDS)."""

import os
from typing import Any

import numpy as np
import requests
import tensorflow_datasets as tfds

from keras_densenet.data.arrays import ArrayDataModule, Split

PROBE_SECONDS = 10


class DataUnavailableError(RuntimeError):
    """A data set is neither prepared on this machine nor to be downloaded."""


class CIFAR10(ArrayDataModule):
    """CIFAR-10 (Krizhevsky 2009): 60,000 pictures of 32x32 pixels in 10 classes.

    45,000 are for training, 5,000 of the official training pictures are held out for
    validation, 10,000 are the test (paper, section 4.1). With augmentation it is the
    paper's C10+: standardise, mirror, pad 4 in mean colour, cut out 32x32.

    Args:
        batch_size: Pictures in a global batch, over all replicas.
        data_dir: Where TFDS keeps its data; by default `TFDS_DATA_DIR`, else TFDS's own
            default, `~/tensorflow_datasets`.
        download: Whether to download what is not prepared in `data_dir`.
        validation_size: Training pictures held out, 0..49,999. The paper's final runs
            train on all: 0.
        augment: Whether to mirror and shift training pictures.
        seed: Seed of shuffling and augmentation; see `ArrayDataModule`.

    Raises:
        DataUnavailableError: In `prepare_data`, with the ways out.
    """

    num_classes = 10
    input_shape = (32, 32, 3)
    class_names = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    mean = (125.3, 123.0, 113.9)  # the authors' constants
    std = (63.0, 62.1, 66.7)

    def __init__(
        self,
        batch_size: int = 64,
        data_dir: str | os.PathLike | None = None,
        *,
        download: bool = True,
        validation_size: int = 5_000,
        augment: bool = True,
        seed: int | None = None,
    ) -> None:
        super().__init__(batch_size, augment=augment, seed=seed)
        if not 0 <= validation_size < 50_000:
            raise ValueError(
                "validation_size, the training pictures held out, must be in "
                f"0..49,999; the paper holds out 5,000. Received: {validation_size}"
            )
        self.data_dir = data_dir or os.environ.get("TFDS_DATA_DIR")
        self.download = download
        self.validation_size = validation_size

    def prepare_data(self) -> None:
        """Download CIFAR-10 unless it is prepared in `data_dir`."""
        builder = self._builder()
        if builder.is_prepared():
            return
        if not self.download:
            raise DataUnavailableError(self._ways_out("download=False"))
        try:
            _probe(builder)
            builder.download_and_prepare()
        except (OSError, tfds.download.DownloadError) as error:
            reason = f"{type(error).__name__} while downloading"
            raise DataUnavailableError(self._ways_out(reason)) from error

    def load_splits(self, stage: str) -> dict[str, Split]:
        """Read the training pictures, in two parts, or the test pictures."""
        builder = self._builder()
        if stage in ("fit", "validate"):
            images, labels = _read(builder, "train")
            first = len(labels) - self.validation_size
            return {
                "train": Split(images[:first], labels[:first]),
                "val": Split(images[first:], labels[first:]),
            }
        return {"test": Split(*_read(builder, "test"))}

    def _builder(self) -> Any:
        return tfds.builder("cifar10", data_dir=self.data_dir)

    def _ways_out(self, reason: str) -> str:
        where = self.data_dir or "~/tensorflow_datasets"
        return (
            f"CIFAR-10 is not prepared in {where}, and cannot be downloaded "
            f"({reason}). Three ways out: (1) name a folder that has it, with "
            "--data-dir, data_dir= or TFDS_DATA_DIR; (2) on a machine with a network "
            "run `tfds build cifar10 --data_dir FOLDER`, and copy the folder here; (3) "
            "use the hand-written digits that are built in: --data digits, or "
            "keras_densenet.data.Digits()."
        )


def _probe(builder: Any) -> None:
    """Ask the data set's server for a sign of life; TFDS would retry for minutes."""
    for url in builder.url_infos:
        requests.head(url, timeout=PROBE_SECONDS, allow_redirects=True)


def _read(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    examples = builder.as_dataset(split=split, batch_size=-1)
    return examples["image"].numpy(), examples["label"].numpy()
