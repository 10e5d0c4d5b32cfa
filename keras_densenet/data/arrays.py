"""Data sets that fit in memory: CIFAR, SVHN, the digits."""

import abc
import random
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_densenet.data.augment import mirror_and_shift, standardise
from keras_densenet.data.datamodule import DataModule


class Split(NamedTuple):
    """Pictures and their labels, in memory.

    Attributes:
        images: uint8 `(N, H, W, channels)`.
        labels: int64 `(N,)`.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        """Give the number of pictures."""
        return len(self.labels)


class ArrayDataModule(DataModule):
    """A data module over arrays; a subclass says where they come from.

    Args:
        batch_size: Pictures in a global batch, over all replicas.
        augment: Whether training pictures are shifted, and mirrored where `mirrors`.
        seed: Seed of shuffling and augmentation; None draws it from Python's
            `random`, which `keras_densenet.seed_everything` sets.

    Attributes:
        mirrors: Whether a mirrored picture is still of its class.
    """

    mirrors: bool = True

    def __init__(
        self, batch_size: int = 64, *, augment: bool = True, seed: int | None = None
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more. Received: {batch_size}")
        self.batch_size = batch_size
        self.augment = augment
        self.seed = seed
        self._splits: dict[str, Split] = {}

    @abc.abstractmethod
    def load_splits(self, stage: str) -> dict[str, Split]:
        """Read the splits that a stage needs: "train", "val", "test"."""

    def setup(self, stage: str) -> None:
        """Read what `stage` needs, once."""
        needed = {"fit": "train", "validate": "val"}.get(stage, "test")
        if needed not in self._splits:
            self._splits.update(self.load_splits(stage))

    def train_dataset(self) -> tf.data.Dataset:
        """Give the batches of one epoch, whole ones only, shuffled at each pass."""
        split = self._splits["train"]
        if len(split) < self.batch_size:
            raise ValueError(
                f"{len(split)} training pictures do not fill one batch. Use a smaller "
                f"batch_size. Received: batch_size={self.batch_size}"
            )
        seed = random.randrange(2**31) if self.seed is None else self.seed
        # Numbers of pictures are shuffled, not pictures: shuffling is perfect and free.
        numbers = tf.data.Dataset.range(len(split)).shuffle(len(split), seed=seed)
        numbers = numbers.batch(self.batch_size, drop_remainder=True)
        seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True).batch(2)
        pictures, labels = (tf.constant(array) for array in split)

        def batch(number: Any, seed: Any) -> tuple[Any, Any]:
            images = self._standardise(tf.gather(pictures, number))
            if self.augment:
                images = mirror_and_shift(images, seed, flip=self.mirrors)
            return images, tf.gather(labels, number)

        batches = tf.data.Dataset.zip((numbers, seeds))
        batches = batches.map(batch, num_parallel_calls=tf.data.AUTOTUNE)
        return batches.prefetch(tf.data.AUTOTUNE)

    def val_dataset(self) -> tf.data.Dataset | None:
        """Give the validation batches, or None if nothing is held out."""
        return self._in_order("val") if len(self._splits["val"]) else None

    def test_dataset(self) -> tf.data.Dataset:
        """Give the test batches."""
        return self._in_order("test")

    def predict_dataset(self) -> tf.data.Dataset:
        """Give batches of the test pictures, without labels."""
        return self.test_dataset().map(lambda images, labels: images)

    def teardown(self, stage: str) -> None:
        """Let go of the arrays."""
        self._splits.clear()

    def _in_order(self, name: str) -> tf.data.Dataset:
        split = self._splits[name]
        batches = tf.data.Dataset.from_tensor_slices(tuple(split))
        batches = batches.batch(self.batch_size).map(
            lambda images, labels: (self._standardise(images), labels),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        return batches.prefetch(tf.data.AUTOTUNE)

    def _standardise(self, images: Any) -> Any:
        return standardise(images, self.mean, self.std)
