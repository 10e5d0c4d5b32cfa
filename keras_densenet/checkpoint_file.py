"""Checkpoint files: a `.keras` archive that also has what a run needs to go on.

To Keras they are models as any other. What Keras leaves out (where the run is, random
seeds, the epoch's metrics, callbacks, the order of the data) are two members more:

    run_state.json   the numbers and texts of a `RunState`
    run_state.npz    its arrays, by names such as "seed/0" and "metric/1"

This file alone knows that format. A checkpoint is written beside, checked, flushed to
the disk and renamed, so that it is there whole or not at all.
"""

import io
import json
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_densenet.errors import MisconfigurationError, did_you_mean
from keras_densenet.whole_file import flush, whole_file

LAST, BEFORE_LAST = "last.keras", "before-last.keras"
_FACTS, _ARRAYS = "run_state.json", "run_state.npz"
_SEED, _METRIC, _REPLICA, _CALLBACK = "seed/", "metric/", "replica/", "callback/"


@dataclass
class RunState:
    """What a run needs, besides the model and its optimizer, to go on exactly.

    Attributes:
        step: Batches trained on, over all epochs.
        steps_per_epoch: Batches of an epoch.
        data: The data module's `state_dict`.
        callbacks: What training has changed in each callback, by its class's name and
            its number among those of its class, such as "EarlyStopping1".
        stopped: Whether a callback has ended the training for good.
        preprocessing: Mean and standard deviation that pictures are standardized with,
            for `keras_densenet.weights.preprocessing`, and how they become the
            network's size, "fit", which files of before do not say; empty where they
            are not known.
        seeds: The state of each random layer.
        metrics: The value of each of the epoch's metric variables so far.
        epoch_ended: Whether the epoch that the step is in has ended, with its
            validation, as `MaxSteps` ends one in its middle.
        decisions: What was chosen for its weights, as
            `keras_densenet.decisions.Decisions.to_json` returns it; empty for nothing.
        origin: What the run is, and what its data were made with; see
            `keras_densenet.training.origin`. Empty in files of before.
        replicas: What replicas other than the first have of weights that are not
            trained, by "<replica>/<weight>"; and what each has of the metrics, by
            "<replica>/metric/<number>".
        callback_arrays: What each callback has of arrays, such as best weights: by its
            name, then by "<attribute>/<number>".
    """

    step: int
    steps_per_epoch: int
    data: dict[str, Any] = field(default_factory=dict)
    callbacks: dict[str, dict] = field(default_factory=dict)
    stopped: bool = False
    preprocessing: dict[str, Any] = field(default_factory=dict)
    epoch_ended: bool = True
    decisions: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)
    seeds: list[np.ndarray] = field(default_factory=list)
    metrics: list[np.ndarray] = field(default_factory=list)
    replicas: dict[str, np.ndarray] = field(default_factory=dict)
    callback_arrays: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    @property
    def is_exact(self) -> bool:
        """Whether a run can go on from here in the middle of an epoch."""
        return bool(self.metrics)


def write_checkpoint(
    folder: Path, model: keras.Model, state: RunState | None, copy: str | None = None
) -> Path:
    """Make a checkpoint the last one in a folder; the last one so far stays, beside it.

    At any moment one of the two is there and whole.

    Args:
        folder: Where it goes; it is made if it is not there.
        model: It is saved with its optimizer.
        state: The run that it is in; None for none.
        copy: Name of another file that is to have it, too.

    Returns:
        The path of the last checkpoint.

    Raises:
        OSError: It could not be written, as where the disk is full.
    """
    last = folder / LAST
    with whole_file(last) as beside:
        _write(beside, model, state)
        if copy:
            with whole_file(folder / copy) as other:
                shutil.copyfile(beside, other)
                _refuse_damaged(other)
        if last.exists():
            last.replace(folder / BEFORE_LAST)
    return last


def write_file(path: Path, model: keras.Model, state: RunState | None) -> None:
    """Write a checkpoint to one file."""
    with whole_file(path) as beside:
        _write(beside, model, state)


def _write(path: Path, model: keras.Model, state: RunState | None) -> None:
    model.save(path)
    if state is not None:
        _add_state(path, state)
    _refuse_damaged(path)


def _refuse_damaged(path: Path) -> None:
    """Raise `OSError` where a file that was just written is not whole on the disk."""
    flush(path)
    if not is_whole(path):
        raise OSError(f"{path} was not written whole")


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process has left of a checkpoint that it was writing."""
    for path in folder.glob(".*-*.keras"):
        path.unlink(missing_ok=True)


def is_whole(path: Path) -> bool:
    """Return whether a file is an archive whose members all have their checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError):
        return False


def latest_whole(folder: Path) -> tuple[Path | None, list[Path]]:
    """Find the file to resume from in a run's folder of checkpoints.

    Returns:
        The last checkpoint, or the one before it where that is damaged, or None; and
        the damaged ones.
    """
    damaged: list[Path] = []
    for name in (LAST, BEFORE_LAST):
        path = folder / name
        if path.exists():
            if is_whole(path):
                return path, damaged
            damaged.append(path)
    return None, damaged


