"""How a training begins: its folder, its callbacks, its run, and what is said."""

from collections.abc import Sequence
from pathlib import Path

import keras

from keras_densenet.callbacks.loggers import only_written_down
from keras_densenet.callbacks.model_checkpoint import refuse_other_owner
from keras_densenet.callbacks.run import Run
from keras_densenet.checkpoint_file import BEFORE_LAST, LAST, RunState
from keras_densenet.training.callback_order import (
    callbacks_in_order,
    checkpoints_of,
    keeper_of_the_last,
)
from keras_densenet.training.ending import interruption_of
from keras_densenet.training.flags import Flags
from keras_densenet.training.image_classifier import Module
from keras_densenet.training.origin import new_run, origin_of
from keras_densenet.training.plan import Plan
from keras_densenet.training.resumption import how_far
from keras_densenet.training.run_config import (
    CONFIG,
    renew_config,
    run_in,
    write_config,
)
from keras_densenet.training.run_folder import (
    CHECKPOINTS,
    continued_folder,
    keep_epochs,
    run_of,
    shared_run_folder,
)
from keras_densenet.training.screen import Screen, device_line


def make_folder(
    plan: Plan, runs: Path, source: Path | None, state: RunState
) -> Path | None:
    """Make the folder of a run, or return that of the run that goes on.

    Args:
        plan: Of the fit.
        runs: Where the runs of this network on these data are.
        source: The checkpoint that it goes on from, or None.
        state: Where it begins, or goes on.

    Returns:
        None for no folder.
    """
    if plan.flags.fast_dev_run:
        return None
    goes_on_in = continued_folder(runs, source, state.origin.get("run"))
    return shared_run_folder(plan.devices, runs, goes_on_in)


def run_number(folder: Path | None, source: Path | None, state: RunState) -> str:
    """Return the number of a run: that of the run which goes on, or a new one.

    A run that goes on in another folder, beside its own, is a new one.
    """
    goes_on = source is not None and source.name in (LAST, BEFORE_LAST)
    own = run_of(source) if source else None
    if folder and own and run_in(own) and not own.samefile(folder):
        return new_run()
    kept = state.origin.get("run") or (run_in(folder) if folder else None)
    return (kept if goes_on else None) or new_run()


def keep_books(
    run: Run, plan: Plan, said: Flags, module: Module, over: bool
) -> list[str]:
    """Write what a run is made with, and let its log end where the run goes on.

    Args:
        run: It has a folder, which is held.
        plan: Of the fit.
        said: The flags as the user said them.
        module: What is trained.
        over: Whether nothing is left to train.

    Returns:
        What is other than in the run that goes on, in words.
    """
    folder, devices = run.folder, plan.devices
    if folder is None or not devices.is_first:
        return []
    if not over:
        with only_written_down(folder / "metrics.csv"):
            keep_epochs(folder / "metrics.csv", run.first_epoch)
    config, changes = folder / CONFIG, []
    with only_written_down(config):
        if config.exists():
            when = how_far(run.step, run.steps_per_epoch)
            changes = renew_config(config, said, module, plan.data, when)
        else:
            write_config(config, said, module, plan.data, run.origin["run"])
    return changes


def make_run(
    plan: Plan,
    model: keras.Model,
    mine: Sequence[keras.callbacks.Callback],
    folder: Path | None,
    source: Path | None,
    state: RunState,
    screen: Screen,
    ends_an_epoch: bool,
) -> Run:
    """Return the run of a fit: its callbacks in order, and where it goes on.

    Args:
        plan: Of the fit.
        model: Compiled.
        mine: The user's callbacks and the module's.
        folder: Of the run, or None for nowhere.
        source: The checkpoint that it goes on from, or None.
        state: Where it begins, or goes on.
        screen: Where it prints.
        ends_an_epoch: Whether the end of an epoch is all that is left to do.

    Raises:
        MisconfigurationError: It would write over another run's checkpoints.
    """
    number = run_number(folder, source, state)
    callbacks = callbacks_in_order(
        mine,
        flags=plan.flags,
        devices=plan.devices,
        images_per_step=plan.batch_size,
        folder=folder,
        step=state.step,
        console=screen.console,
        validated=plan.is_validated,
        checks_an_epoch=plan.checks_an_epoch,
    )
    checkpoint = keeper_of_the_last(callbacks)
    run = Run(
        callbacks,
        model=model,
        data=plan.data,
        epochs=plan.max_epochs,
        steps_per_epoch=plan.steps_per_epoch,
        interruption=interruption_of(plan.devices, checkpoint, screen.say),
        folder=folder,
        state=state if state.step else None,
        origin=origin_of(number, plan),
        ends_an_epoch=ends_an_epoch,
    )
    if checkpoint and folder:
        every = checkpoints_of(callbacks)
        for each in every:
            each.attach(run, folder / CHECKPOINTS, plan.devices.is_first)
            refuse_other_owner(each.dirpath, number, source)
        checkpoint.lead([each for each in every if each is not checkpoint])
    return run


def folders_of(run: Run) -> list[Path]:
    """Return the folders that a run writes to, and no other one may meanwhile."""
    if run.folder is None:
        return []
    folders = [checkpoint.dirpath for checkpoint in checkpoints_of(run.callbacks)]
    return [run.folder, *(folder for folder in folders if folder)]


def announce(plan: Plan, model: keras.Model, screen: Screen) -> None:
    """Say what is going to be trained, and how."""
    flags = plan.flags
    if flags.fast_dev_run:
        screen.say(
            f"Running in fast_dev_run mode: {flags.fast_dev_run} batch(es) of "
            "everything, nothing is kept."
        )
    if flags.enable_model_summary:
        screen.summary(model)
    if flags.enable_progress_bar:
        screen.say(device_line(plan.devices, plan.batch_size, plan.steps_per_epoch))
