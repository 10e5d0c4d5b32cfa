"""Data sets that fit in memory: CIFAR, SVHN, the digits, arrays of one's own."""

import abc
import copy
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from numbers import Integral
from typing import Any, NamedTuple, Self

import numpy as np
import tensorflow as tf

from keras_densenet.data import fingerprint
from keras_densenet.data.augment import center_window, mirror_and_shift
from keras_densenet.data.datamodule import Members
from keras_densenet.data.folds import Fold, fold_of, folds_of, kept_fold
from keras_densenet.data.label_balance import (
    balancing_class_weight,
    balancing_positive_weight,
    has_label,
)
from keras_densenet.data.raw_arrays import KINDS
from keras_densenet.data.sampling import shuffled
from keras_densenet.data.seeded import SeededDataModule
from keras_densenet.data.strong_augmentation import StrongAugmentation
from keras_densenet.tensor import Tensor

NEEDED = {"fit": "train", "validate": "val", "test": "test"}  # also of other stages


class Split(NamedTuple):
    """Pictures and their labels, in memory.

    Attributes:
        images: Pictures, uint8 `(N, H, W, channels)`, an array or a tensor; or signals
            `(N, T, channels)` or volumes `(N, D, H, W, channels)`.
        labels: Class numbers, int64 `(N,)`.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.labels)

    def at(self, numbers: np.ndarray) -> "Split":
        """Return some of them, of arrays, by their numbers or by a mask."""
        return Split(self.images[numbers], self.labels[numbers])

    def followed_by(self, others: "Split") -> "Split":
        """Return these and others, of arrays."""
        pairs = zip(self, others, strict=True)
        return Split(*(np.concatenate(pair) for pair in pairs))

    def has_label(self, classes: int, several: bool) -> np.ndarray:
        """Return whether each picture has each label, bool `(N, classes)`.

        Args:
            classes: Number of labels.
            several: Whether a picture may have several; else those of a matrix are
                probabilities, of which the largest counts.
        """
        labels = np.asarray(self.labels) if several else self.class_numbers()
        return has_label(labels, classes)

    def class_numbers(self) -> np.ndarray:
        """Return the class of each picture, `(N,)`: of probabilities the largest."""
        labels = np.asarray(self.labels)
        return labels.argmax(axis=1) if labels.ndim == 2 else labels

    def on_host(self) -> "Split":
        """Return the same as tensors in the computer's memory, not in a GPU's."""
        with tf.device("CPU:0"):
            return Split(*(tf.convert_to_tensor(array) for array in self))


class Computed:
    """A property that a subclass may replace by an attribute of its own.

    Args:
        compute: Returns the value, of an object.
    """

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        self.compute = compute
        self.__doc__ = compute.__doc__

    def __get__(self, of: Any, owner: type | None = None) -> Any:
        """Return the value; of a class the property itself."""
        return self if of is None else self.compute(of)


@dataclass(eq=False, repr=False)
class ArrayDataModule(SeededDataModule):
    """A data module over arrays; a subclass says where they come from.

    The arguments that are not listed here are those of `SeededDataModule`.

    Args:
        batch_size: Pictures in a global batch, over all replicas.
        augment: Whether training pictures are shifted, and mirrored with `mirror`.
        mirror: Whether about half of the augmented pictures are mirrored, left to
            right; or along which axes, each by a coin of its own: `(1, 2)` is height
            and width of volumes `(D, H, W, channels)`. Of signals and volumes the axes
            must be named, as nobody knows which is left to right.
        shift: By how many pixels or steps augmentation shifts at most, >= 0.
        crop: Size of the windows that the network sees, such as `(48, 48, 48)`, or one
            number for all axes: cut out at random places to train on, else in the
            middle. None for whole pictures.

    Attributes:
        title: What people call the data set.
    """

    batch_size: int = 64
    _: KW_ONLY
    shift: int = 4
    crop: int | Sequence[int] | None = None

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
        """Check the arguments, and begin with no arrays."""
        super().__post_init__()
        *sides, channels = self.input_shape
        self.mirror = _checked_mirror(self.mirror, len(sides))
        self.shift = _checked_shift(self.shift)
        self._window = _checked_window(self.crop, sides)
        self.input_shape = (*(self._window or sides), channels)
        self._splits: dict[str, Split] = {}
        self._members: Members | None = None

    @abc.abstractmethod
    def load_splits(self, stage: str) -> dict[str, Split]:
        """Read the splits that a stage needs: "train", "val", "test"."""

    @Computed
    def positive_weight(self) -> np.ndarray:
        """Return how many times as many pictures have not each label as have it.

        Of those to train on of which it is known, float `(classes,)`: the weight that
        makes up for rare labels in binary cross-entropy.
        """
        train = self._to_train_on()
        if self.labels == "several":
            return balancing_positive_weight(np.asarray(train.labels))
        has = train.has_label(self.num_classes, several=False)
        return balancing_positive_weight(has)

    @Computed
    def class_weight(self) -> dict[int, float]:
        """Return weights that make up for unequal classes, for Keras's `class_weight`.

        A class with n_c of n pictures to train on weighs n / (classes * n_c), so that
        the mean over the pictures is 1. Of probabilities the largest counts.
        """
        numbers = self._to_train_on().class_numbers()
        return balancing_class_weight(numbers, self.num_classes)

    def _to_train_on(self) -> Split:
        self.setup("fit")  # once; what is tested may have been set up for the test
        return self._splits["train"]

    def setup(self, stage: str) -> None:
        """Read what `stage` needs, once."""
        needed = NEEDED.get(stage, "test")
        if needed not in self._splits:
            # Tensors, made once: every dataset that is made of an array would copy it.
            loaded = dict(self._loaded(stage))
            while loaded:
                name, split = loaded.popitem()
                _refuse_other_labels(split.labels, self.num_classes, name, self.title)
                self._splits[name] = split.on_host()

    def fold(self, number: int, folds: int) -> Self:
        """Return the same data, of which one fold is validated on.

        A hash of its pixels decides where a picture belongs, so that those that are
        there twice are in one fold. Mean and standard deviation that a class has are
        constants, and stay.
        """
        other = copy.copy(self)
        other._fold = fold_of(number, folds, self._fold)
        other._splits, other._members = {}, None
        return other

    def load_fold(self, fold: Fold) -> tuple[dict[str, Split], Members]:
        """Read the training pictures without a fold, and as "val" the fold.

        Returns:
            Both, and which of all these the fold has.
        """
        splits = self.load_splits("fit")
        every = Split(*map(np.asarray, splits["train"]))
        if len(splits.get("val", ())):
            every = every.followed_by(splits["val"])
        return divided(every, fold, self.class_names, self.labels == "several")

    def keep_split(self, state: dict[str, Any]) -> bool:
        """Hold out the fold that a run held out."""
        super().keep_split(state)
        fold = kept_fold(state)
        if fold == self._fold:
            return False
        self._fold = fold
        again = [stage for stage, split in NEEDED.items() if split in self._splits]
        self._splits.clear()
        for stage in again:
            self.setup(stage)
        return True

    def members(self, split: str) -> Members | None:
        """Return which pictures a fold has, among those that are not to test on."""
        return self._members if split == "val" else None

    def _loaded(self, stage: str) -> dict[str, Split]:
        if self._fold is None:
            return self.load_splits(stage)
        if stage in ("fit", "validate"):
            splits, self._members = self.load_fold(self._fold)
            return splits
        others = self.load_splits(stage).items()
        return {name: it for name, it in others if name not in ("train", "val")}

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
                images = mirror_and_shift(
                    images, seeds, self.shift, self.mirror, self._window
                )
            elif self._window:
                images = mirror_and_shift(images, seeds, 0, False, self._window)
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
            lambda images, labels: (self._seen(images), strong.labels(labels)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        return batches.prefetch(tf.data.AUTOTUNE)

    def _seen(self, images: Tensor) -> Tensor:
        """Return pictures that are not trained on, as the network sees them."""
        if self._window:
            images = center_window(images, self._window)
        return self._standardized(images)


def divided(
    every: Split,
    fold: Fold,
    class_names: Sequence[str],
    several: bool,
    groups: np.ndarray | None = None,
) -> tuple[dict[str, Split], Members]:
    """Divide pictures into a fold, "val", and the others, "train".

    Args:
        every: All that are not to test on, as arrays.
        fold: Which is validated on.
        class_names: Names of the classes.
        several: Whether a picture may have several labels.
        groups: What stays together, by name; None for the same pictures alone.

    Returns:
        Both parts, and which pictures the fold has.
    """
    numbers = folds_among(every, fold.folds, class_names, several, groups)
    held_out = numbers == fold.number
    members = Members(np.flatnonzero(held_out))
    if groups is not None:
        members = members._replace(groups=groups[held_out])
    return {"train": every.at(~held_out), "val": every.at(held_out)}, members


def folds_among(
    every: Split,
    folds: int,
    class_names: Sequence[str],
    several: bool = False,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Return the number of each picture's fold, 1..folds; the same pictures share it.

    Args:
        every: All that are to be divided, as arrays.
        folds: How many, 2 or more.
        class_names: Names of the classes.
        several: Whether a picture may have several labels.
        groups: What shares a fold instead, by name `(N,)`.
    """
    if groups is None:
        hashes = [hashlib.sha256(image.tobytes()).hexdigest() for image in every.images]
        groups = np.array(hashes)
    has_label = every.has_label(len(class_names), several)
    return folds_of(groups, has_label, class_names, folds)


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


