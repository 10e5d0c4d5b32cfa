"""Which callbacks a fit has, in the order in which they must be called."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import keras
from rich.console import Console

from keras_densenet.callbacks.limits import (
    Limit,
    MaxSteps,
    MinEpochs,
    StopOnNaN,
    Timer,
)
from keras_densenet.callbacks.loggers import (
    LOGGERS,
    CSVLogger,
    TensorBoard,
    let_go_on,
)
from keras_densenet.callbacks.model_checkpoint import ModelCheckpoint
from keras_densenet.callbacks.monitored import MonitoredMetrics
from keras_densenet.callbacks.monitors import (
    LearningRateMonitor,
    ThroughputMonitor,
)
from keras_densenet.callbacks.moving_statistics import (
    AverageMovingStatistics,
)
from keras_densenet.callbacks.progress_bar import ProgressBar
from keras_densenet.devices import Devices
from keras_densenet.devices.precision import has_schedule
from keras_densenet.errors import MisconfigurationError
from keras_densenet.training.flags import Flags
from keras_densenet.training.image_classifier import ImageClassifier, Module
from keras_densenet.training.lightning_names import refuse_names_of_a_callback

Callback: TypeAlias = keras.callbacks.Callback

PROFILED = (10, 14)  # steps, after those that build and warm up


def users_callbacks(flags: Flags, devices: Devices, module: Module) -> list[Callback]:
    """Return the user's callbacks and the module's.

    Raises:
        MisconfigurationError: One of them would spoil what can be resumed, or has a
            method that nothing would call, or `ModelCheckpoint`s contradict each other.
    """
    mine = list(flags.callbacks or ())
    if isinstance(module, ImageClassifier):
        with devices.scope():
            mine += module.configure_callbacks()
    keeper_of_the_last(mine)
    for callback in mine:
        _refuse(callback)
        refuse_names_of_a_callback(callback)
    return mine


def checkpoints_of(callbacks: Sequence[Callback]) -> list[ModelCheckpoint]:
    """Return the `ModelCheckpoint`s among callbacks."""
    return [c for c in callbacks if isinstance(c, ModelCheckpoint)]


def the_checkpoint(callbacks: Sequence[Callback]) -> ModelCheckpoint | None:
    """Return the first `ModelCheckpoint`, whose best is "best", or None."""
    return next(iter(checkpoints_of(callbacks)), None)


def keeper_of_the_last(callbacks: Sequence[Callback]) -> ModelCheckpoint | None:
    """Return the `ModelCheckpoint` that keeps the last checkpoint, or None.

    Raises:
        MisconfigurationError: There are several, and "last" and "best" would be in
            different folders, or two would save within an epoch.
    """
    given = checkpoints_of(callbacks)
    within = [c for c in given if c.every_n_train_steps]
    if len(within) > 1:
        raise MisconfigurationError(
            f"{len(within)} ModelCheckpoints have every_n_train_steps, the steps after "
            "which the last checkpoint is saved, and that is one file for all: say it "
            "at one of them."
        )
    keeper = next(iter([*within, *(c for c in given if c.save_last), *given]), None)
    if keeper is not None and keeper.own_dirpath != given[0].own_dirpath:
        raise MisconfigurationError(
            f"The last checkpoint would be in {keeper.own_dirpath or 'the run'}, and "
            f"the best in {given[0].own_dirpath or 'the run'}: let the first "
            "ModelCheckpoint be the one with save_last=True and every_n_train_steps."
        )
    return keeper


def callbacks_in_order(
    mine: Sequence[Callback],
    *,
    flags: Flags,
    devices: Devices,
    images_per_step: int,
    folder: Path | None,
    step: int,
    console: Console,
    validated: bool,
    checks_an_epoch: int,
) -> list[Callback]:
    """Return a fit's callbacks, in the order in which they must be called.

        what may end the training, or adds to the logs
        yours; those that swap weights, and then Keras's checkpoints, last of them
        what refuses to monitor a metric that is not there, or puts the end off
        what makes the replicas agree
        progress bar, loggers
        the checkpoints, after all that changes the model

    Args:
        mine: The user's and the module's.
        flags: Resolved.
        devices: What is trained on.
        images_per_step: Pictures in a global batch.
        folder: The run's, or None for nowhere.
        step: Batches trained on before.
        console: Where the progress bar is drawn.
        validated: Whether there is anything to validate on.
        checks_an_epoch: Validations in an epoch, of `val_check_interval`.
    """
    throughput = ThroughputMonitor(images_per_step)
    callbacks: list[Callback] = [StopOnNaN(), *limits_of(flags)]
    callbacks += [LearningRateMonitor(), throughput]
    others = [c for c in mine if not isinstance(c, ModelCheckpoint)]
    callbacks += sorted(others, key=_place)
    callbacks.append(MonitoredMetrics(mine, validated))
    if flags.min_epochs is not None:
        callbacks.append(MinEpochs(flags.min_epochs * checks_an_epoch, callbacks))
    if devices.replicas > 1:
        callbacks.append(AverageMovingStatistics(devices.strategy))
    if flags.enable_progress_bar:
        callbacks.append(ProgressBar(throughput, console))
    if devices.is_first:
        callbacks += _loggers(flags, folder, step)
    if flags.enable_checkpointing:
        callbacks += checkpoints_of(mine) or [ModelCheckpoint()]
    for callback in callbacks:
        if isinstance(callback, LOGGERS):
            let_go_on(callback)
    return callbacks


def refuse_to_set_a_schedule(callbacks: Sequence[Callback], model: keras.Model) -> None:
    """Refuse callbacks that set the learning rate of an optimizer with a schedule.

    Raises:
        MisconfigurationError: There is such a callback: it would fail in mid-training.
    """
    setting = (keras.callbacks.ReduceLROnPlateau, keras.callbacks.LearningRateScheduler)
    for callback in callbacks:
        if isinstance(callback, setting) and has_schedule(model.optimizer):
            raise MisconfigurationError(
                f"{type(callback).__name__} sets the learning rate, and that of the "
                "optimizer is a schedule, which cannot be set: make an ImageClassifier "
                "with milestones=() and without lr_schedule='cosine', whose rate is a "
                "number, or compile your own model with one."
            )


def limits_of(flags: Flags) -> list[Limit]:
    """Return what the flags say may end the training before `max_epochs`."""
    limits: list[Limit] = []
    if flags.max_steps != -1:
        limits.append(MaxSteps(flags.max_steps))
    if flags.max_time is not None:
        limits.append(Timer(flags.max_time))
    return limits


def _refuse(callback: Callback) -> None:
    """Refuse what Keras has for runs that end early."""
    if isinstance(callback, keras.callbacks.BackupAndRestore):
        raise MisconfigurationError(
            "BackupAndRestore would restore an epoch's beginning over what the "
            "trainer restores: leave it out, and go on with ckpt_path='last'."
        )
    swaps = isinstance(callback, keras.callbacks.SwapEMAWeights)
    if swaps and callback.swap_on_epoch:
        raise MisconfigurationError(
            "SwapEMAWeights(swap_on_epoch=True) would have checkpoints save the "
            "averages as the weights, and a resumed run go on from those. Without "
            "it the averages are what is validated, and the model at the end."
        )


def _place(callback: Callback) -> int:
    if isinstance(callback, keras.callbacks.ModelCheckpoint):
        return 2
    return int(isinstance(callback, keras.callbacks.SwapEMAWeights))


def _loggers(flags: Flags, folder: Path | None, step: int) -> list[Callback]:
    """Return the loggers: the user's, or Keras's in the run's folder."""
    if not isinstance(flags.logger, bool):
        return _given_loggers(flags.logger, step)
    if not flags.logger or folder is None:
        return []
    return [CSVLogger(folder / "metrics.csv"), _tensorboard(flags, folder, step)]


def _given_loggers(logger: Any, step: int) -> list[Callback]:
    """Return the user's loggers, refusing those that would lose what there is."""
    given = list(logger) if isinstance(logger, list | tuple) else [logger]
    for each in given:
        if isinstance(each, keras.callbacks.CSVLogger) and step and not each.append:
            raise MisconfigurationError(
                "This run goes on, and CSVLogger(append=False) would write over "
                f"the rows that {each.filename} has: say append=True."
            )
    return given


def _tensorboard(flags: Flags, folder: Path, step: int) -> TensorBoard:
    profiled = tuple(step + number for number in PROFILED) if flags.profiler else 0
    return TensorBoard(
        folder,
        step,
        update_freq=flags.log_every_n_steps,
        profile_batch=profiled,
    )
