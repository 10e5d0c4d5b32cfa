"""Publish a model as a version that TensorFlow Serving loads."""

import functools
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_densenet.export.inference import again, inference_network

VERIFICATION_TOLERANCE = 1e-4


class ExportError(RuntimeError):
    """An export that was written does not answer as its model does."""


def savedmodel(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    class_names: Sequence[str] = (),
) -> Path:
    """Write `<path>/<version>/`, a SavedModel on raw RGB pictures.

    The signature `serving_default` takes `images`, float32 `(N, H, W, channels)` in
    0..255, and standardises them inside the graph. It gives `probabilities`, float32
    `(N, classes)`, and `class_ids`, int32 `(N,)`. The graph computes in float32,
    whatever precision the model was trained in, its batch norms folded into weights
    where that is exact, and holds no code of this package.

    It is written beside, loaded, compared with the model on random pictures, and then
    renamed: a server that watches `path` never sees half a version, and the versions
    before it stay.

    Args:
        model: From standardised pictures to class probabilities.
        path: Folder of the model's versions; its name is the name to serve under.
        mean: Mean of each channel, in 0..255.
        std: Standard deviation of each channel, in 0..255.
        class_names: One name a class, written to `assets.extra/labels.txt`.

    Returns:
        The folder of the new version, one above the highest there.

    Raises:
        ValueError: mean or std do not fit the channels, or class_names the classes.
        ExportError: What was written does not answer as the model does.
    """
    _check(model, mean, std, class_names)
    base = Path(path)
    base.mkdir(parents=True, exist_ok=True)
    network = inference_network(model)
    serve = _serving_function(network.probabilities, mean, std)
    unfolded = functools.partial(again(model), training=False)
    expected = _serving_function(unfolded, mean, std)
    number = next_version_number(base)
    staged = base / f".tmp-{number}-{os.getpid()}"
    try:
        _write(serve, _images_spec(model), staged)
        _write_labels(staged, class_names)
        _verify(staged, expected, _images_spec(model))
        _flush(staged)
        os.rename(staged, base / str(number))
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return base / str(number)


def next_version_number(base: Path) -> int:
    """Give the number above the highest version in a folder; 1 if there is none."""
    versions = [int(name) for name in os.listdir(base) if name.isdecimal()]
    return max(versions, default=0) + 1


def _check(model: keras.Model, mean: Any, std: Any, class_names: Sequence[str]) -> None:
    channels, classes = model.input_shape[-1], model.output_shape[-1]
    if len(mean) != channels or len(std) != channels:
        raise ValueError(
            f"The model reads {channels} channels: mean and std need as many values, "
            f"in 0..255. Received: mean={mean}, std={std}"
        )
    if class_names and len(class_names) != classes:
        raise ValueError(
            f"The model tells {classes} classes apart and class_names has "
            f"{len(class_names)}."
        )


def _serving_function(
    probabilities_of: Callable[[Any], Any], mean: Any, std: Any
) -> Callable:
    center = tf.constant(mean, tf.float32)
    scale = 1.0 / tf.constant(std, tf.float32)

    def serve(images: Any) -> dict[str, Any]:
        probabilities = probabilities_of((images - center) * scale)
        return {
            "probabilities": probabilities,
            "class_ids": tf.argmax(probabilities, axis=-1, output_type=tf.int32),
        }

    return serve


def _images_spec(model: keras.Model) -> tf.TensorSpec:
    return tf.TensorSpec([None, *model.input_shape[1:]], tf.float32, name="images")


def _write(serve: Callable, images: tf.TensorSpec, folder: Path) -> None:
    # Without archive.track(model), which would store every weight twice (keras#23553).
    archive = keras.export.ExportArchive()
    archive.add_endpoint("serve", serve, [images])  # also named serving_default
    archive.write_out(str(folder), verbose=False)


def _write_labels(folder: Path, class_names: Sequence[str]) -> None:
    extra = folder / "assets.extra"
    extra.mkdir()
    lines = "".join(f"{name}\n" for name in class_names)
    (extra / "labels.txt").write_text(lines, encoding="utf-8")


def _verify(folder: Path, expected: Callable, images: tf.TensorSpec) -> None:
    size = [2, *(side or 64 for side in images.shape[1:])]
    pictures = np.random.default_rng(0).uniform(0, 255, size).astype("float32")
    loaded = tf.saved_model.load(str(folder)).signatures["serving_default"]
    answer = loaded(images=tf.constant(pictures))["probabilities"]
    difference = float(np.abs(answer - expected(pictures)["probabilities"]).max())
    if not difference <= VERIFICATION_TOLERANCE:
        raise ExportError(
            f"The SavedModel answers differently from the model, by {difference:.2g}: "
            "it was not published. Are there NaNs in the weights?"
        )


def _flush(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
