"""How a training ends: on a signal, with an error, or as it was meant to."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
import tensorflow as tf

from keras_densenet.callbacks import Limit, ModelCheckpoint, ProgressBar
from keras_densenet.callbacks.interruption import Interruption
from keras_densenet.callbacks.loggers import LOGGERS
from keras_densenet.callbacks.run import Run
from keras_densenet.data import BrokenPictureError, DataModule
from keras_densenet.devices import Devices
from keras_densenet.errors import (
    BROKEN_PICTURE,
    MisconfigurationError,
    NotANumberError,
)
from keras_densenet.training.lightning_names import ON_EXCEPTION
from keras_densenet.training.plan import Plan

# TensorFlow's words, on a CPU; on a GPU the loss of such a label is NaN.
OUTSIDE = re.compile(r"label value of (-?\d+) which is outside.*range of \[0, (\d+)\)")

# A picture that TensorFlow could not read, without its name.
UNNAMED_PICTURE = re.compile("jpeg", re.IGNORECASE)


def interruption_of(
    devices: Devices, checkpoint: ModelCheckpoint | None, say: Callable[[str], None]
) -> Interruption:
    """Return what saves and ends a run on Ctrl-C and on SIGTERM.

    Args:
        devices: Of several machines none can save alone.
        checkpoint: The run's, or None where nothing is to be kept.
        say: Takes a line to print.
    """
    if devices.cluster:  # any worker may get the signal, and all but one are quiet
        return Interruption(lambda: _say_last(checkpoint), print, can_save=False)
    return Interruption(lambda: _save(checkpoint, say), say)


def _save(checkpoint: ModelCheckpoint | None, say: Callable[[str], None]) -> None:
    if checkpoint is None:
        say("Checkpointing is off: nothing is saved.")
    elif checkpoint.save():
        say(
            f"Saved {checkpoint.last_model_path}. To go on: fit again, with "
            "ckpt_path='last'."
        )


def _say_last(checkpoint: ModelCheckpoint | None) -> None:
    path = checkpoint.last_model_path if checkpoint else ""
    print(
        "A worker cannot save alone, so that nothing is saved now. "
        f"The last checkpoint: {path or 'none of this run'}. To go on: start all "
        "workers again, with ckpt_path='last'."
    )


@contextmanager
def errors_told(run: Run, devices: Devices) -> Iterator[None]:
    """Close what a run has open, and name its last good checkpoint, on an error.

    Callbacks with Lightning's `on_exception(exception)` are told of it, of Ctrl-C, too.
    """
    try:
        with labels_told():
            yield
    except BaseException as error:
        if run.is_open:
            _close(run.callbacks)
        for callback in run.callbacks:
            if hasattr(callback, ON_EXCEPTION):
                callback.on_exception(error)
        if isinstance(error, tf.errors.OpError) and devices.cluster:
            run.interruption.end_if_asked()  # the others got the signal, too
        if isinstance(error, NotANumberError):
            raise NotANumberError(f"{error} {_last_good(run)}") from error
        raise


@contextmanager
def labels_told() -> Iterator[None]:
    """Say in words that a label is of no class of the network.

    Raises:
        MisconfigurationError: Instead of TensorFlow's error.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        outside = OUTSIDE.search(str(error))
        if outside is None:
            raise
        raise MisconfigurationError(
            f"A label is {outside[1]}, and the network has the classes "
            f"0..{int(outside[2]) - 1}: let the data module's labels count classes "
            "from 0, and its num_classes be their number."
        ) from error


@contextmanager
def broken_pictures_named(data: DataModule) -> Iterator[None]:
    """Name the file that TensorFlow could not decode.

    Raises:
        BrokenPictureError: Instead of TensorFlow's error, which names none.
    """
    try:
        yield
    except tf.errors.OpError as error:
        told = BROKEN_PICTURE.search(error.message)
        broken = data.broken_file() if UNNAMED_PICTURE.search(error.message) else None
        if told:
            raise BrokenPictureError(told[1]) from error
        if broken:
            raise BrokenPictureError(
                f"A picture cannot be read any more. Repair or delete it: {broken}"
            ) from error
        raise


def _close(callbacks: list[keras.callbacks.Callback]) -> None:
    """Take the bar away and close the logs of a training that ended early."""
    for callback in callbacks:
        if isinstance(callback, (ProgressBar, *LOGGERS)):
            callback.on_train_end()


@contextmanager
def checked_numerics(checked: bool) -> Iterator[None]:
    """Let the first operation that makes a NaN or an infinity raise its name."""
    if not checked:
        yield
        return
    tf.debugging.enable_check_numerics()
    try:
        yield
    finally:
        tf.debugging.disable_check_numerics()


def _last_good(run: Run) -> str:
    checkpoint = run.first(ModelCheckpoint)
    path = checkpoint.last_model_path if checkpoint else ""
    return f"The last good checkpoint: {path}." if path else "Nothing was saved yet."


def why_it_ended(run: Run, plan: Plan) -> str:
    """Return why a training ended."""
    if run.step >= plan.max_epochs * plan.steps_per_epoch:
        epochs = plan.max_epochs // plan.checks_an_epoch
        return f"max_epochs={epochs} reached"
    for limit in run.callbacks:
        if isinstance(limit, Limit) and limit.is_over:
            return limit.reached
    stopping = run.first(keras.callbacks.EarlyStopping)
    if stopping and stopping.stopped_epoch:
        return (
            f"{stopping.monitor} has not improved for {stopping.patience} epochs "
            "(EarlyStopping)"
        )
    return "a callback asked for it"
