"""Pictures, signals or volumes of one's own with labels, as NumPy arrays."""

import copy
import os
import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import tensorflow as tf
from sklearn.model_selection import train_test_split

from keras_densenet.data.arrays import ArrayDataModule, Split, divided
from keras_densenet.data.datamodule import Members
from keras_densenet.data.folds import Fold
from keras_densenet.data.hold_out import hold_out_groups
from keras_densenet.data.npz_file import SPLITS, pairs_in
from keras_densenet.data.raw_arrays import KINDS, checked_arrays, moments
from keras_densenet.errors import few


class Arrays(ArrayDataModule):
    """Pictures, signals or volumes in memory, with their labels.

    `trainer.fit(module, (images, labels))` makes one. Those to train on are shuffled,
    and all are standardized. What is said of pictures holds for signals and volumes,
    too. The arguments that are not listed here are those of `ArrayDataModule` and of
    `SeededDataModule`.

    Args:
        images: What to train on: pictures `(N, H, W, channels)`, in 0..255 or as floats
            in 0..1, which are kept, and written of in `mean` and `std`, as 0..255; or
            signals `(N, T, channels)` or volumes `(N, D, H, W, channels)`, of any
            finite numbers, in their own unit.
        labels: Class numbers `(N,)` or `(N, 1)`, or probabilities `(N, classes)`, such
            as one-hot ones; or what `multi_label` says.
        batch_size: Pictures in a global batch, over all replicas.
        validation_data: Pictures and labels to validate on, such as `(images, labels)`.
        validation_split: Share of the training pictures to validate on, 0 <= x < 1:
            drawn at random, and the same in every run.
        groups: What each training picture belongs to, such as a patient, by name or
            number, `(N,)`: `validation_split` and folds leave no group in two parts,
            and share the labels out.
        test_data: Pictures and labels to test on.
        num_classes: Number of classes; by default that of the names, or of the labels.
        class_names: One name a class; by default its number.
        multi_label: Whether a picture may have several labels, or none: `labels` are
            then `(N, classes)`, 1 where a picture has one, 0 where it has not, NaN
            where that is not known.
        rank: 1 for signals, 2 for pictures, 3 for volumes; None where the shape of
            `images` says it.
        augment: Whether training pictures are shifted, and mirrored with `mirror`.
        mirror: As `ArrayDataModule` has it; None is True for pictures, and False for
            signals and volumes.
        mean: Mean of each channel, in the unit of the values; None for that of the
            training pictures.
        std: Standard deviation of each channel, likewise.

    Raises:
        ValueError: What is given are no such arrays, or may be of two kinds; a label is
            none of a class; or another argument is out of its range.

    Examples:
        >>> images = np.arange(8, dtype="uint8").reshape(2, 2, 2, 1)
        >>> data = Arrays(images, np.array([1, 0]), batch_size=2)
        >>> data.num_classes, data.input_shape, data.mean
        (2, (2, 2, 1), (3.5,))
    """

    def __init__(
        self,
        images: Any,
        labels: Any,
        batch_size: int = 64,
        *,
        validation_data: tuple[Any, Any] | None = None,
        validation_split: float = 0.0,
        groups: Sequence[Any] | None = None,
        test_data: tuple[Any, Any] | None = None,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        multi_label: bool = False,
        rank: int | None = None,
        augment: bool = False,
        mirror: bool | Sequence[int] | None = None,
        shift: int = 4,
        crop: int | Sequence[int] | None = None,
        seed: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        strong: dict[str, float] | None = None,
    ) -> None:
        self.validation_split = validation_split
        self.labels = "several" if multi_label else "one"
        train = _split("", images, labels, multi_label, rank)
        self._all = train  # in their order, which that of the parts is not
        self._groups = _checked_groups(groups, len(train), validation_data)
        self._arrays = {"train": train}
        for name, pair in (("val", validation_data), ("test", test_data)):
            if pair is not None:
                self._arrays[name] = _pair(name, pair, train, multi_label)
        self.input_shape = tuple(train.images.shape[1:])
        self.num_classes = _classes(self._arrays, num_classes, class_names, multi_label)
        self.class_names = tuple(map(str, class_names or range(self.num_classes)))
        self._hold_out(validation_split, validation_data)
        self._given = mean, std
        mean, std = _moments_of(self._arrays["train"].images, mean, std)
        self.mean, self.std = mean, std
        super().__init__(
            batch_size,
            augment=augment,
            mirror=len(self.input_shape) == 3 if mirror is None else mirror,
            shift=shift,
            crop=crop,
            seed=seed,
            mean=mean,
            std=std,
            strong=strong,
        )
        self._say_whether_labels_are_soft(train.labels)

    @classmethod
    def from_npz(
        cls, path: str | os.PathLike, batch_size: int = 64, **options: Any
    ) -> Self:
        """Read a file of the layout of MedMNIST (Yang et al. 2023).

        It has the arrays `train_images`, `train_labels`, and those of `val_` and
        `test_` likewise, where there are such. Pictures `(N, H, W)` are gray, and
        `(N, D, H, W)` are volumes unless the last axis has 1, 3 or 4 numbers, which are
        channels; signals `(N, T)` or `(N, T, channels)` need `rank=1`. Labels of
        several columns are several labels a picture, unless each row's sum is 1.

        Args:
            path: The `.npz` file.
            batch_size: Pictures in a global batch, over all replicas.
            **options: Other arguments of the class, such as `class_names`, which the
                file has not, and `rank`.

        Returns:
            The data, with all the splits that the file has.

        Raises:
            ValueError: It is no such file, or as for the class.
            FileNotFoundError: There is no such file.
        """
        pairs = pairs_in(path, options.get("rank"))
        images, labels = pairs.pop("train")
        given = {f"{name}_data" for name in SPLITS.values()} & options.keys()
        if "validation" in pairs and options.get("validation_split"):
            given.add("validation_split")
        if given:
            raise ValueError(
                f"{', '.join(sorted(given))}: {path} says itself what is trained, "
                "validated and tested on. Leave it out, or read the arrays by np.load "
                "and give them to kd.data.Arrays."
            )
        options.setdefault("multi_label", _are_of_several(labels))
        splits: dict[str, Any] = {f"{name}_data": it for name, it in pairs.items()}
        return cls(images, labels, batch_size, **splits, **options)

    def with_split(self, name: str, images: Any, labels: Any = None) -> "Arrays":
        """Return these with other pictures as "val", "test" or "predict".

        Args:
            name: Of the split.
            images: Raw pictures; they are standardized as those to train on.
            labels: None for those to predict.

        Raises:
            ValueError: As for the class.
        """
        train = self._arrays["train"]
        if labels is None:
            labels = np.zeros((len(images), *train.labels.shape[1:]), "int64")
            checked = checked_arrays(_SPLITS[name], images, train.images.ndim - 2)
            self._refuse_another_size(checked)
            split = Split(checked, labels)
        else:
            several = self.labels == "several"
            split = _pair(name, (images, labels), train, several)
            _refuse_others(_SPLITS[name], split.labels, self.num_classes)
        other = copy.copy(self)
        other._arrays, other._splits = {**self._arrays, name: split}, {}
        return other

    def members(self, split: str) -> Members | None:
        """Return which training pictures are validated on, and their groups."""
        if split == "val" and self._fold is None and len(self._held_out):
            places = self._held_out
            groups = None if self._groups is None else self._groups[places]
            return Members(places, groups=groups)
        return super().members(split)

    def _hold_out(self, share: float, validation_data: Any | None) -> None:
        """Take a share of the training pictures to validate on."""
        if not 0 <= share < 1 or (share and validation_data is not None):
            raise ValueError(
                "validation_split is the share of the training pictures to validate "
                "on, 0 <= x < 1, and 0 where there is validation_data. Received: "
                f"validation_split={share}"
            )
        every, groups = self._all, self._groups
        held_out = np.zeros(len(every), bool)
        if share and groups is not None:
            has_label = every.has_label(self.num_classes, self.labels == "several")
            splits = hold_out_groups(groups, has_label, {"val": share}).splits
            held_out = splits == "val"
        elif share:
            _, places = train_test_split(
                np.arange(len(every)), test_size=share, random_state=0
            )
            held_out[places] = True
        self._held_out = np.flatnonzero(held_out)
        if share:
            self._arrays["train"] = every.at(~held_out)
            self._arrays["val"] = every.at(held_out)

    def _refuse_another_size(self, images: np.ndarray) -> None:
        """Refuse pictures that are neither of the whole size nor of the window's."""
        whole, seen = self._all.images.shape[1:], self.input_shape
        if images.shape[1:] not in (whole, seen):
            windows = f", or {seen}, as the network sees them" * (seen != whole)
            raise ValueError(
                f"{KINDS[images.ndim - 2].name} to predict have the shape "
                f"{images.shape[1:]}, and those to train on {whole}: give such"
                f"{windows}."
            )

    def fold(self, number: int, folds: int) -> "Arrays":
        """Return the same data, of which one fold is validated on.

        A hash of its pixels decides where a picture belongs, so that those that are
        there twice are in one fold. `validation_data` are divided with the others, and
        come after them. Mean and standard deviation that were not given are those of
        the pictures that are trained on then.
        """
        other = super().fold(number, folds)
        assert other._fold
        train = other.load_fold(other._fold)[0]["train"]
        other.mean, other.std = _moments_of(train.images, *self._given)
        return other

    def load_fold(self, fold: Fold) -> tuple[dict[str, Split], Members]:
        """Return the training pictures without a fold, and as "val" the fold."""
        every = self._all
        if not self.validation_split and "val" in self._arrays:
            every = every.followed_by(self._arrays["val"])
        several = self.labels == "several"
        return divided(every, fold, self.class_names, several, self._groups)

    def load_splits(self, stage: str) -> dict[str, Split]:
        """Return the splits that there are.

        Raises:
            ValueError: There is a label that no picture to train on has, or that all
                have: nothing could be learnt of it.
        """
        if stage == "fit" and self.labels == "several":
            _refuse_unlearnable(self._arrays["train"].labels, self.class_names)
        nothing = Split(*(array[:0] for array in self._arrays["train"]))
        return {name: self._arrays.get(name, nothing) for name in _SPLITS}

    def test_dataset(self) -> tf.data.Dataset | None:
        """Return the test batches, or None if there are no pictures to test on."""
        return self._in_order("test") if self._pictures("test") else None

    def predict_dataset(self) -> tf.data.Dataset | None:
        """Return batches of the pictures to predict, or else to test on, or None."""
        split = "predict" if self._pictures("predict") else "test"
        if not self._pictures(split):
            return None
        return self._in_order(split).map(lambda images, labels: images)

    def _say_whether_labels_are_soft(self, labels: np.ndarray) -> None:
        if labels.ndim == 1 or self.labels == "several":
            return
        if self.soft_labels:
            raise ValueError(
                "mixup and cutmix mix class numbers here, and the labels are "
                f"probabilities already. Give class numbers (N,). Received: labels of "
                f"shape {labels.shape} and strong={self.strong}"
            )
        self.soft_labels = True


