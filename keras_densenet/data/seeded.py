"""Data whose batches depend on a seed and on their numbers, and on nothing else."""

import abc
import random
from collections.abc import Sequence
from typing import Any

from keras_densenet.data.datamodule import DataModule
from keras_densenet.data.strong_augmentation import mixes_labels, refuse_unknown


class SeededDataModule(DataModule):
    """What data in memory and data in files have in common.

    Args:
        batch_size: Pictures in a global batch, over all replicas.
        augment: Whether training pictures are augmented.
        seed: Seed of shuffling and augmentation, in 0..2^31 - 1; None draws it from
            Python's `random`, which `keras_densenet.seed_everything` sets.
        mean: Of each channel, in 0..255; None for that of the class.
        std: Of each channel, in 0..255; None for that of the class.
        strong: Mixup, cutmix, cutout, RandAugment; see `StrongAugmentation`.
    """

    strong: dict[str, float] | None = None

    def __init__(
        self,
        batch_size: int,
        *,
        augment: bool = True,
        seed: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        strong: dict[str, float] | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more. Received: {batch_size}")
        self.batch_size = batch_size
        self.augment = augment
        if seed is not None and not 0 <= seed < 2**31:
            raise ValueError(f"seed must be in 0..2^31 - 1. Received: seed={seed}")
        self.seed = random.randrange(2**31) if seed is None else seed
        # What is not given stays the class's own, and out of a run's config.
        if mean is not None:
            self.mean = tuple(mean)
        if std is not None:
            self.std = tuple(std)
        if strong is not None:
            self.strong = strong
        _refuse_normalization(self.mean, self.std, self.input_shape[-1])
        refuse_unknown(self.strong or {})
        self.soft_labels = mixes_labels(self.strong)

    @abc.abstractmethod
    def _pictures(self, split: str) -> int:
        """Give the number of pictures of a split: "train", "val" or "test"."""

    @abc.abstractmethod
    def _in_order(self, split: str) -> Any:
        """Give the batches of a split to validate or test on."""

    def _steps(self) -> int:
        """Give the number of whole batches in an epoch."""
        pictures = self._pictures("train")
        if pictures < self.batch_size:
            raise ValueError(
                f"{pictures} training pictures do not fill one batch. Use a smaller "
                f"batch_size. Received: batch_size={self.batch_size}"
            )
        return pictures // self.batch_size

    def state_dict(self) -> dict[str, Any]:
        """Give the seed, which is all that the order of the batches depends on."""
        return {"seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the order that the resumed run had."""
        self.seed = state["seed"]

    def val_dataset(self) -> Any | None:
        """Give the validation batches, or None if nothing is held out."""
        return self._in_order("val") if self._pictures("val") else None

    def test_dataset(self) -> Any:
        """Give the test batches."""
        return self._in_order("test")

    def predict_dataset(self) -> Any:
        """Give batches of the test pictures, without labels."""
        return self.test_dataset().map(lambda images, labels: images)


def _refuse_normalization(
    mean: Sequence[float], std: Sequence[float], channels: int
) -> None:
    if len(mean) != channels or len(std) != channels or not min(std) > 0:
        raise ValueError(
            f"mean and std need one number for each of {channels} channels, in 0..255, "
            f"and std numbers above 0. Received: mean={mean}, std={std}"
        )
