"""Pictures and labels of one's own, as NumPy arrays."""

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn.model_selection import train_test_split

from keras_densenet.data.arrays import ArrayDataModule, Split, divided
from keras_densenet.data.datamodule import Members
from keras_densenet.data.folds import Fold

AT_A_TIME = 1_000  # pictures whose moments are taken
_RAW = (
    "pictures are raw ones, in 0..255, or floats in 0..1, as they are standardized "
    "here. Of pictures that are standardized already make a tf.data.Dataset: "
    "kd.data.Datasets(tf.data.Dataset.from_tensor_slices((images, labels)).batch(64))"
)


class Arrays(ArrayDataModule):
    """Pictures and labels in memory, such as `keras.datasets` gives them.

    `trainer.fit(module, (images, labels))` makes one. Training pictures are shuffled,
    and all are standardized. The arguments that are not listed here are those of
    `SeededDataModule`.

    Args:
        images: Pictures to train on, `(N, H, W, channels)`, in 0..255 or as floats in
            0..1. Those are kept, and written of in `mean` and `std`, as 0..255.
        labels: Class numbers `(N,)` or `(N, 1)`, or probabilities `(N, classes)`, such
            as one-hot ones.
        batch_size: Pictures in a global batch, over all replicas.
        validation_data: Pictures and labels to validate on, such as `(images, labels)`.
        validation_split: Share of the training pictures to validate on, 0 <= x < 1:
            drawn at random, and the same in every run.
        test_data: Pictures and labels to test on.
        num_classes: Number of classes; by default that of the names, or of the labels.
        class_names: One name a class; by default its number.
        augment: Whether training pictures are shifted, and mirrored with `mirror`.
        mean: Mean of each channel, in 0..255; None for that of the training pictures.
        std: Standard deviation of each channel, in 0..255; None for theirs.

    Raises:
        ValueError: What is given are no such arrays, or a label is none of a class.

    Example:
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
        test_data: tuple[Any, Any] | None = None,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        augment: bool = False,
        mirror: bool = True,
        seed: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        strong: dict[str, float] | None = None,
    ) -> None:
        self.validation_split = validation_split
        train = _split("", images, labels)
        self._arrays = _held_out(train, validation_split, validation_data)
        self._all = train  # in their order, which that of the parts is not
        for name, pair in (("val", validation_data), ("test", test_data)):
            if pair is not None:
                self._arrays[name] = _pair(name, pair, like=train)
        self.input_shape = tuple(train.images.shape[1:])
        self.num_classes = _classes(self._arrays, num_classes, class_names)
        self.class_names = tuple(map(str, class_names or range(self.num_classes)))
        self._given = mean, std
        mean, std = _moments_of(self._arrays["train"].images, mean, std)
        self.mean, self.std = mean, std
        super().__init__(
            batch_size,
            augment=augment,
            mirror=mirror,
            seed=seed,
            mean=mean,
            std=std,
            strong=strong,
        )
        self._say_whether_labels_are_soft(train.labels)

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
            split = Split(_checked_images(_SPLITS[name], images), labels)
        else:
            split = _pair(name, (images, labels), like=train)
            _refuse_others(_SPLITS[name], split.labels, self.num_classes)
        other = copy.copy(self)
        other._arrays, other._splits = {**self._arrays, name: split}, {}
        return other

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
        return divided(every, fold, self.class_names, several=False)

    def load_splits(self, stage: str) -> dict[str, Split]:
        """Return the splits that there are."""
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
        if labels.ndim == 1:
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


def moments(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel of pictures `(N, H, W, C)`.

    A channel that is the same everywhere has the standard deviation 1.0.
    """
    channels = images.shape[-1]
    total, squares = np.zeros(channels), np.zeros(channels)
    for first in range(0, len(images), AT_A_TIME):
        some = images[first : first + AT_A_TIME].astype("float64")
        total += some.sum(axis=(0, 1, 2))
        squares += (some**2).sum(axis=(0, 1, 2))
    pixels = images.size // channels
    mean = total / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 0.0))
    std[std < 1e-6] = 1.0
    return tuple(mean.tolist()), tuple(std.tolist())


