"""ImageNet's pictures in the files of TensorFlow Datasets (TFDS)."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from keras_densenet.data.picture_files import decode_jpeg
from keras_densenet.data.preparation import builder_of, prepare
from keras_densenet.tensor import Tensor

SPLITS = {"train": "train", "val": "validation"}  # TFDS's names
EPOCHS = 1_000_000  # more than any training has: each has a seed of its own


class ImageNetRecords:
    """ImageNet's pictures as TFDS prepares them: encoded, in an order of their own.

    Args:
        data_dir: Where TFDS keeps its data; None for its default.
        manual_dir: A folder with the two archives that TFDS prepares its files from.
        shuffle_buffer: Encoded pictures in memory while they are shuffled.
        sizes: Number of pictures of each split, "train" and "val", for the time before
            TFDS has counted them.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike | None,
        manual_dir: str | os.PathLike | None,
        shuffle_buffer: int,
        sizes: Mapping[str, int],
    ) -> None:
        self.data_dir = data_dir
        self.manual_dir = manual_dir
        self.shuffle_buffer = shuffle_buffer
        self.sizes = sizes
        self._builder = builder_of("imagenet2012", "ImageNet", data_dir)

    @property
    def class_names(self) -> Sequence[str]:
        """Return the names of the 1,000 classes, such as n01440764."""
        return self._builder.info.features["label"].names

    def prepare(self) -> None:
        """Let TFDS prepare its files from the archives, if it has not yet.

        Raises:
            DataUnavailableError: It cannot; the error names the ways out.
        """
        prepare(
            self._builder,
            title="ImageNet",
            data_dir=self.data_dir,
            manual_dir=self.manual_dir,
        )

    def setup(self, splits: Iterable[str]) -> None:
        """Do nothing: files are read as they are needed."""

    def count(self, split: str) -> int:
        """Return the number of pictures of a split: "train" or "val"."""
        counted = self._builder.info.splits
        name = SPLITS[split]
        return counted[name].num_examples if name in counted else self.sizes[split]

    def shuffled(self, first: int, an_epoch: int, seed: int) -> tf.data.Dataset:
        """Return the (encoded picture, label) of a training that shows each once.

        Args:
            first: Number of the first to return, of all that are ever shown.
            an_epoch: Number of pictures that an epoch shows.
            seed: Seed of their order, which is another one each epoch.
        """
        begun = first // an_epoch

        def epoch(number: Tensor) -> tf.data.Dataset:
            seen = tf.where(number == begun, first % an_epoch, 0)
            shuffled = self._epoch(seed * EPOCHS + number)
            return shuffled.take(an_epoch).skip(tf.cast(seen, tf.int64))

        return tf.data.Dataset.counter(begun).flat_map(epoch)

    def in_order(self, split: str) -> tf.data.Dataset:
        """Return the (encoded picture, label) of a split, once."""
        return self._read(split, shuffle_files=False)

    def decoded(self, encoded: Tensor) -> Tensor:
        """Decode one picture in a graph: uint8 `(H, W, 3)`."""
        return decode_jpeg(encoded)  # TFDS has made JPEGs in RGB of all

    def _epoch(self, seed: Tensor) -> tf.data.Dataset:
        """Return an epoch in an order that depends on `seed` alone, in a graph."""
        # Of this graph alone: else the order would depend on the program's seed, too.
        # Beside 0 TensorFlow would look at `seed`, which has no value yet.
        tf.random.set_seed(1)
        config = tfds.ReadConfig(
            shuffle_seed=seed, try_autocache=False, skip_prefetch=True
        )
        records = self._read("train", shuffle_files=True, read_config=config)
        return records.shuffle(
            self.shuffle_buffer, seed=seed, reshuffle_each_iteration=False
        )

    def _read(self, split: str, **options: Any) -> tf.data.Dataset:
        """Read (encoded picture, label)."""
        return self._builder.as_dataset(
            split=SPLITS[split],
            decoders={"image": tfds.decode.SkipDecoding()},
            as_supervised=True,
            **options,
        )
