"""Data sets that are tf.data.Datasets already."""

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from keras_densenet.data.datamodule import LABELS, DataModule, Labels
from keras_densenet.pixel_classes import VOID


class Datasets(DataModule):
    """`tf.data.Dataset`s of one's own, with batches as a network is to see them.

    `trainer.fit(module, train, validation)` makes one. A run that is resumed reads the
    training batches again up to where it was: they are the same if shuffling has a
    seed, `train.shuffle(1000, seed=1)`.

    Args:
        train: Batches of (pictures, labels) to train on, one epoch of them; or of
            signals or volumes.
        validation: Batches to validate on, or None.
        test: Batches to test on, or None.
        predict: Batches of pictures, with labels or without; by default `test`.
        num_classes: Number of classes. By default that of the names, or of labels that
            are probabilities `(N, classes)`; of class numbers all training labels are
            read once, where it is asked for.
        class_names: One name a class; by default those that Keras gave to `train`
            (`image_dataset_from_directory`), or its number.
        mean: Mean of each channel that pictures were standardized with, in 0..255.
            A report and an export need it; training does not.
        std: Standard deviation of each channel, likewise.
        labels: "one" where each picture is of one class. "several" where it may have
            several labels, or none: those of a batch are then `(N, classes)`, 1 where a
            picture has one, 0 where it has not, NaN where that is not known; of one
            label `(N, 1)`. "pixels" where each pixel is of one class: class numbers of
            the shape of the pictures without channels, 255 where it is not known.

    Raises:
        ValueError: A dataset has no such batches.
    """

    def __init__(
        self,
        train: tf.data.Dataset | None = None,
        validation: tf.data.Dataset | None = None,
        test: tf.data.Dataset | None = None,
        predict: tf.data.Dataset | None = None,
        *,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        labels: Labels = "one",
    ) -> None:
        if labels not in LABELS:
            raise ValueError(
                'labels must be "one", "several" or "pixels". Received: '
                f"labels={labels!r}"
            )
        given = {"train": train, "validation": validation, "test": test}
        for name, dataset in given.items():
            _refuse_other_batches(name, dataset, labeled=True)
        _refuse_other_batches("predict", predict, labeled=False)
        self._given = {**given, "predict": predict}
        some = next((d for d in self._given.values() if d is not None), None)
        if some is None:
            raise ValueError("Datasets needs one dataset at least: Datasets(train).")
        self._spec = some.element_spec
        pictures = tf.nest.flatten(self._spec)[0].shape
        self.input_shape = tuple(pictures[1:])
        self.batch_size = pictures[0]  # None where it is not known
        of_batches = self._spec[1] if isinstance(self._spec, tuple) else None
        is_matrix = of_batches is not None and _is_of_classes(of_batches)
        self.labels = labels
        self.soft_labels = is_matrix and labels == "one"
        for name, dataset in given.items():
            self._given[name] = self._with_labels(name, dataset)
        self._num_classes = num_classes
        self._class_names = class_names or getattr(train, "class_names", None)
        many = num_classes or len(self._class_names or ())
        if labels == "pixels" and many > VOID:
            raise ValueError(
                f"Masks have {VOID} classes at most: number {VOID} is that of pixels "
                f"whose class is not known. Received: {many} classes"
            )
        if mean is not None and std is not None:
            self.mean, self.std = tuple(mean), tuple(std)

    @cached_property
    def num_classes(self) -> int:  # type: ignore[override]
        """Return the number of classes."""
        if self._num_classes or self._class_names:
            return self._num_classes or len(self._class_names or ())
        if self.soft_labels or self.labels == "several":
            return int(self._spec[1].shape[1])
        train = self._given["train"]
        if train is None or int(train.cardinality()) < 1:
            raise ValueError(
                "How many classes there are cannot be counted, as the training batches "
                "have no end that is known: say kd.data.Datasets(train, ..., "
                "num_classes=...)."
            )
        labels = np.concatenate([np.ravel(labels) for _, labels, *_ in train])
        if self.labels == "pixels":
            labels = _known(labels)
        if labels.min() < 0 or labels.max() < 1:
            raise ValueError(
                "Labels are class numbers 0, 1, ... of two classes or more. Received: "
                f"labels in {labels.min()}..{labels.max()}. Where others are to come, "
                "say kd.data.Datasets(train, ..., num_classes=...)."
            )
        return int(labels.max()) + 1

    @property
    def are_named(self) -> bool:
        """Return whether the classes have names, and not numbers alone."""
        return bool(self._class_names)

    @cached_property
    def class_names(self) -> Sequence[str]:  # type: ignore[override]
        """Return one name a class."""
        return tuple(map(str, self._class_names or range(self.num_classes)))

    def with_split(self, name: str, dataset: tf.data.Dataset) -> "Datasets":
        """Return these with another dataset as "validation", "test" or "predict"."""
        _refuse_other_batches(name, dataset, labeled=name != "predict")
        other = copy.copy(self)
        other._given = {**self._given, name: self._with_labels(name, dataset)}
        return other

    def _with_labels(self, name: str, dataset: Any) -> Any:
        """Return a dataset, several labels as float32: a NaN is no whole number."""
        if dataset is None or self.labels == "one" or name == "predict":
            return dataset
        labels = dataset.element_spec[1]
        if self.labels == "pixels":
            pictures = tf.nest.flatten(self._spec)[0].shape
            if not pictures[:-1].is_compatible_with(labels.shape):
                raise ValueError(
                    f'{name}: labels="pixels" needs a class number for each pixel, '
                    f"{pictures[:-1]} of pictures {pictures}. Received: {labels}"
                )
            return dataset.map(lambda x, y, *more: (x, tf.cast(y, tf.int32), *more))
        is_matrix = isinstance(labels, tf.TensorSpec) and labels.shape.rank == 2
        if not is_matrix or labels.shape[1] is None:
            raise ValueError(
                f'{name}: labels="several" needs labels of the shape (N, classes), 1 '
                "where a picture has one and 0 where it has not; of one label (N, 1), "
                "which dataset.map(lambda x, y: (x, y[:, tf.newaxis])) makes of (N,). "
                f"Received: {labels}"
            )
        return dataset.map(lambda x, y, *more: (x, tf.cast(y, tf.float32), *more))

    def train_dataset(self) -> tf.data.Dataset:
        """Return the training batches of one epoch."""
        if self._given["train"] is None:
            raise ValueError(
                "There is nothing to train on: say kd.data.Datasets(train=...)."
            )
        return self._given["train"]

    def val_dataset(self) -> tf.data.Dataset | None:
        """Return the validation batches, or None."""
        return self._given["validation"]

    def test_dataset(self) -> tf.data.Dataset | None:
        """Return the test batches, or None."""
        return self._given["test"]

    def predict_dataset(self) -> tf.data.Dataset | None:
        """Return batches of pictures alone, or None."""
        predict = self._given["predict"] or self._given["test"]
        if predict is None or not isinstance(predict.element_spec, tuple):
            return predict
        return predict.map(lambda images, *rest: images)


