"""Labeled picture files in three splits: found, checked, read."""

import copy
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_densenet.data import fingerprint, picture_files, sampling
from keras_densenet.data.datamodule import Members
from keras_densenet.data.folds import Fold, folds_of
from keras_densenet.data.hold_out import Borders
from keras_densenet.data.picture_files import PictureFiles
from keras_densenet.data.pixel_range import DARK
from keras_densenet.tensor import Tensor


class Found(NamedTuple):
    """All picture files of a data set.

    Attributes:
        files: Those of each split: "train", "val", "test".
        borders: Where the parts that are held out end.
    """

    files: dict[str, PictureFiles]
    borders: Borders


class LabeledFiles:
    """Picture files with labels, found when they are first asked for, and only once.

    `setup` comes before the pictures of a split are read. An encoded picture is its
    path, and whether TensorFlow can decode it.

    Args:
        root: The folder that the files' names are told from.
        class_names: Names of the classes.
        find: Finds all files, by the borders of a run, or by none.
        check_files: Whether `setup` looks for broken pictures.
        on_error: "raise", or "skip" to leave out broken pictures with a warning.

    Attributes:
        borders: Where the parts that are held out end, once the files are found.
        fold: Which fold of a cross-validation is validated on; None for none.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        class_names: Sequence[str],
        find: Callable[[Borders], Found],
        *,
        check_files: bool,
        on_error: str,
    ) -> None:
        self.root = root
        self.class_names = class_names
        self.find = find
        self.check_files = check_files
        self.on_error = on_error
        self.borders: Borders = {}
        self.fold: Fold | None = None
        self._checked: dict[str, bool | float | str] = {}  # by path, for all folds
        self._forget()

    def _forget(self) -> None:
        self._listed: dict[str, PictureFiles] = {}
        self._plain: dict[str, np.ndarray] = {}
        self._places: dict[str, np.ndarray] = {}  # where broken files are left out
        self._numbers: dict[str, np.ndarray] = {}  # of a fold, among all folds'

    def at_fold(self, fold: Fold) -> "LabeledFiles":
        """Return the same files, of which a fold is validated on.

        They are checked once for all folds.
        """
        other = copy.copy(self)
        other.fold = fold
        other._forget()
        return other

    def prepare(self) -> None:
        """Do nothing: the files are there."""

    def setup(self, splits: Iterable[str]) -> None:
        """Find the files of splits, and look at each of them, once.

        Raises:
            BrokenPictureError: There are broken pictures, and `on_error` is "raise".
            DataUnavailableError: A split has a folder, and no pictures in it.
            ValueError: A class has no pictures to train on.
        """
        for split in splits:
            if split not in self._plain:
                self._check(split)

    def files(self, split: str) -> PictureFiles:
        """Return the files of a split: "train", "val" or "test"."""
        if not self._listed:
            found, self.borders = self.find(self.borders)
            self._listed = self._divided(found) if self.fold else dict(found)
        return self._listed[split]

    def keep_borders(self, borders: Borders, fold: Fold | None = None) -> bool:
        """Hold out what a run held out; return whether that is something else.

        Splits that are set up are set up again, if so.

        Args:
            borders: Of that run.
            fold: Of that run, or None.
        """
        same = all(borders.get(split) == now for split, now in self.borders.items())
        if self._listed and same and fold == self.fold:
            return False
        again = list(self._plain)
        self.borders, self.fold = borders, fold
        self._forget()
        self.setup(again)
        return True

    def _divided(self, files: dict[str, PictureFiles]) -> dict[str, PictureFiles]:
        """Return the files of each split where a fold is validated on.

        What is to test on stays so, and is in no fold.
        """
        assert self.fold
        every = files["train"].followed_by(files["val"])
        groups = every.groups
        units = np.array(self._inside(every.paths)) if groups is None else groups
        has_label = every.has_label(len(self.class_names))
        folds = folds_of(units, has_label, self.class_names, self.fold.folds)
        held_out = folds == self.fold.number
        parts = {"train": ~held_out, "val": held_out}
        self._numbers = {name: np.flatnonzero(part) for name, part in parts.items()}
        return files | {name: every.at(part) for name, part in parts.items()}

    def count(self, split: str) -> int:
        """Return the number of pictures of a split."""
        return len(self.files(split))

    def fingerprint(self, split: str) -> dict[str, Any]:
        """Return how many pictures a split has, and a hash that tells which."""
        return fingerprint.of_files(self.files(split), Path(self.root).expanduser())

    def broken_file(self) -> str | None:
        """Return path and reason of a file that is broken by now; None if none is."""
        return picture_files.first_broken(
            path for split in self._plain for path in self.files(split).paths
        )

    def relative_paths(self, split: str) -> dict[int, str]:
        """Return the paths of a split's files within the folder, by their numbers.

        These are their places among all files of the split, also the broken ones.
        """
        inside = self._inside(self.files(split).paths)
        places = self._places.get(split, np.arange(len(inside))).tolist()
        return dict(zip(places, inside, strict=True))

    def members(self, split: str) -> Members:
        """Return which pictures a split has, in their order."""
        files = self.files(split)
        places = self._places.get(split, np.arange(len(files)))
        numbers = self._numbers[split][places] if split in self._numbers else places
        return Members(numbers, self._inside(files.paths), files.groups)

    def _inside(self, paths: Iterable[str]) -> list[str]:
        root = Path(self.root).expanduser()
        return [os.path.relpath(path, root) for path in paths]

    def shuffled(self, first: int, an_epoch: int, seed: int) -> tf.data.Dataset:
        """Return the (encoded picture, label) of a training that shows each once.

        Args:
            first: Number of the first to return, of all that are ever shown.
            an_epoch: Number of pictures that an epoch shows.
            seed: Seed of their order, which is another one each epoch.
        """
        return self._numbered(
            sampling.each_once(self.count("train"), an_epoch, seed), first
        )

    def balanced(self, first: int, seed: int) -> tf.data.Dataset:
        """Return the (encoded picture, label) of a training on all classes alike.

        Args:
            first: Number of the first to return, of all that are ever shown.
            seed: Seed of their order.
        """
        labels, classes = self.files("train").labels, len(self.class_names)
        return self._numbered(sampling.balanced(labels, classes, seed), first)

    def in_order(self, split: str) -> tf.data.Dataset:
        """Return the (encoded picture, label) of a split, once."""
        paths, plain, labels = self._tensors(split)
        return tf.data.Dataset.from_tensor_slices(((paths, plain), labels))

    def decoded(self, encoded: tuple[Tensor, Tensor], channels: int = 3) -> Tensor:
        """Decode one picture in a graph: uint8 `(H, W, channels)`."""
        return picture_files.read_picture(*encoded, channels)

    def _numbered(
        self, number: Callable[[Tensor], Tensor], first: int
    ) -> tf.data.Dataset:
        paths, plain, labels = self._tensors("train")

        def example(place: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
            n = number(place)
            return (paths[n], plain[n]), labels[n]

        places = tf.data.Dataset.counter(first)
        return places.map(example, num_parallel_calls=tf.data.AUTOTUNE)

    def _tensors(self, split: str) -> tuple[Tensor, Tensor, Tensor]:
        files = self.files(split)
        labels = files.labels if files.masks is None else _encoded(files.masks)
        return (
            tf.constant(_encoded(files.paths), tf.string),
            tf.constant(self._plain[split]),
            tf.constant(labels),
        )

    def _broken_labels(
        self, files: PictureFiles, broken: Mapping[str, str]
    ) -> dict[str, str]:
        """Return why labels that are files cannot be used, by the picture's path."""
        return {}

    def _check(self, split: str) -> None:
        """Leave out broken files, or raise; note what TensorFlow can decode."""
        files = self.files(split)
        plain = np.zeros(len(files), bool)
        if self.check_files:
            plain, broken, brightest = picture_files.check(files.paths, self._checked)
            broken |= self._broken_labels(files, broken)
            if self.on_error == "raise":
                picture_files.refuse_broken(broken, len(files))
            whole = np.array([path not in broken for path in files.paths], bool)
            files, plain = files.at(whole), plain[whole]
            self._places[split] = np.flatnonzero(whole)
            picture_files.warn_of_broken(broken, split, stacklevel=5)
            _warn_of_dark(brightest, split)
        if split == "train" and files.masks is None:
            refuse_empty_classes(files, self.class_names, self.root)
        self._listed[split], self._plain[split] = files, plain


