"""Publish a model as a version that TensorFlow Serving loads."""

import math
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import psutil
import tensorflow as tf

from keras_densenet.data.crops import fit_of
from keras_densenet.decisions import Decisions
from keras_densenet.export import assets
from keras_densenet.export.golden import TOLERANCES
from keras_densenet.export.held_out import checked_accuracies, checked_pictures
from keras_densenet.export.inference import (
    inference_network,
    refuse_unknown_answers,
    unfolded_network,
)
from keras_densenet.export.signatures import Preprocessing, Serving, Signature
from keras_densenet.export.verification import ExportError, verify
from keras_densenet.model_output import is_functional, output_of
from keras_densenet.whole_file import flush

HOUR = 3600.0
MAX_DROP = 0.002  # of bfloat16


def savedmodel(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    class_names: Sequence[str] = (),
    short_side: int | None = None,
    method: str | None = None,
    fit: str | None = None,
    top_k: int = 5,
    facts: Mapping[str, Any] | None = None,
    decisions: Decisions | None = None,
    precision: str = "float32",
    held_out: tuple[np.ndarray, np.ndarray] | None = None,
    max_drop: float = MAX_DROP,
) -> Path:
    """Write `<path>/<version>/`, a SavedModel on raw pictures, signals or volumes.

    Pictures are gray, RGB or RGBA; signals and volumes are in their own units, such as
    Hounsfield's, and of the network's size.

    Its signatures are `serve`, which is also `serving_default`, `predict_bytes`,
    `classify` and `embed`: see `Serving.signatures`; signals and volumes come not as
    files, and have `serve` and `embed` alone. The graph resizes and standardizes
    pictures as evaluation does. It computes in float32, whatever precision the model
    was trained in, or in bfloat16 where `precision` says so, with batch norms folded
    into weights where that is exact, and holds no code of this package. What it takes
    and returns is float32 either way.

    The version is written beside, with labels, facts, golden requests and warm-up
    requests. These are replayed in a process of its own, which loads the version by
    TensorFlow's session loader, and each signature must answer there as the model does.
    Only then is the folder renamed. A server that watches `path` never sees half a
    version, and the versions before it stay.

    Args:
        model: Takes standardized pictures, signals or volumes, and returns class
            probabilities or logits.
        path: Folder of the model's versions; its name is the name to serve under.
        mean: Mean of each channel: of pictures in 0..255, of signals and volumes in
            their own units.
        std: Standard deviation of each channel, likewise.
        class_names: One name a class; by default the numbers of the classes.
        short_side: Pixels that a picture's short side is resized to before its center
            is cut out; by default the shorter side of what the model reads. It,
            `method` and `fit` are of pictures alone.
        method: How `tf.image.resize` resizes: "bicubic", the default, or "bilinear".
        fit: How a picture becomes what the model reads, as the data module's `fit` has
            it: "crop", "pad" or "squash"; None for "crop" where the model reads a
            square, and "squash" where it reads none.
        top_k: How many classes `predict_bytes` and `classify` name, 1 or more. There
            are no more names than classes.
        facts: What else `export.json` is to say, such as the data set and metrics.
        decisions: Temperatures and thresholds of the labels, as
            `keras_densenet.calibrate` returns them: then it also answers "decisions".
        precision: "float32", or "bfloat16", in which maps are computed, and kernels of
            this package's blocks stored: half the file, and faster on processors that
            multiply in it (Intel's with AMX, AMD's and Intel's with AVX512_BF16).
        held_out: Raw pictures, signals or volumes and their class numbers, or rows of
            labels: of their accuracy `max_drop` may be lost.
        max_drop: 0.002 is 0.2 percentage points. One picture may always be lost.

    Returns:
        The folder of the new version, whose number is one above the highest there.

    Raises:
        ValueError: The model does not take pictures, signals or volumes and return a
            number for each class, or for each class of each pixel, or nobody knows
            whether these are logits; mean or std do not fit the channels, or
            class_names, decisions or held_out the model; another argument is wrong, or
            not of signals and volumes.
        OSError: The folder cannot be written to.
        ExportError: What was written does not answer as the model does: its numbers
            differ by more than 1e-4 of the largest one, in bfloat16 0.05; or bfloat16
            loses too much accuracy.
    """
    refuse_others(model)
    _refuse_other_precisions(model, precision)
    mean, std = (tuple(map(float, values)) for values in (mean, std))
    preprocessing = _resizing(
        Preprocessing(model.input_shape[1:], mean, std), short_side, method, fit
    )
    _check(model, preprocessing, class_names, top_k)
    classes = model.output_shape[-1]
    names = [str(name) for name in class_names or range(classes)]
    refuse_unknown_answers(model)
    _refuse_no_numbers(model)
    refuse_other_decisions(model, decisions)
    if held_out is not None:
        held_out = checked_pictures(held_out, model, max_drop)
    facts = {**(facts or {}), "compute_dtype": precision}
    if decisions:
        facts["decisions"] = decisions.to_json()
    serving = Serving(preprocessing, names, min(top_k, classes), decisions)
    served = serving.signatures(inference_network(model, precision))
    expected = serving.signatures(unfolded_network(model))
    if held_out is not None:
        networks = (served["serve"].function, expected["serve"].function)
        facts |= checked_accuracies(*networks, held_out, max_drop)
    base = _folder_of_versions(Path(path))
    with _staged(base) as staged:
        _write(served, staged)
        _write_extra(staged, base.resolve().name, preprocessing, names, expected, facts)
        verify(staged)
        _flush(staged)
        return _take_next_number(staged, base)


