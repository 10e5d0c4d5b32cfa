"""From `ckpt_path` to a file, and whether a run can go on from it."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import keras

from keras_densenet.callbacks import Limit, ModelCheckpoint
from keras_densenet.callbacks.run import named_callbacks
from keras_densenet.checkpoint_file import (
    RunState,
    is_whole,
    latest_whole,
    load_checkpoint,
    read_state,
)
from keras_densenet.data import DataModule
from keras_densenet.decisions import Decisions, keep_decisions
from keras_densenet.devices import Devices
from keras_densenet.devices.precision import (
    build_optimizer,
    has_schedule,
    put_averages_into,
    unscaled,
)
from keras_densenet.errors import MisconfigurationError
from keras_densenet.training.callback_order import limits_of
from keras_densenet.training.origin import (
    of_which_data,
    refuse_other_answers,
    refuse_other_training,
)
from keras_densenet.training.plan import Plan
from keras_densenet.training.run_config import run_in
from keras_densenet.training.run_folder import CHECKPOINTS, latest_first, run_of


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
    """Return the best checkpoint of the run that has this last one."""
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
    folders = [folder / CHECKPOINTS for folder in latest_first(runs)]
    if own and own.is_dir():
        folders.insert(0, own)
    without: list[Path] = []
    for folder in folders:
        path = _last_whole(folder, say)
        if path:
            _say_what_is_passed_over(without, path, say)
            return path
        without.append(folder)
    places = f"{own} or {runs}" if own else f"{runs}"
    raise MisconfigurationError(
        f"There is no last checkpoint in {places}: name a checkpoint, or begin anew "
        "with ckpt_path=None."
    )


def _last_whole(folder: Path, say: Callable[[str], None]) -> Path | None:
    """Return the last whole checkpoint of a folder, and tell of damaged ones."""
    path, damaged = latest_whole(folder)
    for file in damaged:
        say(f"{file} is damaged: taking the checkpoint before it.")
    return path


def _say_what_is_passed_over(
    without: list[Path], taken: Path, say: Callable[[str], None]
) -> None:
    for folder in dict.fromkeys(without):
        say(f"There is no last checkpoint in {folder}, which is newer than {taken}.")


def checkpoint_of_run(
    run: Path,
    ckpt_path: str,
    own: ModelCheckpoint | None,
    say: Callable[[str], None],
) -> Path:
    """Return the last or the best checkpoint of one run.

    Args:
        run: Its folder.
        ckpt_path: "last" or "best".
        own: Where the run's `ModelCheckpoint` has a folder of its own.
        say: Called with a line to print, where a damaged file is passed over.

    Raises:
        MisconfigurationError: The run has none.
    """
    folders = [run / CHECKPOINTS]
    if own and own.dirpath:
        folders.append(own.dirpath)
    for folder in folders:
        path = _last_whole(folder, say)
        if path and _is_of(path, run):
            return _best_of_last(path) if ckpt_path == "best" else path
    raise MisconfigurationError(
        f"The run in {run} has no last checkpoint in "
        f"{' or '.join(map(str, folders))}: name a checkpoint, or the config.yaml of "
        "another run."
    )


def _is_of(path: Path, run: Path) -> bool:
    """Return whether a checkpoint is of the run in a folder."""
    if run_of(path) == run:
        return True
    state, number = read_state(path), run_in(run)
    return state is not None and number == state.origin.get("run", "")


def resumed(model: keras.Model, path: Path, plan: Plan) -> RunState:
    """Load a checkpoint into model and data, and return where its run was.

    Raises:
        MisconfigurationError: A run cannot go on from it with these data.
    """
    state = load_checkpoint(model, path)
    if state and state.decisions:
        keep_decisions(model, Decisions.from_json(state.decisions))
    if state is None:  # a plain .keras file, saved after a whole epoch
        done = int(model.optimizer.iterations)
        state = RunState(done, plan.steps_per_epoch, plan.data.state_dict())
    refuse_other_training(path, state, plan)
    _refuse_to_resume(path, state, plan.steps_per_epoch)
    plan.data.load_state_dict(state.data)
    return state


def moved_schedule(state: RunState, plan: Plan, model: keras.Model) -> str:
    """Say that the learning rate falls elsewhere than it would have; "" where not.

    Args:
        state: Where the run goes on.
        plan: Of the fit that goes on.
        model: It has the optimizer of the checkpoint.
    """
    before, now = state.origin.get("scheduled_steps"), plan.scheduled_steps
    optimizer = unscaled(model.optimizer)
    if before in (None, now) or not has_schedule(optimizer):
        return ""
    rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    return (
        f"The learning rate's schedule was made for {before} steps and is for {now} "
        f"now: after {state.step} steps the rate is {rate:.3g}. A StopAfterEpoch ends "
        "a run without moving it."
    )


def keep_split(data: DataModule, path: Path) -> bool:
    """Let data hold out what a checkpoint's run held out.

    Returns:
        Whether other pictures are held out than before.
    """
    state = read_state(path) if is_whole(path) else None
    return state is not None and data.keep_split(state.data)


def load_trained(
    model: keras.Model, path: Path, devices: Devices, data: DataModule
) -> RunState | None:
    """Load a checkpoint for anything but training, and return what it has of its run.

    The averages of the weights (EMA), if it has them, are then the weights. The model
    has the checkpoint's decisions, or none.
    """
    if model.compiled:  # the checkpoint has its optimizer, too
        with devices.scope():
            build_optimizer(model)
    state = load_checkpoint(model, path)
    if state:
        refuse_other_answers(path, state, data)
    put_averages_into(model)
    chosen = state.decisions if state else {}
    keep_decisions(model, Decisions.from_json(chosen) if chosen else None)
    return state


def which(path: Path, state: RunState | None) -> str:
    """Return the line that says which checkpoint "last" and "best" stand for."""
    far = f", after {how_far(state.step, state.steps_per_epoch)}" if state else ""
    data = of_which_data(state)
    return f"Taking {path}{far}{', trained on ' * bool(data)}{data}"


def _refuse_to_resume(path: Path, state: RunState, steps: int) -> None:
    """Raise `MisconfigurationError` where a run cannot go on from a checkpoint.

    Args:
        path: Of the checkpoint.
        state: What it has of its run.
        steps: Batches of an epoch now.
    """
    within_epoch = state.step % steps
    if state.steps_per_epoch != steps or (within_epoch and not state.is_exact):
        raise MisconfigurationError(
            f"{path} was written after {state.step} steps, which are no whole "
            f"epochs of {steps} steps: resume with the data and the batch_size "
            "that it was trained with."
        )


def how_far(step: int, steps_per_epoch: int) -> str:
    """Return how far a run has come.

    >>> how_far(23, 10)
    'epoch 2 and 3 batches'
    """
    epochs, batches = divmod(step, steps_per_epoch)
    return f"epoch {epochs}" + (f" and {batches} batches" if batches else "")


def nothing_left(
    state: RunState, plan: Plan, callbacks: Iterable[keras.callbacks.Callback]
) -> str:
    """Return why a run has nothing left to train; "" where it has.

    Args:
        state: Of its last checkpoint.
        plan: Of the fit that would go on.
        callbacks: The user's, of which a `Limit` may be reached.
    """
    if state.step >= plan.max_epochs * plan.steps_per_epoch:
        epochs = plan.max_epochs // plan.checks_an_epoch
        return f"max_epochs={epochs} reached. Raise it to go on"
    for name, limit in named_callbacks((*limits_of(plan.flags), *callbacks)):
        if not isinstance(limit, Limit):
            continue
        kept = state.callbacks.get(name, {})
        if limit.is_over_at(state.step, plan.steps_per_epoch) or limit.was_over(kept):
            return f"{limit.reached}. Raise it to go on"
    return "a callback ended it, such as EarlyStopping" if state.stopped else ""