def _is_of_classes(labels: Any) -> bool:
    """Return whether labels have a number for each class, `(N, classes)`."""
    is_matrix = isinstance(labels, tf.TensorSpec) and labels.shape.rank == 2
    return is_matrix and (labels.shape[1] or 1) > 1


def _refuse_other_batches(name: str, dataset: Any, labeled: bool) -> None:
    """Refuse what is no dataset of batches of pictures, or of them and labels."""
    if dataset is None:
        return
    if not isinstance(dataset, tf.data.Dataset):
        raise ValueError(
            f"{name} must be a tf.data.Dataset. Received: a {type(dataset).__name__}. "
            "A Python generator becomes one by tf.data.Dataset.from_generator, arrays "
            "are for kd.data.Arrays(images, labels)."
        )
    spec = dataset.element_spec
    is_pair = isinstance(spec, tuple) and len(spec) in (2, 3)
    pictures = spec[0] if is_pair else spec
    rank = pictures.shape.rank if isinstance(pictures, tf.TensorSpec) else None
    is_single = not _are_batches(pictures, spec[1] if is_pair else None)
    if rank not in (3, 4, 5) or is_single or (labeled and not is_pair):
        cure = ""
        if rank is None:
            cure = " Of a generator say output_signature=, with these shapes."
        elif is_single or rank < 3:
            cure = f" Of single ones: {name}.batch(64)."
        raise ValueError(
            f"{name} must have batches of (pictures, labels), pictures of the shape "
            "(N, H, W, channels), or signals (N, T, channels) or volumes (N, D, H, W, "
            f"channels). Received: {spec}.{cure}"
        )


def _are_batches(pictures: Any, labels: Any) -> bool:
    """Return whether the first axis is that of a batch, and not of a single picture."""
    if isinstance(labels, tf.TensorSpec) and labels.shape.rank is not None:
        return labels.shape.rank > 0
    # Of signals and single pictures, which have as many axes, the labels tell; or else
    # that batches may have another size at the end.
    is_like_a_picture = isinstance(pictures, tf.TensorSpec) and pictures.shape.rank == 3
    return not is_like_a_picture or pictures.shape[0] is None


def _known(labels: np.ndarray) -> np.ndarray:
    """Return the class numbers of the pixels whose class is known.

    Raises:
        ValueError: There are none, or some are no class numbers.
    """
    known = labels[labels != VOID]
    if not known.size or known.min() < 0 or known.max() > VOID:
        raise ValueError(
            f"Masks are class numbers 0, 1, ..., and {VOID} where the class is not "
            "known, of which dataset.map can make another number. Received: "
            f"{np.unique(labels)[:5].tolist()}, ..."
        )
    return known