def _refuse_other_precisions(model: keras.Model, precision: str) -> None:
    if precision not in list(TOLERANCES):
        raise ValueError(
            f"precision must be one of {', '.join(TOLERANCES)}. Received: {precision!r}"
        )
    if precision != "float32" and not is_functional(model):
        raise ValueError(
            f'precision="{precision}" is for functional and sequential models, whose '
            "layers can be copied one by one. Leave it out. Received: "
            f"{type(model).__name__}"
        )


def _resizing(
    preprocessing: Preprocessing,
    short_side: int | None,
    method: str | None,
    fit: str | None,
) -> Preprocessing:
    """Say how pictures become the network's size; signals and volumes do not."""
    size = preprocessing.input_shape[:-1]
    if preprocessing.is_of_pictures:
        side = min(n or 0 for n in size) if short_side is None else short_side
        method = "bicubic" if method is None else method
        return preprocessing._replace(
            short_side=side, method=method, fit=fit_of(fit, size)
        )
    given = {"short_side": short_side, "method": method, "fit": fit}
    given = {name: value for name, value in given.items() if value is not None}
    if given:
        raise ValueError(
            "short_side, method and fit say how pictures become the network's size; "
            "signals and volumes are asked in that size. Leave them out. Received: "
            f"{given}, for a model that reads {preprocessing.input_shape}"
        )
    return preprocessing


def _folder_of_versions(base: Path) -> Path:
    """Create the folder of a model's versions, unless it is there."""
    if base.exists() and not base.is_dir():
        raise NotADirectoryError(
            f"{base} is a file. Pass the folder of the model's versions."
        )
    if (base / "saved_model.pb").exists():
        raise ValueError(
            f"{base} is a version itself. Pass the folder that it is in, {base.parent}."
        )
    base.mkdir(parents=True, exist_ok=True)
    if not os.access(base, os.W_OK):
        raise PermissionError(
            f"{base} cannot be written to. Pass a folder that this user may write to."
        )
    return base


def next_version_number(base: Path) -> int:
    """Return the number above the highest version in a folder; 1 if there is none."""
    versions = [int(name) for name in os.listdir(base) if name.isdecimal()]
    return max(versions, default=0) + 1


def _check(
    model: keras.Model,
    preprocessing: Preprocessing,
    class_names: Sequence[str],
    top_k: int,
) -> None:
    classes, channels = model.output_shape[-1], model.input_shape[-1]
    mean, std = preprocessing.mean, preprocessing.std
    if len(mean) != channels or len(std) != channels:
        raise ValueError(
            f"mean and std must have a value for each of the {channels} channels that "
            "the model reads, in 0..255 for pictures. Received: "
            f"mean={mean}, std={std}"
        )
    if not all(map(math.isfinite, (*mean, *std))) or not all(v > 0 for v in std):
        raise ValueError(
            "mean and std must be finite, and std above 0. Received: "
            f"mean={mean}, std={std}"
        )
    if class_names and len(class_names) != classes:
        raise ValueError(
            f"class_names must have a name for each of the {classes} classes that the "
            f"model tells apart. Received: {len(class_names)} names"
        )
    broken = [name for name in class_names if len(str(name).splitlines()) != 1]
    if broken:
        raise ValueError(
            "A class name must be one line, as labels.txt has a class a line. "
            f"Received: {broken}"
        )
    if top_k < 1:
        raise ValueError(f"top_k must be 1 or more. Received: {top_k}")
    if preprocessing.method not in (None, "bicubic", "bilinear"):
        raise ValueError(
            'method must be "bicubic" or "bilinear". Received: '
            f"{preprocessing.method!r}"
        )
    least = min(side or 0 for side in model.input_shape[1:-1])
    if preprocessing.fit == "crop" and (preprocessing.short_side or 0) < least:
        raise ValueError(
            f"short_side must be {least} or more, since the model reads a center of "
            f"{least} pixels. Received: short_side={preprocessing.short_side}"
        )


