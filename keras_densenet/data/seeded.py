"""Data whose batches depend on a seed and on their numbers, and on nothing else."""

import abc
import random
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from numbers import Integral
from typing import Any

import tensorflow as tf

from keras_densenet.data.augment import standardize
from keras_densenet.data.datamodule import DataModule
from keras_densenet.data.folds import Fold, refuse_other_fold
from keras_densenet.data.strong_augmentation import mixes_labels, refuse_unknown
from keras_densenet.tensor import Tensor


@dataclass(eq=False, repr=False)
class SeededDataModule(DataModule):
    """What data in memory and data in files have in common.

    A data set says its options as fields of a dataclass: those that it adds, and those
    whose default differs from its parent's. The others it inherits. It checks them in
    `__post_init__`, which calls its parent's. The decorator is
    `@dataclass(eq=False, repr=False)`: two data sets are the same only if they are one
    object. A subclass may also have an `__init__` of its own, which calls
    `super().__init__`.

    Args:
        batch_size: Pictures in a global batch, over all replicas.
        augment: Whether training pictures are augmented.
        mirror: Whether about half of the augmented pictures are mirrored, left to
            right; False where a mirrored picture is not of its class. Of signals and
            volumes, along which axes: see `Arrays`.
        seed: Seed of shuffling and augmentation, in 0..2^31 - 1; None draws it from
            Python's `random`, which `keras_densenet.seed_everything` sets.
        mean: Mean of each channel, in 0..255; None for that of the class.
        std: Standard deviation of each channel, in 0..255; None for that of the class.
        strong: Strength in 0..1 of `mixup`, `cutmix`, `cutout` and `rand_augment`; see
            `StrongAugmentation`. None for none of them.

    Raises:
        ValueError: An argument is out of its range.
    """

    batch_size: int
    _: KW_ONLY
    augment: bool = True
    mirror: bool | Sequence[int] = True
    seed: int | None = None
    mean: Sequence[float] | None = None  # type: ignore[assignment]
    std: Sequence[float] | None = None  # type: ignore[assignment]
    strong: dict[str, float] | None = None

    def __post_init__(self) -> None:
        """Check the arguments, and draw a seed if none is given."""
        if not isinstance(self.batch_size, Integral) or self.batch_size < 1:
            raise ValueError(
                "batch_size must be 1 or more, a whole number. Received: "
                f"batch_size={self.batch_size!r}"
            )
        if self.seed is None:
            self.seed = random.randrange(2**31)
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be in 0..2^31 - 1. Received: seed={self.seed}")
        self._fold: Fold | None = None
        for name, kind in (("mean", tuple), ("std", tuple), ("strong", dict)):
            if name in vars(self):
                setattr(self, name, _of_kind(name, getattr(self, name), kind))
        _refuse_normalization(*self._normalization(), self.input_shape[-1])
        refuse_unknown(self.strong or {}, self.input_shape)
        self.soft_labels = mixes_labels(self.strong)
        if self.soft_labels and self.labels == "several":
            raise ValueError(
                "mixup and cutmix mix the labels of two pictures, and of several "
                "labels some may not be known: leave them out. cutout and rand_augment "
                f"can stay. Received: strong={self.strong}"
            )

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an option; None leaves mean, std and strong to the class.

        A subclass may have set them before it calls this one's `__init__`, or have
        properties of these names.
        """
        if value is not None or name not in ("mean", "std", "strong"):
            super().__setattr__(name, value)

    def _normalization(self) -> tuple[Sequence[float], Sequence[float]]:
        """Return mean and standard deviation of each channel, in 0..255."""
        if self.mean is None or self.std is None:
            raise TypeError(
                f"{type(self).__name__} has no mean or no std to standardize pictures "
                "with. Give its class both, as one number in 0..255 for each channel."
            )
        return self.mean, self.std

    def _standardized(self, images: Tensor) -> Tensor:
        """Return pictures `(N, H, W, channels)`, standardized as float32."""
        return standardize(images, *self._normalization())

    @abc.abstractmethod
    def _pictures(self, split: str) -> int:
        """Return the number of pictures of a split: "train", "val" or "test"."""

    @abc.abstractmethod
    def _in_order(self, split: str) -> tf.data.Dataset:
        """Return the batches of a split to validate or test on."""

    def _steps(self) -> int:
        """Return the number of whole batches in an epoch."""
        pictures = self._pictures("train")
        if pictures < self.batch_size:
            raise ValueError(
                f"{pictures} training pictures do not fill one batch. Use a smaller "
                f"batch_size. Received: batch_size={self.batch_size}"
            )
        return pictures // self.batch_size

    def state_dict(self) -> dict[str, Any]:
        """Return the seed, which the order of the batches depends on, and the fold."""
        return {"seed": self.seed} | ({"fold": list(self._fold)} if self._fold else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the order that the resumed run had."""
        self.seed = state["seed"]

    def keep_split(self, state: dict[str, Any]) -> bool:
        """Hold out what a run held out, refusing that of another fold."""
        refuse_other_fold(self._fold, state)
        return False

    def fingerprint(self) -> dict[str, Any]:
        """Return the number of pictures to train and to validate on."""
        return {
            split: {"pictures": self._pictures(split)} for split in ("train", "val")
        }

    def val_dataset(self) -> tf.data.Dataset | None:
        """Return the validation batches, or None if nothing is held out."""
        return self._in_order("val") if self._pictures("val") else None

    def test_dataset(self) -> tf.data.Dataset:
        """Return the test batches."""
        return self._in_order("test")

    def predict_dataset(self) -> tf.data.Dataset:
        """Return batches of the test pictures, without labels."""
        return self.test_dataset().map(lambda images, labels: images)


def _refuse_normalization(
    mean: Sequence[float], std: Sequence[float], channels: int
) -> None:
    if len(mean) != channels or len(std) != channels or not min(std) > 0:
        raise ValueError(
            f"mean and std need one number for each of {channels} channels, in 0..255, "
            "and those of std must be above 0: give as many, or leave both out. "
            f"Received: mean={mean}, std={std}"
        )


def _of_kind(name: str, value: Any, kind: type) -> Any:
    """Return an option as a tuple or a dictionary, refusing what cannot be one."""
    try:
        return kind(value)
    except (TypeError, ValueError) as error:
        example = '{"mixup": 0.2}' if kind is dict else "(125.3, 123.0, 113.9)"
        raise ValueError(
            f"{name} must be such as {example}. Received: {name}={value!r}"
        ) from error
