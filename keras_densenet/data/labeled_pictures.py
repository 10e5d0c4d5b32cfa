"""Picture files with labels, in a folder or in a table, as a data module."""

import abc
import copy
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from keras_densenet.data.datamodule import Members
from keras_densenet.data.folds import fold_of, kept_fold
from keras_densenet.data.label_balance import (
    balancing_class_weight,
    balancing_positive_weight,
)
from keras_densenet.data.labeled_files import LabeledFiles, refuse_on_error
from keras_densenet.data.picture_files import PictureFiles
from keras_densenet.data.pictures import PictureDataModule
from keras_densenet.tensor import Tensor

# By stage; else the test pictures. Training looks at these, too: what is broken would
# end a test after hours of training.
NEEDED = {"fit": ("train", "val", "test"), "validate": ("val",)}


@dataclass(eq=False, repr=False)
class LabeledPictures(PictureDataModule):
    """Picture files with labels; a subclass says where they are, and what the labels.

    The arguments that are not listed here are those of `PictureDataModule` and of
    `SeededDataModule`.

    Args:
        channels: What pictures are decoded to: 1 for gray, 3 for RGB, 4 for RGBA.
        validation_fraction: Share held out for validation, 0 <= x < 1.
        test_fraction: Share held out for the test, 0 <= x < 1.
        group: What belongs together in one split.
        balanced: Whether each class is shown as often as the others.
        check_files: Whether to look for broken pictures before training.
        on_error: "raise" names the broken pictures in an error; "skip" leaves them out,
            with a warning that counts them.
    """

    batch_size: int = 32
    _: KW_ONLY
    channels: int = 3
    validation_fraction: float = 0.1
    test_fraction: float = 0.0
    group: str | None = None
    balanced: bool = False
    check_files: bool = True
    on_error: str = "raise"

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        _refuse_fractions(self.validation_fraction, self.test_fraction)
        refuse_on_error(self.on_error, self.check_files)
        if self.labels == "pixels" and self.balanced:
            raise ValueError(
                "balanced=True shows each class as often, and a picture with a mask is "
                "of many: leave it out. Received: balanced=True"
            )
        if self.labels == "several" and self.balanced:
            raise ValueError(
                "balanced=True shows each class as often, and a picture of several "
                "labels is of more than one: leave it out, and weigh the loss, with "
                'ImageClassifier(positive_weight="balanced").'
            )

    @property
    def shares(self) -> dict[str, float]:
        """Return the share of the pictures to hold out for each split."""
        return {"val": self.validation_fraction, "test": self.test_fraction}

    @abc.abstractmethod
    def _where(self) -> LabeledFiles:
        """Return the files, which are found when they are first needed."""

    @cached_property
    def _found(self) -> LabeledFiles:
        return self._where()

    @property
    def positive_weight(self) -> np.ndarray:
        """Return how many times as many pictures have not each label as have it.

        Of those to train on of which it is known, float `(classes,)`: the weight that
        makes up for rare labels in binary cross-entropy.
        """
        files = self._files("train")
        several = files.labels.ndim == 2
        labels = files.labels if several else files.has_label(self.num_classes)
        return balancing_positive_weight(labels)

    @property
    def class_weight(self) -> dict[int, float]:
        """Return weights that make up for unequal classes, for Keras's `class_weight`.

        A class with n_c of n pictures to train on weighs n / (classes * n_c), so that
        the mean over the pictures is 1. With `balanced`, which makes up for them
        already, each weighs 1.
        """
        if self.balanced:
            return dict.fromkeys(range(self.num_classes), 1.0)
        return balancing_class_weight(self._files("train").labels, self.num_classes)

    def setup(self, stage: str) -> None:
        """Find the files that `stage` needs, and look at each of them, once."""
        self._found.setup(NEEDED.get(stage, ("test",)))

    def state_dict(self) -> dict[str, Any]:
        """Return the seed, and what is held out of each class: a hash a part."""
        borders = self._found.borders
        return super().state_dict() | ({"held_out": borders} if borders else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the order and with the split that the resumed run had."""
        super().load_state_dict(state)
        self.keep_split(state)

    def fold(self, number: int, folds: int) -> "LabeledPictures":
        """Return the same data, of which one fold is validated on.

        A hash of its path, or of its group's name, decides where a picture belongs.
        Pictures to validate on that are given, by a folder or by the table, are divided
        with the others; those to test on are in no fold.
        """
        other = copy.copy(self)
        other._fold = fold_of(number, folds, self._fold)
        other._found = self._found.at_fold(other._fold)
        return other

    def keep_split(self, state: dict[str, Any]) -> bool:
        """Hold out the pictures that a run held out, as one of its folds did."""
        super().keep_split(state)
        borders, fold = state.get("held_out"), kept_fold(state)
        if not (borders or fold):  # of runs before it was kept
            return False
        self._fold = fold
        return self._found.keep_borders(borders or {}, fold)

    def teardown(self, stage: str) -> None:
        """Keep what was found: it is small, and takes long to find."""

    def fingerprint(self) -> dict[str, Any]:
        """Return how many pictures to train and to validate on there are, and a hash.

        Of names within `root`, labels and some of the files' contents.
        """
        return {split: self._found.fingerprint(split) for split in ("train", "val")}

    def predict_files(self) -> dict[int, str]:
        """Return the paths of the test pictures within the folder, by their numbers."""
        return self._found.relative_paths("test")

    def has_pictures(self, split: str) -> bool:
        """Return whether a split has pictures, after setup."""
        return bool(self._pictures(split))

    def members(self, split: str) -> Members:
        """Return which pictures a split has: their paths, and their groups."""
        return self._found.members(split)

    def broken_file(self) -> str | None:
        """Return path and reason of a file that is broken by now; None if none is."""
        return self._found.broken_file()

    def refuse_empty(self, split: str) -> None:
        """Refuse to be asked for a split that has no pictures.

        Raises:
            ValueError: It has none.
        """
        if not self._pictures(split):
            raise ValueError(
                f"{self._found.root} has no {split} pictures: {self._add(split)}, or "
                "hold a share out. Received: validation_fraction="
                f"{self.validation_fraction}, test_fraction={self.test_fraction}"
            )

    def _add(self, split: str) -> str:
        """Say how to add pictures of a split."""
        return f"name some in split={{{split!r}: ...}}"

    def _files(self, split: str) -> PictureFiles:
        return self._found.files(split)

    def _pictures(self, split: str) -> int:
        return self._found.count(split)

    def _training_examples(
        self, first: int, an_epoch: int, seed: int
    ) -> tf.data.Dataset:
        if self.balanced:
            return self._found.balanced(first, seed)
        return self._found.shuffled(first, an_epoch, seed)

    def _examples(self, split: str) -> tf.data.Dataset:
        self.refuse_empty(split)
        return self._found.in_order(split)

    def _decoded(self, encoded: tuple[Tensor, Tensor]) -> Tensor:
        return self._found.decoded(encoded, self.channels)


def _refuse_fractions(validation: float, test: float) -> None:
    if validation < 0 or test < 0 or validation + test >= 1:
        raise ValueError(
            "validation_fraction and test_fraction must be 0 or more and together less "
            f"than 1. Received: validation_fraction={validation}, test_fraction={test}"
        )
