"""What `Trainer.export` writes: a SavedModel, LiteRT or ONNX."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras

from keras_densenet.data import DataModule
from keras_densenet.decisions import Decisions
from keras_densenet.errors import MisconfigurationError
from keras_densenet.export import litert_of_data, onnx, savedmodel
from keras_densenet.export.golden import TOLERANCES
from keras_densenet.export.held_out import raw_pictures

FORMATS = ("savedmodel", "litert", "onnx")


class Measured(NamedTuple):
    """What was measured of a model since it was trained.

    Attributes:
        model: Which one.
        ckpt_path: The checkpoint that its weights are of; None if of none.
        metrics: Of "validate" and "test".
    """

    model: keras.Model | None = None
    ckpt_path: Any = None
    metrics: Mapping[str, dict[str, float]] = {}

    def of(self, model: keras.Model, ckpt_path: Any) -> Mapping[str, dict[str, float]]:
        """Return the metrics of a model with the weights of a checkpoint."""
        same = self.model is model and ckpt_path in (None, self.ckpt_path)
        return self.metrics if same else {}

    def adding(
        self, model: keras.Model, ckpt_path: Any, metrics: Mapping[str, dict]
    ) -> "Measured":
        """Add metrics, or begin anew with another model or checkpoint."""
        before = self.of(model, ckpt_path)
        weights = self.ckpt_path if before and ckpt_path is None else ckpt_path
        return Measured(model, weights, {**before, **metrics})


def refuse_to_export(
    data: DataModule,
    to: str,
    quantize: str | None,
    precision: str,
    path: str | os.PathLike | None,
) -> Path:
    """Return the path, refusing what cannot be exported before a model is made."""
    if path is None:
        raise MisconfigurationError(
            'export needs to know where: trainer.export(path="saved_models/mine").'
        )
    refuse_without_preprocessing("export", data)
    if to not in FORMATS:
        raise MisconfigurationError(
            f"format must be one of {', '.join(FORMATS)}. Received: {to!r}"
        )
    of_a_file = {".onnx": "onnx", ".tflite": "litert"}.get(Path(path).suffix)
    if to == "savedmodel" and of_a_file:
        raise MisconfigurationError(
            f"A SavedModel is a folder, and {path} is the name of a file: give "
            f'format="{of_a_file}", or the folder of the versions.'
        )
    if quantize and to != "litert":
        raise MisconfigurationError(
            f'quantize= is for format="litert". Received: format={to!r}, '
            f"quantize={quantize!r}"
        )
    if precision not in list(TOLERANCES):
        raise MisconfigurationError(
            f"precision must be one of {', '.join(TOLERANCES)}. Received: {precision!r}"
        )
    if precision != "float32" and to != "savedmodel":
        raise MisconfigurationError(
            'precision="bfloat16" is for format="savedmodel". Received: '
            f"format={to!r}. OpenVINO computes a float32 file in bfloat16 by itself."
        )
    return Path(path)


def refuse_without_preprocessing(method: str, data: DataModule) -> None:
    """Refuse data that do not say what their pictures were standardized with."""
    if not (hasattr(data, "mean") and hasattr(data, "std")):
        raise MisconfigurationError(
            f"{method} needs what the pictures were standardized with, and "
            f"{type(data).__name__} does not say: kd.data.Datasets(train, ..., "
            "mean=..., std=...), one number for each channel, in 0..255 for pictures; "
            "0.0 and 1.0 where they were not."
        )


def _resizing(data: DataModule) -> dict[str, Any]:
    """Return how pictures become the network's size; signals and volumes have it."""
    is_of_pictures = len(data.input_shape) == 3
    names = ("short_side", "method", "fit") if is_of_pictures else ()
    return {name: getattr(data, name) for name in names}


def write(
    model: keras.Model,
    path: str | os.PathLike,
    data: DataModule,
    to: str,
    quantize: str | None,
    precision: str,
    metrics: Mapping[str, dict[str, float]],
    say: Callable[[str], Any],
    decisions: Decisions | None = None,
) -> Path:
    """Write a model in one of the formats.

    Args:
        model: Trained on the data.
        path: Of the folder of its versions, or of the file.
        data: Says how pictures are prepared.
        to: One of `FORMATS`.
        quantize: Of LiteRT.
        precision: Of a SavedModel.
        metrics: Kept with a SavedModel.
        say: Takes a line to print.
        decisions: Temperatures and thresholds of the labels.

    Returns:
        The version's folder, or the file.
    """
    how: dict[str, Any] = {
        "mean": data.mean,
        "std": data.std,
        "class_names": data.class_names,
        "decisions": decisions,
    }
    if to == "savedmodel":
        facts = {"data_set": type(data).__name__, "metrics": metrics}
        if precision != "float32":
            data.prepare_data()
            how |= {"precision": precision, "held_out": raw_pictures(data, "test")}
        return savedmodel(model, path, facts=facts, **how, **_resizing(data))
    if to == "onnx":
        done = onnx(model, path, **how)
    else:
        done = litert_of_data(model, path, data, quantize, decisions)
    say(f"Its logits differ from the model's by {done.difference:.1e} of the largest.")
    if done.accuracy is not None:
        say(
            f"Of test pictures {done.accuracy:.2%} are right, "
            f"{done.accuracy_before:.2%} before it was quantized."
        )
    return done.path
