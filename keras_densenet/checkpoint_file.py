"""Checkpoint files: a `.keras` archive that also has what a run needs to go on.

They are whole or absent: written beside, checked, flushed to the disk and renamed. To
Keras they are models as any other; what it leaves out (where the run is, random seeds,
callbacks, the data's order) are two members more, `run_state.json` and
`run_state.npz`.
"""

import io
import json
import os
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_densenet.errors import MisconfigurationError

LAST, BEFORE_LAST = "last.keras", "before-last.keras"
_FACTS, _ARRAYS = "run_state.json", "run_state.npz"


@dataclass
class RunState:
    """What a run needs, besides the model and its optimizer, to go on exactly.

    Attributes:
        step: Batches trained on, over all epochs.
        steps_per_epoch: Batches of an epoch.
        data: The data module's `state_dict`.
        callbacks: What training has changed in each callback, by its class's name.
        stopped: Whether a callback has ended the training for good.
        preprocessing: Mean and standard deviation that pictures are standardised with,
            for `keras_densenet.weights.preprocessing`.
        arrays: Random seeds, the epoch's metrics so far and what callbacks have of
            arrays, by name.
    """

    step: int
    steps_per_epoch: int
    data: dict[str, Any] = field(default_factory=dict)
    callbacks: dict[str, dict] = field(default_factory=dict)
    stopped: bool = False
    preprocessing: dict[str, list[float]] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def preprocessing_of(data: Any) -> dict[str, list[float]]:
    """Give what pictures are standardised with, where the data say it."""
    if not (hasattr(data, "mean") and hasattr(data, "std")):
        return {}
    return {"mean": list(map(float, data.mean)), "std": list(map(float, data.std))}


def write_checkpoint(
    folder: Path, model: keras.Model, state: RunState | None, copy: str | None = None
) -> Path:
    """Make a checkpoint the last one in a folder; the last one so far stays, beside it.

    At any moment one of the two is there and whole.

    Args:
        folder: Made, if it is not there.
        model: Saved with its optimizer.
        state: The run that it is in; None for none.
        copy: Name of another file to have it, too.

    Returns:
        The path of the last checkpoint.

    Raises:
        OSError: It could not be written, as where the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / LAST
    with _beside(last) as beside:
        _write(beside, model, state)
        if copy:
            with _beside(folder / copy) as other:
                shutil.copyfile(beside, other)
                _check(other)
                other.replace(folder / copy)
        if last.exists():
            last.replace(folder / BEFORE_LAST)
        beside.replace(last)
        _flush(folder)  # which has the names
    return last


def write_file(path: Path, model: keras.Model, state: RunState | None) -> None:
    """Write a checkpoint to one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _beside(path) as beside:
        _write(beside, model, state)
        beside.replace(path)


def _write(path: Path, model: keras.Model, state: RunState | None) -> None:
    model.save(path)
    if state is not None:
        _add_state(path, state)
    _check(path)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Give where to write what will be renamed to `path`, and leave nothing there."""
    beside = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield beside
    finally:
        beside.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process has left of a checkpoint that it was writing."""
    for path in folder.glob(".*-*.keras"):
        path.unlink(missing_ok=True)


def _add_state(path: Path, state: RunState) -> None:
    facts = {key: value for key, value in vars(state).items() if key != "arrays"}
    arrays = io.BytesIO()
    np.savez(arrays, **state.arrays)  # type: ignore[arg-type]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_FACTS, json.dumps(facts))
        archive.writestr(_ARRAYS, arrays.getvalue())


def _check(path: Path) -> None:
    """Bring a file to the disk, and see that it is whole."""
    _flush(path)
    if not is_whole(path):
        raise OSError(f"{path} was not written whole.")


def is_whole(path: Path) -> bool:
    """Say whether a file is an archive whose members all have their checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError):
        return False


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_checkpoint(model: keras.Model, path: Path) -> RunState | None:
    """Load weights, moving statistics, and the optimizer if the model has it built.

    Returns:
        What `write_checkpoint` was given of the run; None for a plain `.keras` file.

    Raises:
        MisconfigurationError: No such file, damaged, or of another network.
    """
    if not path.is_file():
        raise MisconfigurationError(f"There is no checkpoint {path}.")
    if not is_whole(path):
        raise MisconfigurationError(
            f"{path} is not a whole .keras file: it is damaged, or something else. Use "
            "another checkpoint of that run."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Keras warns, and goes on half loaded
            model.load_weights(path)
    except (ValueError, UserWarning, KeyError) as error:
        raise MisconfigurationError(
            f"{path} does not fit the network {model.name} and its optimizer: make "
            "them with the arguments that they were trained with, frozen among them."
        ) from error
    return read_state(path)


def read_state(path: Path) -> RunState | None:
    """Give what a checkpoint has of its run; None for a plain `.keras` file."""
    with zipfile.ZipFile(path) as archive:
        if _FACTS not in archive.namelist():
            return None
        facts = json.loads(archive.read(_FACTS))
        with np.load(io.BytesIO(archive.read(_ARRAYS))) as arrays:
            return RunState(**facts, arrays=dict(arrays))


def latest_whole(checkpoints: Path) -> tuple[Path | None, list[Path]]:
    """Find the file to resume from in a run's folder of checkpoints.

    Returns:
        The last checkpoint, or the one before it where that is damaged, or None; and
        the damaged ones.
    """
    damaged: list[Path] = []
    for name in (LAST, BEFORE_LAST):
        path = checkpoints / name
        if path.exists():
            if is_whole(path):
                return path, damaged
            damaged.append(path)
    return None, damaged
