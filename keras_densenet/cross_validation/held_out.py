"""The pictures that a fold is validated on: asked about, and kept with the answers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_densenet.cross_validation.results import FoldRecord, OutOfFold
from keras_densenet.data import DataModule
from keras_densenet.data.datamodule import FACTS, Members
from keras_densenet.errors import MisconfigurationError
from keras_densenet.training import ImageClassifier, Trainer
from keras_densenet.whole_file import whole_file

RECORD, ANSWERS = "fold.json", "predictions.npz"  # in a fold's folder


class ValidationPictures(DataModule):
    """The validation pictures of data, to predict.

    Args:
        data: Whose they are.
    """

    def __init__(self, data: DataModule) -> None:
        self._data = data
        self.input_shape = data.input_shape
        for fact in FACTS:
            if hasattr(data, fact):
                setattr(self, fact, getattr(data, fact))

    def prepare_data(self) -> None:
        """Do nothing: they were trained on."""

    def setup(self, stage: str) -> None:
        """Set up the pictures."""
        self._data.setup("validate")

    def teardown(self, stage: str) -> None:
        """Let go of what setup took."""
        self._data.teardown("validate")

    def keep_split(self, state: dict[str, Any]) -> bool:
        """Hold out the pictures that a run held out."""
        return self._data.keep_split(state)

    def train_dataset(self) -> tf.data.Dataset:
        """Raise an error: they are to predict."""
        raise NotImplementedError(
            "ValidationPictures only has pictures to predict: train on the data that "
            "it was made of."
        )

    test_dataset = train_dataset

    def predict_dataset(self) -> tf.data.Dataset:
        """Return batches of the pictures alone."""
        return self._batches().map(lambda images, *rest: images)

    def broken_file(self) -> str | None:
        """Return path and reason of a file that is broken; None if none is."""
        return self._data.broken_file()

    def labels_and_members(self) -> tuple[np.ndarray, Members | None]:
        """Read the labels, and return them with which pictures these are.

        Labels are class numbers `(N,)`, or several of a picture `(N, classes)`.
        """
        self.setup("validate")
        try:
            batches = self._batches().map(lambda images, labels, *rest: labels)
            labels = np.concatenate(list(batches.as_numpy_iterator()))
            return self._numbers(labels), self._data.members("val")
        finally:
            self.teardown("validate")

    def _batches(self) -> tf.data.Dataset:
        batches = self._data.val_dataset()
        if batches is None:
            raise MisconfigurationError(
                f"A fold of {type(self._data).__name__} has no val_dataset(): let "
                "fold(number, folds) return data that validate on the fold."
            )
        return batches

    def _numbers(self, labels: np.ndarray) -> np.ndarray:
        if self._data.labels == "several":
            return labels.astype("float32")
        if labels.ndim == 2 and labels.shape[1] > 1:
            return labels.argmax(axis=1)
        return labels.reshape(len(labels)).astype("int64")


def answer_about(
    trainer: Trainer,
    module: ImageClassifier,
    data: DataModule,
    fold: int,
    folder: Path,
) -> None:
    """Validate a fold's network, ask it about the fold, and write both down.

    Args:
        trainer: It has trained the network.
        module: What it has trained.
        data: The fold.
        fold: Its number.
        folder: Where `fold.json` is written to, last of all: it says that the fold is
            done.
    """
    checkpoint = _checkpoint_to_test(trainer)
    metrics = _flat(trainer.validate(module, data, checkpoint))
    pictures = ValidationPictures(data)
    labels, members = pictures.labels_and_members()
    probabilities = trainer.predict(module, pictures, checkpoint)
    arrays = {"labels": labels, "probabilities": probabilities}
    for name, values in (members._asdict() if members else {}).items():
        if values is not None:
            arrays[name] = np.asarray(values).astype(None if name == "numbers" else str)
    _refuse_other_lengths(arrays, data)
    with whole_file(folder / ANSWERS) as beside, beside.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    where = checkpoint and str(checkpoint.relative_to(folder))
    record = {"fold": fold, "pictures": len(labels), "checkpoint": where}
    with whole_file(folder / RECORD) as beside:
        beside.write_text(json.dumps(record | {"metrics": metrics}))


def is_done(folder: Path) -> bool:
    """Return whether the fold of a folder was trained and answered about."""
    return (folder / RECORD).is_file()


def read_record(folder: Path) -> FoldRecord:
    """Return what is known of a fold that is done."""
    record = json.loads((folder / RECORD).read_text())
    where = record["checkpoint"]
    return FoldRecord(**record | {"checkpoint": folder / where if where else None})


def read_answers(folders: Sequence[Path], class_names: Sequence[str]) -> OutOfFold:
    """Return the answers about all pictures, in the data's own order where it is known.

    Args:
        folders: Of all folds, in their order.
        class_names: A name for each class.
    """
    parts = []
    for folder in folders:
        with np.load(folder / ANSWERS) as arrays:
            parts.append(dict(arrays))
    sizes = [len(part["labels"]) for part in parts]
    joined = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    joined["folds"] = np.repeat(np.arange(1, len(parts) + 1), sizes)
    numbers = joined.pop("numbers", np.arange(sum(sizes)))
    order = np.argsort(numbers, kind="stable")
    files = joined.pop("files", None)
    return OutOfFold(
        **{name: values[order] for name, values in joined.items()},
        class_names=tuple(class_names),
        files=None if files is None else files[order].tolist(),
    )


def _checkpoint_to_test(trainer: Trainer) -> Path | None:
    """Return the best checkpoint, where the run keeps one; else the last; or None."""
    kept = trainer.checkpoint_callback
    path = kept and (kept.best_model_path or kept.last_model_path)
    return Path(path) if path else None


def _flat(metrics: dict[str, Any]) -> dict[str, float]:
    """Return a number for each metric; one that has many has a name for each.

    >>> _flat({"loss": 0.5, "f1": [0.25, 1.0]})
    {'loss': 0.5, 'f1_0': 0.25, 'f1_1': 1.0}
    """
    flat: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, list):
            values = np.ravel(value).tolist()
            flat |= {f"{name}_{n}": number for n, number in enumerate(values)}
        else:
            flat[name] = value
    return flat


def _refuse_other_lengths(arrays: dict[str, np.ndarray], data: DataModule) -> None:
    """Refuse what the data say of other pictures than they have."""
    lengths = {name: len(values) for name, values in arrays.items()}
    if len({*lengths.values()}) > 1:
        raise MisconfigurationError(
            f"{type(data).__name__} does not say the same of its validation pictures: "
            f"{lengths}. Let members('val') be those of val_dataset(), in its order."
        )
