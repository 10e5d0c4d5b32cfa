"""Data sets that fit in memory: CIFAR, SVHN, the digits."""

import abc
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from keras_densenet.data.augment import mirror_and_shift, standardize
from keras_densenet.data.sampling import shuffled
from keras_densenet.data.seeded import SeededDataModule
from keras_densenet.data.strong_augmentation import StrongAugmentation


class Split(NamedTuple):
    """Pictures and their labels, in memory.

    Attributes:
        images: uint8 `(N, H, W, channels)`, an array or a tensor.
        labels: int64 `(N,)`.
    """

    images: Any
    labels: Any

    def __len__(self) -> int:
        """Give the number of pictures."""
        return len(self.labels)

    def on_host(self) -> "Split":
        """Give it as tensors in the computer's memory, not a GPU's."""
        with tf.device("CPU:0"):
            return Split(*(tf.convert_to_tensor(array) for array in self))


class ArrayDataModule(SeededDataModule):
    """A data module over arrays; a subclass says where they come from.

    Args:
        batch_size: Pictures in a global batch, over all replicas.
        augment: Whether training pictures are shifted, and mirrored where `mirrors`.
        seed: Seed of shuffling and augmentation, in 0..2^31 - 1; None draws it from
            Python's `random`, which `keras_densenet.seed_everything` sets.
        mean: Of each channel, in 0..255; None for that of the class.
        std: Of each channel, in 0..255; None for that of the class.
        strong: Mixup, cutmix, cutout, RandAugment; see `StrongAugmentation`.

    Attributes:
        title: What people call the data set.
        mirrors: Whether a mirrored picture is still of its class.
    """

    title: str
    mirrors: bool = True

    def __init__(
        self,
        batch_size: int = 64,
        *,
        augment: bool = True,
        seed: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        strong: dict[str, float] | None = None,
    ) -> None:
        super().__init__(
            batch_size, augment=augment, seed=seed, mean=mean, std=std, strong=strong
        )
        self._splits: dict[str, Split] = {}

    @abc.abstractmethod
    def load_splits(self, stage: str) -> dict[str, Split]:
        """Read the splits that a stage needs: "train", "val", "test"."""

    def setup(self, stage: str) -> None:
        """Read what `stage` needs, once."""
        needed = {"fit": "train", "validate": "val"}.get(stage, "test")
        if needed not in self._splits:
            # Tensors, made once: every dataset that is made of an array would copy it.
            loaded = dict(self.load_splits(stage))
            while loaded:
                name, split = loaded.popitem()
                self._splits[name] = split.on_host()

    def train_dataset(self) -> tf.data.Dataset:
        """Give the batches of the first epoch, whole ones only."""
        return self.train_batches(0).take(self._steps())

    def train_batches(self, step: int) -> tf.data.Dataset:
        """Give the batches of the whole training from batch `step` on.

        A batch is a function of the seed and its number, so that none before it must be
        made. Each epoch is a permutation of its own.
        """
        split, steps = self._splits["train"], self._steps()
        pictures, labels = split
        strong = StrongAugmentation(self.num_classes, self.strong)

        def batch(step: Any) -> tuple[Any, Any]:
            epoch, first = step // steps, step % steps * self.batch_size
            places = first + tf.range(self.batch_size, dtype=tf.int64)
            number = shuffled(places, [self.seed, epoch], len(split))
            seeds = tf.stack([self.seed, step])
            images = strong.pictures(tf.gather(pictures, number), seeds)
            images = self._standardize(images)
            if self.augment:
                images = mirror_and_shift(images, seeds, flip=self.mirrors)
            return strong.batch(images, tf.gather(labels, number), seeds)

        steps_from_here = tf.data.Dataset.counter(step)
        batches = steps_from_here.map(batch, num_parallel_calls=tf.data.AUTOTUNE)
        return batches.prefetch(tf.data.AUTOTUNE)

    def teardown(self, stage: str) -> None:
        """Let go of the arrays."""
        self._splits.clear()

    def _pictures(self, split: str) -> int:
        return len(self._splits[split])

    def _in_order(self, split: str) -> tf.data.Dataset:
        strong = StrongAugmentation(self.num_classes, self.strong)
        batches = tf.data.Dataset.from_tensor_slices(tuple(self._splits[split]))
        batches = batches.batch(self.batch_size).map(
            lambda images, labels: (self._standardize(images), strong.labels(labels)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        return batches.prefetch(tf.data.AUTOTUNE)

    def _standardize(self, images: Any) -> Any:
        return standardize(images, self.mean, self.std)