def _refuse_no_numbers(model: keras.Model) -> None:
    """Refuse NaNs in the weights, which a ReLU may turn into 0 before an answer."""
    broken = [w.path for w in model.weights if not np.isfinite(np.asarray(w)).all()]
    if broken:
        raise ExportError(
            f"The model was not published, since {len(broken)} of its weights have "
            f"NaNs or infinite numbers, such as {broken[0]}. Export an earlier "
            "checkpoint."
        )


def refuse_other_decisions(model: keras.Model, decisions: Decisions | None) -> None:
    """Refuse decisions that are not of a model's answers."""
    if decisions is None:
        return
    classes, output = model.output_shape[-1], output_of(model)
    if len(decisions.thresholds) != classes:
        raise ValueError(
            f"decisions must have a threshold for each of the {classes} classes that "
            f"the model tells apart. Received: {len(decisions.thresholds)}"
        )
    if decisions.of_each_label != output.is_of_each_class:
        raise ValueError(
            "decisions of several labels are for a model that ends in sigmoids, and "
            "those of one class for one that ends in a softmax. Received: decisions "
            f"of_each_label={decisions.of_each_label}, and a model that answers "
            f"{output.kind}"
        )


def refuse_others(model: keras.Model) -> None:
    """Refuse a model that does not take pictures and return a number for each class.

    Signals and volumes are taken, too.
    """
    takes, returns = (
        getattr(model, f"{end}_shape", None) for end in ("input", "output")
    )
    ranks = (2, len(takes)) if isinstance(takes, tuple) else (2,)  # of each pixel, too
    if not _is_shape(takes, 3, 4, 5) or not _is_shape(returns, *ranks):
        raise ValueError(
            "To be exported a model must be functional or sequential, take pictures "
            "(N, H, W, channels), signals (N, T, channels) or volumes (N, D, H, W, "
            "channels), and return a number for each class, (N, classes), or that of "
            "each pixel, (N, H, W, classes). Wrap another: "
            "pictures = keras.Input((224, 224, 3)), and then keras.Model(pictures, "
            f"model(pictures)). Received: {type(model).__name__} from {takes} to "
            f"{returns}"
        )


def _is_shape(shape: Any, *ranks: int) -> bool:
    sizes = isinstance(shape, tuple) and all(n is None or type(n) is int for n in shape)
    return sizes and len(shape) in ranks and shape[-1] is not None


def _write(served: Mapping[str, Signature], folder: Path) -> None:
    # Without archive.track(model), which would store every weight twice (keras#23553).
    archive = keras.export.ExportArchive()
    for name, (function, takes) in served.items():  # the first is serving_default, too
        archive.add_endpoint(name, function, [takes])
    # Nothing will be trained: gradients are left out.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    archive.write_out(str(folder), options=options, verbose=False)


def _write_extra(
    staged: Path,
    name: str,
    preprocessing: Preprocessing,
    class_names: Sequence[str],
    expected: Mapping[str, Signature],
    facts: Mapping[str, Any],
) -> None:
    extra = staged / "assets.extra"
    extra.mkdir()
    assets.write_labels(extra, class_names)
    assets.write_facts(staged, preprocessing, expected, facts)
    batches = assets.golden_batches(preprocessing, expected)
    try:
        assets.write_golden(extra / "golden", batches, expected)
    except ValueError as error:
        raise ExportError(
            "The model was not published, since it answers the golden requests with "
            "NaNs or infinite numbers. Export an earlier checkpoint."
        ) from error
    assets.write_warm_up(extra, name, batches)


# --- one rename ------------------------------------------------------------------


@contextmanager
def _staged(base: Path) -> Iterator[Path]:
    """Yield a folder beside the versions, whose name is no version's.

    What is left of a process that was killed more than an hour ago is deleted.
    """
    prefix = f".tmp-{socket.gethostname()}-"
    for left in base.glob(f"{prefix}*"):
        pid = left.name.removeprefix(prefix).partition("-")[0]
        old = time.time() - left.stat().st_mtime > HOUR  # another container's, else
        if pid.isdecimal() and not psutil.pid_exists(int(pid)) and old:
            shutil.rmtree(left, ignore_errors=True)
    # Its own, also where another container's process or thread has this number.
    staged = base / f"{prefix}{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Bring a folder and all that it holds to the disk."""
    for path in [*folder.rglob("*"), folder]:
        flush(path)


def _take_next_number(staged: Path, base: Path) -> Path:
    while True:
        version = base / str(next_version_number(base))
        try:
            os.rename(staged, version)
        except OSError:
            if not version.exists():
                raise
            continue  # another process has taken the number meanwhile
        flush(base)
        return version
