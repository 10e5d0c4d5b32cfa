"""From `ckpt_path` to a file, and whether a run can go on from it."""

import os
from collections.abc import Callable
from pathlib import Path

from keras_densenet.callbacks import ModelCheckpoint
from keras_densenet.checkpoint_file import (
    RunState,
    latest_whole,
    preprocessing_of,
    read_state,
)
from keras_densenet.data import DataModule
from keras_densenet.errors import MisconfigurationError
from keras_densenet.training.run_folder import written


def checkpoint_path(
    ckpt_path: str | os.PathLike,
    latest: ModelCheckpoint | None,
    runs: Path,
    say: Callable[[str], None],
) -> Path:
    """Turn "best", "last" or a path into a path.

    Args:
        ckpt_path: What the user gave.
        latest: The checkpoints of the trainer: its latest fit's, or its callbacks'.
        runs: The folder of the runs, which "last" is looked for in.
        say: Called with a line to print, where a damaged file is passed over.
    """
    own = latest.dirpath if latest else None
    if ckpt_path == "best":
        best = latest.best_model_path if latest else ""
        return Path(best) if best else _best_of_last(_last(own, runs, say))
    if ckpt_path == "last":
        return _last(own, runs, say)
    return Path(ckpt_path)


def _best_of_last(last: Path) -> Path:
    """Give the best checkpoint of the run that has this last one."""
    state = read_state(last)
    for callback in state.callbacks.values() if state else ():
        for name in callback.get("best_k_models") or ():  # the best first
            if (last.parent / name).exists():
                return last.parent / name
    raise MisconfigurationError(
        f"ckpt_path='best': the run of {last} has no best checkpoint. That needs "
        "validation data and the metric that ModelCheckpoint(monitor=) names. Use "
        "ckpt_path='last'."
    )


def _last(own: Path | None, runs: Path, say: Callable[[str], None]) -> Path:
    """Find the last whole checkpoint of the latest run that has one."""
    folders = sorted(runs.glob("version_*/checkpoints"), key=written, reverse=True)
    if own and own.is_dir():
        folders.insert(0, own)
    for folder in folders:
        path, damaged = latest_whole(folder)
        for file in damaged:
            say(f"{file} is damaged: taking the checkpoint before it.")
        if path:
            return path
    places = f"{own} or {runs}" if own else f"{runs}"
    raise MisconfigurationError(f"There is no last checkpoint in {places}.")


def refuse_to_resume(path: Path, state: RunState, steps: int, data: DataModule) -> None:
    """Raise `MisconfigurationError` where a run cannot go on from a checkpoint.

    Args:
        path: Of the checkpoint.
        state: What it has of its run.
        steps: Batches of an epoch now.
        data: What it would go on with.
    """
    known, now = state.preprocessing, preprocessing_of(data)
    if known and now and known != now:
        raise MisconfigurationError(
            f"{path} was trained with pictures standardised with {known}, and "
            f"{type(data).__name__} has {now}: give it the same."
        )
    within_epoch = state.step % steps
    if state.steps_per_epoch != steps or (within_epoch and not state.arrays):
        raise MisconfigurationError(
            f"{path} was written after {state.step} steps, which are no whole "
            f"epochs of {steps} steps: resume with the data and the batch_size "
            "that it was trained with."
        )


def nothing_left(state: RunState, steps: int, epochs: int, max_steps: int) -> str:
    """Say why a run has nothing left to train; "" where it has.

    Args:
        state: Of its last checkpoint.
        steps: Batches of an epoch.
        epochs: `max_epochs`.
        max_steps: -1 for no limit.
    """
    if state.step >= epochs * steps:
        return f"max_epochs={epochs}. Raise max_epochs to go on"
    if max_steps != -1 and state.step >= max_steps:
        return f"max_steps={max_steps}. Raise max_steps to go on"
    return "a callback ended it, such as EarlyStopping" if state.stopped else ""
