"""What a trainer's methods are given: a module and data, in any form they may have."""

import inspect
import os
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from keras_densenet.data import Arrays, DataModule, Datasets
from keras_densenet.data.datamodule import LABELS
from keras_densenet.data.labeled_arrays import is_pair
from keras_densenet.errors import MisconfigurationError
from keras_densenet.training.image_classifier import ImageClassifier, Module

BATCH_SIZE = 64  # of arrays, or as many as there are

# A data module, a tf.data.Dataset, or arrays (pictures, labels).
Data: TypeAlias = Any
CkptPath: TypeAlias = str | os.PathLike | None

_MODULE = (
    "an ImageClassifier, such as kd.ImageClassifier(kd.DenseNetBC, depth=40, "
    "growth_rate=12), or a keras.Model made and compiled `with trainer.scope():`"
)
_DATA = (
    "a data module, such as kd.data.Digits(batch_size=64), a tf.data.Dataset of "
    "batches, or arrays (images, labels)"
)


def module_of(
    method: str, module: Any, model: Any, remembered: Module | None = None
) -> Module:
    """Return what is to be trained, tested or exported.

    Args:
        method: Of the trainer, for errors.
        module: What the user gave by its place or by this name.
        model: What the user gave by Lightning's name for it.
        remembered: What to take where nothing is given.

    Raises:
        MisconfigurationError: It is of another kind, is there twice, or not at all.
    """
    if module is not None and model is not None:
        raise MisconfigurationError(
            f"{method} was given module= and model=, which mean the same: leave one "
            "out."
        )
    given = model if module is None else module
    if given is None:
        given = remembered
    if given is None:
        after = "" if method == "fit" else ", or call fit before"
        raise MisconfigurationError(f"{method} needs a module: {_MODULE}{after}.")
    if not isinstance(given, ImageClassifier | keras.Model):
        raise MisconfigurationError(
            f"{method} takes as its module {_MODULE}. Received: "
            f"{_named(given)}.{_cure_of_module(method, given)}"
        )
    return given


def data_of(
    method: str,
    *,
    datamodule: Data,
    dataloaders: Data,
    validation: Data = None,
    remembered: DataModule | None = None,
) -> DataModule:
    """Return the data module, made of datasets or of arrays where these are given.

    Args:
        method: Of the trainer: "fit", "validate", "test", "predict", ...
        datamodule: What the user gave by its place or by this name.
        dataloaders: What the user gave by Lightning's name for datasets.
        validation: Datasets or arrays to validate on, besides those of `fit`.
        remembered: What to take where nothing is given, and whose mean and standard
            deviation arrays are standardized with unless they are trained on.

    Raises:
        MisconfigurationError: They are of another kind, there twice, or not at all.
        ValueError: Arrays or datasets cannot be used: see `Arrays` and `Datasets`.
    """
    if datamodule is not None and dataloaders is not None:
        raise MisconfigurationError(
            f"{method} was given a data module and dataloaders=: leave one out."
        )
    given = dataloaders if datamodule is None else datamodule
    if given is None:
        given = remembered
    if given is None:
        after = "" if method == "fit" else ", or call fit before"
        raise MisconfigurationError(
            f"{method} needs data, datamodule=...: {_DATA}{after}."
        )
    if isinstance(given, tf.data.Dataset):
        return _of_dataset(method, given, validation, remembered)
    if is_pair(given) or (method == "predict" and _is_array(given)):
        return _of_arrays(method, given, validation, remembered)
    if not isinstance(given, DataModule):
        raise MisconfigurationError(
            f"{method} takes as its data {_DATA}. Received: "
            f"{_named(given)}.{_cure_of_data(method, given, validation)}"
        )
    if validation is not None:
        raise MisconfigurationError(
            f"A data module has its own pictures to validate on, and {method} was "
            f"given {_named(validation)}, too: leave it out."
        )
    return given


def refuse_unknown_labels(data: DataModule) -> None:
    """Refuse data whose `labels` say nothing that the contract knows.

    A data module of one's own may have stored its labels under that name.
    """
    if not isinstance(data.labels, str) or data.labels not in LABELS:
        raise MisconfigurationError(
            f"{type(data).__name__}.labels says what kind of labels a picture has, "
            f"{', '.join(LABELS)}: store the labels themselves under another name. "
            f"Received: an object of the type {type(data.labels).__name__}."
        )


def checkpoint_and_validation(
    ckpt_path: Any, validation: Data
) -> tuple[CkptPath, Data]:
    """Return the checkpoint and the validation data of a fit.

    In the third place of `fit` Lightning has the validation data, and this package the
    checkpoint: what is no path is those.
    """
    is_data = isinstance(ckpt_path, tf.data.Dataset) or is_pair(ckpt_path)
    if is_data and validation is None:
        return None, ckpt_path
    return checked_path("fit", ckpt_path), validation


