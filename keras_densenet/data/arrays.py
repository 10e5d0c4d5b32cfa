"""Data sets that fit in memory: CIFAR, SVHN, the digits."""

import abc
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_densenet.data import fingerprint
from keras_densenet.data.augment import mirror_and_shift
from keras_densenet.data.sampling import shuffled
from keras_densenet.data.seeded import SeededDataModule
from keras_densenet.data.strong_augmentation import StrongAugmentation
from keras_densenet.tensor import Tensor


class Split(NamedTuple):
    """Pictures and their labels, in memory.

    Attributes:
        images: Pictures, uint8 `(N, H, W, channels)`, an array or a tensor.
        labels: Class numbers, int64 `(N,)`.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.labels)

    def on_host(self) -> "Split":
        """Return the same as tensors in the computer's memory, not in a GPU's."""
        with tf.device("CPU:0"):
            return Split(*(tf.convert_to_tensor(array) for array in self))


@dataclass(eq=False, repr=False)
class ArrayDataModule(SeededDataModule):
    """A data module over arrays; a subclass says where they come from.

    The arguments that are not listed here are those of `SeededDataModule`.

    Args:
        batch_size: Pictures in a global batch, over all replicas.
        augment: Whether training pictures are shifted, and mirrored with `mirror`.

    Attributes:
        title: What people call the data set.
    """

    batch_size: int = 64

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse `mirrors`, which nothing reads: the option is `mirror`."""
        super().__init_subclass__(**kwargs)
        if "mirrors" in vars(cls):
            raise TypeError(
                f"{cls.__name__}.mirrors would not be read: decorate the class with "
                "@dataclass(eq=False, repr=False) and write mirror: bool = False, or "
                "give mirror=False where it is made."
            )

    def __post_init__(self) -> None:
        """Begin with no arrays."""
        super().__post_init__()
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
                _refuse_other_labels(split.labels, self.num_classes, name, self.title)
                self._splits[name] = split.on_host()

    def train_dataset(self) -> tf.data.Dataset:
        """Return the batches of the first epoch, whole ones only."""
        return self.train_batches(0).take(self._steps())

    def train_batches(self, step: int) -> tf.data.Dataset:
        """Return the batches of the whole training from batch `step` on.

        A batch is a function of the seed and of its number, so that none before it must
        be made. Each epoch is a permutation of its own.
        """
        split, steps = self._splits["train"], self._steps()
        pictures, labels = split
        strong = StrongAugmentation(self.num_classes, self.strong)

        def batch(step: Tensor) -> tuple[Tensor, Tensor]:
            epoch, first = step // steps, step % steps * self.batch_size
            places = first + tf.range(self.batch_size, dtype=tf.int64)
            number = shuffled(places, [self.seed, epoch], len(split))
            seeds = tf.stack([self.seed, step])
            images = strong.pictures(tf.gather(pictures, number), seeds)
            images = self._standardized(images)
            if self.augment:
                images = mirror_and_shift(images, seeds, flip=self.mirror)
            return strong.batch(images, tf.gather(labels, number), seeds)

        steps_from_here = tf.data.Dataset.counter(step)
        batches = steps_from_here.map(batch, num_parallel_calls=tf.data.AUTOTUNE)
        return batches.prefetch(tf.data.AUTOTUNE)

    def fingerprint(self) -> dict[str, Any]:
        """Return how many pictures to train and validate on there are, and a hash."""
        read = [split for split in ("train", "val") if split in self._splits]
        return {split: fingerprint.of_arrays(*self._splits[split]) for split in read}

    def teardown(self, stage: str) -> None:
        """Let go of the arrays."""
        self._splits.clear()

    def _pictures(self, split: str) -> int:
        return len(self._splits[split])

    def _in_order(self, split: str) -> tf.data.Dataset:
        strong = StrongAugmentation(self.num_classes, self.strong)
        batches = tf.data.Dataset.from_tensor_slices(tuple(self._splits[split]))
        batches = batches.batch(self.batch_size).map(
            lambda images, labels: (self._standardized(images), strong.labels(labels)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        return batches.prefetch(tf.data.AUTOTUNE)


def _refuse_other_labels(
    labels: Tensor, num_classes: int, split: str, title: str
) -> None:
    """Refuse numbers of no class: their loss would be an error, or NaN on a GPU."""
    numbers = np.asarray(labels)
    if numbers.ndim != 1 or not len(numbers):
        return
    lowest, highest = numbers.min(), numbers.max()
    if lowest < 0 or highest >= num_classes:
        raise ValueError(
            f"The labels of {title} must be class numbers in 0..{num_classes - 1}, as "
            f"num_classes={num_classes} says, and those of its {split} split are in "
            f"{lowest}..{highest}. Count classes from 0, or set num_classes."
        )
