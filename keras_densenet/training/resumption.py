"""From `ckpt_path` to a file, and whether a run can go on from it."""

import os
from collections.abc import Callable
from pathlib import Path

from keras_densenet.training.callbacks import ModelCheckpoint
from keras_densenet.training.checkpoints import RunState, latest_whole
from keras_densenet.training.errors import MisconfigurationError
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
        latest: The checkpoints of the trainer's latest fit, which "best" is among.
        runs: The folder of the runs, which "last" is looked for in.
        say: Called with a line to print, where a damaged file is passed over.
    """
    if ckpt_path == "best":
        return _best(latest)
    if ckpt_path == "last":
        return _last(runs, say)
    return Path(ckpt_path)


def _best(latest: ModelCheckpoint | None) -> Path:
    if latest is None:
        raise MisconfigurationError(
            "ckpt_path='best' needs a fit by this trainer first."
        )
    if not latest.best_model_path:
        raise MisconfigurationError(
            f"ckpt_path='best' needs validation data and {latest.monitor!r} in the "
            "logs to tell which epoch was best. Use ckpt_path='last'."
        )
    return Path(latest.best_model_path)


def _last(runs: Path, say: Callable[[str], None]) -> Path:
    """Find the last whole checkpoint of the latest run that has one."""
    folders = runs.glob("version_*/checkpoints")
    for folder in sorted(folders, key=written, reverse=True):
        path, damaged = latest_whole(folder)
        for file in damaged:
            say(f"{file} is damaged: taking the checkpoint before it.")
        if path:
            return path
    raise MisconfigurationError(f"ckpt_path='last' found no checkpoint in {runs}.")


def refuse_to_resume(
    path: Path, state: RunState, steps: int, max_epochs: int, max_steps: int
) -> None:
    """Raise `MisconfigurationError` where a run cannot go on from a checkpoint.

    Args:
        path: Of the checkpoint.
        state: What it has of its run.
        steps: Batches of an epoch now.
        max_epochs: Where the run would end.
        max_steps: Where the run would end, or -1.
    """
    within_epoch = state.step % steps
    if state.steps_per_epoch != steps or (within_epoch and not state.arrays):
        raise MisconfigurationError(
            f"{path} was written after {state.step} steps, which are no whole "
            f"epochs of {steps} steps: resume with the data and the batch_size "
            "that it was trained with."
        )
    epochs = state.step // steps
    ends = {"epochs": (epochs, max_epochs), "steps": (state.step, max_steps)}
    for what, (seen, most) in ends.items():
        if most != -1 and seen >= most:
            raise MisconfigurationError(
                f"{path} has seen {seen} {what}, and max_{what}={most}: nothing is "
                f"left to train. Raise max_{what} to go on."
            )