def _moments_of(
    images: np.ndarray, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[Sequence[float], Sequence[float]]:
    """Return mean and standard deviation: those given, or else the pictures'."""
    if mean is not None and std is not None:
        return mean, std
    of_the_pictures = moments(images)
    return mean or of_the_pictures[0], std or of_the_pictures[1]


def _held_out(
    train: Split, share: float, validation_data: Any | None
) -> dict[str, Split]:
    """Return the training pictures, and those that are held out of them."""
    if not 0 <= share < 1 or (share and validation_data is not None):
        raise ValueError(
            "validation_split is the share of the training pictures to validate on, "
            "0 <= x < 1, and 0 where there is validation_data. Received: "
            f"validation_split={share}"
        )
    if not share:
        return {"train": train}
    numbers, held_out = train_test_split(
        np.arange(len(train)), test_size=share, random_state=0
    )
    parts = {"train": np.sort(numbers), "val": np.sort(held_out)}
    return {
        name: Split(train.images[places], train.labels[places])
        for name, places in parts.items()
    }


def _pair(name: str, pair: Any, like: Split) -> Split:
    """Return the pictures to validate or to test on."""
    if not is_pair(pair):
        raise ValueError(
            f"{_SPLITS[name]}two arrays, (images, labels), are needed. Received: a "
            f"{type(pair).__name__}"
        )
    split = _split(_SPLITS[name], *pair)
    for what, theirs, ours in (
        ("pictures", split.images.shape[1:], like.images.shape[1:]),
        ("labels", split.labels.shape[1:], like.labels.shape[1:]),
    ):
        if theirs != ours:
            raise ValueError(
                f"{_SPLITS[name]}{what} have the shape (N, *{theirs}), and those to "
                f"train on (N, *{ours}): all must be alike."
            )
    return split


def _split(which: str, images: Any, labels: Any) -> Split:
    images, labels = _checked_images(which, images), np.asarray(labels)
    if len(images) != len(labels):
        raise ValueError(
            f"{which}there are {len(images)} pictures and {len(labels)} labels: each "
            "picture needs one."
        )
    return Split(images, _checked_labels(which, labels))


def _checked_images(which: str, images: Any) -> np.ndarray:
    """Return pictures in 0..255: uint8, or float32 where they were floats."""
    images = np.asarray(images)
    if images.ndim != 4 or not images.size:
        one = images.shape[-1:] in ((1,), (3,))
        place = "np.newaxis" if one else "..., np.newaxis"
        hint = f" Give images[{place}]." if images.ndim == 3 else ""
        raise ValueError(
            f"{which}pictures are arrays of the shape (N, H, W, channels). Received: "
            f"the shape {images.shape}.{hint}"
        )
    is_square = images.shape[2] == images.shape[3]
    channels_first = images.shape[1] == 3 or (images.shape[1] == 1 and is_square)
    if channels_first and images.shape[3] > 4:
        raise ValueError(
            f"{which}pictures have their channels last, (N, H, W, channels). Received: "
            f"the shape {images.shape}. Give np.moveaxis(images, 1, -1)."
        )
    if images.dtype.kind not in "buif":
        raise ValueError(f"{which}{_RAW}. Received: {images.dtype}")
    least, most = float(images.min()), float(images.max())
    if not (least >= 0 and most <= 255):  # NaN is neither
        raise ValueError(f"{which}{_RAW}. Received: values in {least:.4g}..{most:.4g}")
    if images.dtype.kind != "f":
        return images.astype("uint8", copy=False)
    images = images.astype("float32", copy=False)
    return images * np.float32(255) if most <= 1 else images


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
                "each picture. For several labels a picture make a tf.data.Dataset: "
                'kd.data.Datasets(train, ..., labels="several").'
            )
        return labels.astype("float32", copy=False)
    if (labels != np.floor(labels)).any():
        raise ValueError(f"{which}class numbers are whole numbers 0, 1, 2, ...")
    return labels.astype("int64", copy=False)


def _classes(
    arrays: dict[str, Split], num_classes: int | None, names: Sequence[str] | None
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
    if classes < 2:
        raise ValueError(
            f"All labels are of one class, {int(labels[''][0]) if of_labels else 0}, "
            "and a classifier tells two or more apart. Where others are to come, say "
            "num_classes=."
        )
    for which, some in labels.items():
        _refuse_others(which, some, classes)
    return classes


def _of_labels(labels: np.ndarray) -> int:
    return labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1


def _refuse_others(which: str, labels: np.ndarray, classes: int) -> None:
    """Refuse labels outside of 0..classes - 1."""
    if labels.ndim == 2:
        if labels.shape[1] != classes:
            raise ValueError(
                f"{which}labels are probabilities of {labels.shape[1]} classes, and "
                f"there are {classes}."
            )
        return
    wrong = np.unique(labels[(labels < 0) | (labels >= classes)])
    if len(wrong):
        raise ValueError(
            f"{which}labels are class numbers in 0..{classes - 1}, for {classes} "
            f"classes. Received also: {', '.join(map(str, wrong[:5]))}. Where classes "
            "count from 1 give labels - 1; where there are more say num_classes=."
        )