def load_checkpoint(model: keras.Model, path: Path) -> RunState | None:
    """Load weights, moving statistics, and the optimizer if the model has it built.

    Returns:
        What `write_checkpoint` was given of the run; None for a plain `.keras` file.

    Raises:
        MisconfigurationError: There is no such file, or it is damaged or of another
            network.
    """
    if not path.is_file():
        raise MisconfigurationError(_no_checkpoint(path))
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
            "them with the arguments that they were trained with, frozen and precision "
            "among them."
            f"{_other_pictures(path, model)}"
        ) from error
    return read_state(path)


def _other_pictures(path: Path, model: keras.Model) -> str:
    """Say that a network reads other pictures than a checkpoint's; "" where not."""
    state = read_state(path)
    before = tuple(state.origin.get("input_shape", ())) if state else ()
    now = tuple((getattr(model, "input_shape", None) or ())[1:])
    if not (before and now) or before == now:
        return ""
    return f" It was trained on pictures {before}, and the network reads {now}."


def _no_checkpoint(path: Path) -> str:
    """Say that a path is of no file, and which one may be meant."""
    if path.is_dir():
        within = (folder / LAST for folder in (path, path / "checkpoints"))
        last = next((file for file in within if file.is_file()), None)
        hint = f": give {last}" if last else ": give a .keras file"
        return f"{path} is a folder, and no checkpoint{hint}."
    return f"There is no checkpoint {path}.{did_you_mean(str(path), ('last', 'best'))}"


def read_state(path: Path) -> RunState | None:
    """Return what a checkpoint has of its run; None for a plain `.keras` file."""
    with zipfile.ZipFile(path) as archive:
        facts = _facts_in(archive)
        if facts is None:
            return None
        with np.load(io.BytesIO(archive.read(_ARRAYS))) as arrays:
            return RunState(**facts, **_sorted_out(arrays))


def read_preprocessing(path: Path) -> dict[str, Any]:
    """Return how a checkpoint's pictures were prepared.

    Returns:
        "mean" and "std" of each channel, in 0..255, and "fit"; empty where they are not
        known.
    """
    with zipfile.ZipFile(path) as archive:
        return (_facts_in(archive) or {}).get("preprocessing") or {}


def _facts_in(archive: zipfile.ZipFile) -> dict[str, Any] | None:
    """Return the numbers and texts of a run; None in a plain `.keras` file."""
    if _FACTS not in archive.namelist():
        return None
    return json.loads(archive.read(_FACTS))


def refuse_plain(path: Path) -> None:
    """Raise `MisconfigurationError` for a `.keras` file without place for decisions."""
    with zipfile.ZipFile(path) as archive:
        is_plain = _facts_in(archive) is None
    if is_plain:
        raise MisconfigurationError(
            f"{path} is a plain .keras file, which cannot keep decisions: give a "
            "checkpoint of a Trainer, or export what is calibrated right away."
        )


def write_decisions(path: Path, decisions: Mapping[str, Any]) -> None:
    """Let a checkpoint have decisions; all else in it stays as it is.

    Raises:
        OSError: It could not be written.
    """
    with zipfile.ZipFile(path) as archive:
        facts = (_facts_in(archive) or {}) | {"decisions": dict(decisions)}
        with whole_file(path) as beside:
            with zipfile.ZipFile(beside, "w") as other:
                for info in archive.infolist():
                    content = archive.read(info)
                    own = json.dumps(facts) if info.filename == _FACTS else content
                    other.writestr(info, own)
            _refuse_damaged(beside)


def _add_state(path: Path, state: RunState) -> None:
    facts, arrays = dict(vars(state)), io.BytesIO()
    named = _named_arrays(*(facts.pop(name) for name in _WITH_ARRAYS))
    np.savez(arrays, **named)  # type: ignore[arg-type]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_FACTS, json.dumps(facts))
        archive.writestr(_ARRAYS, arrays.getvalue())


_WITH_ARRAYS = ("seeds", "metrics", "replicas", "callback_arrays")


def _named_arrays(
    seeds: list[np.ndarray],
    metrics: list[np.ndarray],
    replicas: dict[str, np.ndarray],
    callback_arrays: dict[str, dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Return a state's arrays by the names that they have in the archive."""
    named = {f"{_SEED}{number}": array for number, array in enumerate(seeds)}
    named |= {f"{_METRIC}{number}": array for number, array in enumerate(metrics)}
    named |= {f"{_REPLICA}{key}": array for key, array in replicas.items()}
    for callback, arrays in callback_arrays.items():
        named |= {f"{_CALLBACK}{callback}/{key}": a for key, a in arrays.items()}
    return named


def _sorted_out(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the arrays of an archive as the attributes of a state."""
    callback_arrays: dict[str, dict[str, np.ndarray]] = {}
    for key, array in _beginning_with(_CALLBACK, arrays).items():
        callback, _, attribute = key.partition("/")
        callback_arrays.setdefault(callback, {})[attribute] = array
    return {
        "seeds": list(_beginning_with(_SEED, arrays).values()),  # in their order
        "metrics": list(_beginning_with(_METRIC, arrays).values()),
        "replicas": _beginning_with(_REPLICA, arrays),
        "callback_arrays": callback_arrays,
    }


def _beginning_with(
    prefix: str, arrays: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the arrays whose names begin so, by the rest of their names."""
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