_SPLITS = {  # and what errors say of them
    "train": "",
    "val": "validation_data: ",
    "test": "test_data: ",
    "predict": "",
}


def is_pair(given: Any) -> bool:
    """Return whether something is pictures and labels, `(images, labels)`."""
    return (
        isinstance(given, list | tuple)
        and len(given) == 2
        and all(hasattr(array, "shape") for array in given)
    )


def _moments_of(
    images: np.ndarray, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[Sequence[float], Sequence[float]]:
    """Return mean and standard deviation: those given, or else the pictures'."""
    if mean is not None and std is not None:
        return mean, std
    of_the_pictures = moments(images)
    return (
        of_the_pictures[0] if mean is None else mean,
        of_the_pictures[1] if std is None else std,
    )


def _checked_groups(
    groups: Sequence[Any] | None, pictures: int, validation_data: Any | None
) -> np.ndarray | None:
    """Return the name of each picture's group."""
    if groups is None:
        return None
    names = np.asarray(groups)
    if names.shape != (pictures,) or validation_data is not None:
        raise ValueError(
            f"groups names what each of {pictures} training pictures belongs to, such "
            "as a patient, and divides these: give validation_split=, or validate by "
            "kd.cross_validate, and no validation_data. Received: groups of the shape "
            f"{names.shape}{', and validation_data' * (validation_data is not None)}"
        )
    return names.astype(str)


def _pair(name: str, pair: Any, like: Split, multi_label: bool) -> Split:
    """Return the pictures to validate or to test on."""
    if not is_pair(pair):
        raise ValueError(
            f"{_SPLITS[name]}two arrays, (images, labels), are needed. Received: a "
            f"{type(pair).__name__}"
        )
    rank = like.images.ndim - 2
    images, labels = pair
    split = _split(_SPLITS[name], images, labels, multi_label, rank)
    for what, theirs, ours in (
        (KINDS[rank].name, split.images.shape[1:], like.images.shape[1:]),
        ("labels", split.labels.shape[1:], like.labels.shape[1:]),
    ):
        if theirs != ours:
            raise ValueError(
                f"{_SPLITS[name]}{what} have the shape (N, *{theirs}), and those to "
                f"train on (N, *{ours}): all must be alike."
            )
    return split


def _split(
    which: str, images: Any, labels: Any, multi_label: bool, rank: int | None
) -> Split:
    images, labels = checked_arrays(which, images, rank), np.asarray(labels)
    kind = KINDS[images.ndim - 2]
    if len(images) != len(labels):
        raise ValueError(
            f"{which}there are {len(images)} {kind.name} and {len(labels)} labels: "
            f"each {kind.one} needs one."
        )
    check = _checked_known if multi_label else _checked_labels
    return Split(images, check(which, labels))


# --- labels ----------------------------------------------------------------------


def _checked_labels(which: str, labels: np.ndarray) -> np.ndarray:
    """Return class numbers int64 `(N,)`, or probabilities float32 `(N, classes)`."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind not in "buif" or labels.ndim not in (1, 2):
        hint = ""
        if labels.dtype.kind in "USO":
            hint = " Of names: class_names, labels = np.unique(names, return_inverse=1)"
        raise ValueError(
            f"{which}labels are class numbers (N,), or probabilities (N, classes). "
            f"Received: {labels.dtype} of the shape {labels.shape}.{hint}"
        )
    if labels.ndim == 2:
        if (labels < 0).any() or not np.allclose(labels.sum(axis=1), 1, atol=1e-3):
            raise ValueError(
                f"{which}labels (N, classes) are probabilities, whose sum is 1 for "
                "each picture. For several labels a picture say multi_label=True."
            )
        return labels.astype("float32", copy=False)
    are_broken = labels != np.floor(labels)
    if are_broken.any():
        raise ValueError(
            f"{which}class numbers must be whole numbers 0, 1, 2, ... Received also: "
            f"{labels[are_broken][0]:g}"
        )
    return labels.astype("int64", copy=False)


def _checked_known(which: str, labels: np.ndarray) -> np.ndarray:
    """Return several labels a picture: 1, 0 or NaN, float32 `(N, classes)`."""
    known = labels.dtype.kind in "buif" and labels.ndim == 2
    if known:
        known = bool((np.isin(labels, (0, 1)) | np.isnan(labels)).all())
    if not known:
        raise ValueError(
            f"{which}with multi_label=True labels are (N, classes), 1 where a picture "
            "has one, 0 where it has not, NaN where that is not known; of one label "
            f"labels[:, np.newaxis]. Received: {labels.dtype} of the shape "
            f"{labels.shape}"
        )
    return labels.astype("float32", copy=False)


def _are_of_several(labels: np.ndarray) -> bool:
    """Return whether the rows of a file's labels are more than one class each."""
    if labels.ndim != 2 or labels.shape[1] == 1:
        return False
    return not np.allclose(labels.sum(axis=1), 1, atol=1e-3)


def _classes(
    arrays: dict[str, Split],
    num_classes: int | None,
    names: Sequence[str] | None,
    multi_label: bool,
) -> int:
    """Return the number of classes, refusing labels that are of none."""
    labels = {
        which: arrays[name].labels for name, which in _SPLITS.items() if name in arrays
    }
    given = num_classes or (len(names) if names is not None else None)
    if names is not None and given != len(names):
        raise ValueError(
            f"num_classes={num_classes} and {len(names)} class_names: say one of them."
        )
    of_labels = _of_labels(labels[""])
    classes = given or of_labels
    if not given and labels[""].ndim == 1 and labels[""].min() > 0:
        warnings.warn(
            f"No label is 0, and classes count from 0, so that there are {classes}. "
            "Where yours count from 1 give labels - 1; else say num_classes=.",
            stacklevel=3,
        )
    if classes < 2 and not multi_label:
        raise ValueError(
            f"All labels are of one class, {int(labels[''][0]) if of_labels else 0}, "
            "and a classifier tells two or more apart. Where others are to come, say "
            "num_classes=."
        )
    for which, some in labels.items():
        _refuse_others(which, some, classes)
    return classes


def _refuse_unlearnable(labels: np.ndarray, names: Sequence[str]) -> None:
    """Refuse labels that no picture to train on has, and those that all have."""
    for value, what in ((1, "has"), (0, "is known to be without")):
        there = (labels == value).any(axis=0)
        unused = [name for name, any_ in zip(names, there, strict=True) if not any_]
        if unused:
            raise ValueError(
                f"No picture to train on {what} the labels {few(unused)}, so that "
                "nothing can be learned of them: leave their columns out."
            )


def _of_labels(labels: np.ndarray) -> int:
    return labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1


def _refuse_others(which: str, labels: np.ndarray, classes: int) -> None:
    """Refuse labels outside of 0..classes - 1."""
    if labels.ndim == 2:
        if labels.shape[1] != classes:
            raise ValueError(
                f"{which}labels have a column for each of {labels.shape[1]} classes, "
                f"and there are {classes}."
            )
        return
    wrong = np.unique(labels[(labels < 0) | (labels >= classes)])
    if len(wrong):
        raise ValueError(
            f"{which}labels are class numbers in 0..{classes - 1}, for {classes} "
            f"classes. Received also: {', '.join(map(str, wrong[:5]))}. Where classes "
            "count from 1 give labels - 1; where there are more say num_classes=."
        )