# --- checks of the arguments -----------------------------------------------------


def _checked_mirror(mirror: bool | Sequence[int], rank: int) -> bool | tuple[int, ...]:
    """Return along which axes to mirror, refusing a left side that nobody knows."""
    kind = KINDS[rank]
    if mirror is False or (mirror is True and rank == 2):
        return mirror
    if mirror is True:
        raise ValueError(
            "mirror=True mirrors pictures left to right, but for "
            f"{kind.name} nobody knows which axis that is. Name the axes: those of "
            f"{kind.shape} are 0 to {rank - 1}, of which mirror=({rank - 1},) is the "
            f"last. Where a mirrored {kind.one} is not of its class, leave it out."
        )
    axes = list(mirror) if isinstance(mirror, Iterable) else [None]
    if not all(isinstance(axis, Integral) and 0 <= axis < rank for axis in axes):
        raise ValueError(
            f"mirror names axes of {kind.shape}, from 0, the first after N, to "
            f"{rank - 1}: such as mirror=({rank - 1},). Received: mirror={mirror!r}"
        )
    return tuple(dict.fromkeys(axes))


def _checked_shift(shift: int) -> int:
    if not isinstance(shift, Integral) or isinstance(shift, bool) or shift < 0:
        raise ValueError(
            "shift is by how many pixels or steps training pictures are shifted at "
            f"most, 0 or more. Received: shift={shift!r}"
        )
    return int(shift)


def _checked_window(
    crop: int | Sequence[int] | None, sides: Sequence[int]
) -> tuple[int, ...] | None:
    """Return the size of windows by axis, refusing what does not fit into `sides`."""
    if crop is None:
        return None
    sizes = list(crop) if isinstance(crop, Iterable) else [crop] * len(sides)
    are_whole = all(
        isinstance(size, Integral) and not isinstance(size, bool) for size in sizes
    )
    if (
        not are_whole
        or len(sizes) != len(sides)
        or not all(0 < size <= side for size, side in zip(sizes, sides, strict=True))
    ):
        raise ValueError(
            f"crop is the size of the windows that are cut out of {tuple(sides)}, a "
            f"number for each axis, or one for all. Received: crop={crop!r}"
        )
    return tuple(map(int, sizes))