def _encoded(paths: Iterable[str]) -> list[bytes]:
    return [os.fsencode(path) for path in paths]


def refuse_on_error(on_error: str, check_files: bool) -> None:
    """Refuse what cannot be done with broken pictures.

    Raises:
        ValueError: `on_error` is neither "raise" nor "skip", or it is "skip" where no
            file is checked.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(
            f'on_error must be "raise" or "skip". Received: on_error={on_error!r}'
        )
    if on_error == "skip" and not check_files:
        raise ValueError(
            "on_error='skip' leaves out what is found to be broken before training: it "
            "needs check_files=True. Received: check_files=False"
        )


def refuse_empty_classes(
    files: PictureFiles, names: Sequence[str], root: str | os.PathLike
) -> None:
    """Refuse classes that no picture to train on has, and labels that all have.

    Raises:
        ValueError: There are such classes; it names them.
    """
    many = files.has_label(len(names)).sum(0)
    empty = [name for name, n in zip(names, many, strict=True) if n == 0]
    if empty:
        raise ValueError(
            f"There are no pictures to train on in {root} of: {', '.join(empty)}. Add "
            "some, such as .jpg or .png, or leave these classes out."
        )
    if files.labels.ndim == 1:
        return
    without = (files.labels == 0).sum(0)
    full = [name for name, n in zip(names, without, strict=True) if n == 0]
    if full:
        raise ValueError(
            f"There are no pictures to train on in {root} that are known to be without:"
            f" {', '.join(full)}. Add some, or leave these labels out."
        )


def _warn_of_dark(brightest: np.ndarray, split: str) -> None:
    """Say so where several pictures of sixteen bits leave nearly all of them unused.

    One alone may be dark.
    """
    wide = brightest[~np.isnan(brightest)]
    if len(wide) > 1 and wide.max() < DARK:
        warnings.warn(
            f"Nearly black: none of the {len(wide)} {split} pictures of 16 bits has a "
            f"pixel above {wide.max():.1%} of the range. Perhaps their files have "
            "numbers of 12 bits. Scale them so that white is 65,535, or save them with "
            "8 bits and white at 255.",
            stacklevel=5,  # where the data module is set up
        )
