"""How a training begins: its folder, its callbacks, its run, and what is said."""

from collections.abc import Sequence
from pathlib import Path

import keras

from keras_densenet.callbacks.run import Run
from keras_densenet.checkpoint_file import RunState
from keras_densenet.training.callback_order import callbacks_in_order, the_checkpoint
from keras_densenet.training.ending import interruption_of
from keras_densenet.training.flags import Flags
from keras_densenet.training.image_classifier import Module
from keras_densenet.training.plan import Plan
from keras_densenet.training.run_config import write_config
from keras_densenet.training.run_folder import CHECKPOINTS, CONFIG, shared_run_folder
from keras_densenet.training.screen import Screen, device_line


def make_folder(
    plan: Plan,
    runs: Path,
    resumed_from: Path | None,
    step: int,
    said: Flags,
    module: Module,
) -> Path | None:
    """Make the folder of a run, with its config.yaml; return None for no folder.

    Args:
        plan: Of the fit.
        runs: Where the runs of this network on these data are.
        resumed_from: The checkpoint that it goes on from, or None.
        step: Batches trained on before.
        said: The flags as the user said them.
        module: What is trained.
    """
    if plan.flags.fast_dev_run:
        return None
    epoch = step // plan.steps_per_epoch
    folder = shared_run_folder(plan.devices, runs, resumed_from, epoch)
    if plan.devices.is_first:
        write_config(folder / CONFIG, said, module, plan.data)
    return folder


def make_run(
    plan: Plan,
    model: keras.Model,
    mine: Sequence[keras.callbacks.Callback],
    folder: Path | None,
    state: RunState,
    screen: Screen,
) -> Run:
    """Return the run of a fit: its callbacks in order, and where it goes on.

    Args:
        plan: Of the fit.
        model: Compiled.
        mine: The user's callbacks and the module's.
        folder: Of the run, or None for nowhere.
        state: Where it begins, or goes on.
        screen: Where it prints.
    """
    callbacks = callbacks_in_order(
        mine,
        flags=plan.flags,
        devices=plan.devices,
        images_per_step=plan.batch_size,
        folder=folder,
        step=state.step,
        console=screen.console,
    )
    checkpoint = the_checkpoint(callbacks)
    run = Run(
        callbacks,
        model=model,
        data=plan.data,
        epochs=plan.max_epochs,
        steps_per_epoch=plan.steps_per_epoch,
        interruption=interruption_of(plan.devices, checkpoint, screen.say),
        folder=folder,
        state=state if state.step else None,
    )
    if checkpoint and folder:
        checkpoint.attach(run, folder / CHECKPOINTS, plan.devices.is_first)
    return run


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