def checked_path(method: str, ckpt_path: Any) -> CkptPath:
    """Return a checkpoint's path, refusing what is none."""
    if ckpt_path is None or (isinstance(ckpt_path, str | os.PathLike) and ckpt_path):
        return ckpt_path
    hint = ""
    if _is_array(ckpt_path):
        hint = f" Of arrays: trainer.{method}(module, (images, labels))."
    raise MisconfigurationError(
        f"{method}(ckpt_path=) is the path of a checkpoint, 'last', 'best' or None. "
        f"Received: {_named(ckpt_path)}.{hint}"
    )


# --- datasets and arrays ---------------------------------------------------------


def _of_dataset(
    method: str,
    dataset: tf.data.Dataset,
    validation: Data,
    remembered: DataModule | None,
) -> Datasets:
    if method == "fit":
        return Datasets(dataset, validation)
    place = {"validate": "validation", "predict": "predict"}.get(method, "test")
    if isinstance(remembered, Datasets):
        return remembered.with_split(place, dataset)
    facts = ("class_names", "mean", "std")
    known: dict[str, Any] = {name: getattr(remembered, name, None) for name in facts}
    known["labels"] = getattr(remembered, "labels", "one")
    return Datasets(**{place: dataset}, **known)


def _of_arrays(
    method: str, given: Any, validation: Data, remembered: DataModule | None
) -> Arrays:
    if method == "fit":
        images, labels = given
        batch_size = max(1, min(BATCH_SIZE, len(images)))
        return Arrays(images, labels, batch_size, validation_data=validation)
    if not (hasattr(remembered, "mean") and hasattr(remembered, "std")):
        raise MisconfigurationError(
            "Arrays must be standardized as the pictures were that the network was "
            "trained on, and this trainer has not seen these. Say what they were "
            f"standardized with: trainer.{method}(module, kd.data.Arrays(images, "
            "labels, test_data=(images, labels), mean=..., std=...))."
        )
    # To predict there are pictures alone.
    images, labels = given if is_pair(given) else (given, None)
    if not isinstance(remembered, Arrays):
        assert remembered is not None
        several = remembered.labels == "several"
        none = np.zeros((len(images), *[remembered.num_classes] * several), int)
        remembered = Arrays(
            images,
            none if labels is None else labels,
            remembered.batch_size or BATCH_SIZE,
            num_classes=remembered.num_classes,
            class_names=remembered.class_names,
            multi_label=several,
            rank=len(remembered.input_shape) - 1,
            mean=remembered.mean,
            std=remembered.std,
        )
    place = {"validate": "val", "predict": "predict"}.get(method, "test")
    return remembered.with_split(place, images, None if method == "predict" else labels)


def _is_array(given: Any) -> bool:
    return hasattr(given, "shape") and hasattr(given, "dtype")


# --- what is said of another kind ------------------------------------------------


def _named(given: Any) -> str:
    """Say what was given, as "the class Digits", "a Digits" or "the function f"."""
    if inspect.isclass(given):
        return f"the class {given.__name__}"
    if callable(given) and hasattr(given, "__name__"):
        return f"the function {given.__name__}"
    if isinstance(given, str | bool | int | float | os.PathLike):
        return repr(given)
    if _is_array(given):
        return f"an array of the shape {tuple(given.shape)}"
    return f"a {type(given).__name__}"


def _cure_of_module(method: str, given: Any) -> str:
    if inspect.isclass(given) and issubclass(given, ImageClassifier):
        return f" Make one of it: {given.__name__}(kd.DenseNetBC, ...)."
    if inspect.isclass(given) and issubclass(given, keras.Model):
        return f" Make and compile one of it: {given.__name__}(...)."
    if callable(given) and hasattr(given, "__name__") and not inspect.isclass(given):
        return f" Wrap it: kd.ImageClassifier({given.__name__}, ...)."
    if isinstance(given, DataModule | tf.data.Dataset) or is_pair(given):
        return f" Data come second, or by name: trainer.{method}(datamodule=...)."
    if isinstance(given, str | os.PathLike):
        path = "path" if method == "export" else "ckpt_path"
        return f" A path has its name: trainer.{method}({path}={str(given)!r})."
    return ""


def _cure_of_data(method: str, given: Any, validation: Data) -> str:
    if inspect.isclass(given) and issubclass(given, DataModule):
        return f" Make one of it: {given.__name__}(...)."
    if isinstance(given, ImageClassifier | keras.Model):
        return f" The module comes first: trainer.{method}(module, datamodule=data)."
    if _is_array(given):
        return f" Give both in one: trainer.{method}(module, (images, labels))."
    if isinstance(given, str | os.PathLike) and method == "predict":
        return f" Of files and folders: kd.data.Pictures({str(given)!r}, like=data)."
    if isinstance(given, str | os.PathLike):
        return f" Of a folder of pictures: kd.data.ImageFolder({str(given)!r})."
    if hasattr(given, "__iter__"):
        return " A generator becomes a dataset: tf.data.Dataset.from_generator(...)."
    return ""
