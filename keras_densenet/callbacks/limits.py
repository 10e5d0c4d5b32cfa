"""What ends a training before its last epoch."""

import abc
import datetime
import math
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from keras_densenet.errors import MisconfigurationError, NotANumberError

ENDLESS = 10**9  # epochs of a training that has no end: Keras needs a number


class Limit(keras.callbacks.Callback, abc.ABC):
    """What ends a training that goes on where its limit is raised.

    A run that a callback of another kind has ended, such as `EarlyStopping`, is over
    for good. All that the trainer knows of limits is said here: how it prints them,
    and when nothing is left to train.
    """

    @property
    @abc.abstractmethod
    def is_over(self) -> bool:
        """Whether the limit is reached."""

    @property
    @abc.abstractmethod
    def reached(self) -> str:
        """What is said where it is reached, such as "max_steps=30 reached"."""

    @abc.abstractmethod
    def begin_at(self, step: int, steps_per_epoch: int) -> None:
        """Count from a step on, where the training begins or goes on."""

    @abc.abstractmethod
    def is_over_at(self, step: int, steps_per_epoch: int) -> bool:
        """Return whether nothing is left to train after so many steps."""

    def was_over(self, kept: Mapping[str, Any]) -> bool:
        """Return whether nothing was left to train when a checkpoint was written.

        Args:
            kept: What the checkpoint has of this limit.
        """
        return False


class MaxSteps(Limit):
    """End the training after so many steps, over all runs that resume each other.

    The epoch that the last step is in ends there, with its validation and checkpoint.

    Args:
        max_steps: Number of steps, 1 or more.

    Raises:
        MisconfigurationError: It is no such number.
    """

    def __init__(self, max_steps: int) -> None:
        super().__init__()
        _refuse_below_one("max_steps", max_steps)
        self.max_steps = max_steps
        self._done = 0

    def begin_at(self, step: int, steps_per_epoch: int) -> None:
        """Count from a step on."""
        self._done = step

    @property
    def is_over(self) -> bool:
        """Whether that many steps are taken."""
        return self._done >= self.max_steps

    @property
    def reached(self) -> str:
        """What is said where it is reached."""
        return f"max_steps={self.max_steps} reached"

    def is_over_at(self, step: int, steps_per_epoch: int) -> bool:
        """Return whether that many steps are taken."""
        return step >= self.max_steps

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Count; one execution may be several steps."""
        self._done += self.model.steps_per_execution
        if self.is_over:
            self.model.stop_training = True


class StopAfterEpoch(Limit):
    """End the training after so many epochs, over all runs that resume each other.

    Unlike `max_epochs` it leaves the schedule as long as it is: a training that is
    ended here goes on later exactly as if it had not been.

    Args:
        epochs: Number of epochs, 1 or more.

    Raises:
        MisconfigurationError: It is no such number.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__()
        _refuse_below_one("epochs", epochs)
        self.epochs = epochs
        self._done = 0

    def begin_at(self, step: int, steps_per_epoch: int) -> None:
        """Count from the epoch on that a step is in."""
        self._done = step // steps_per_epoch

    @property
    def is_over(self) -> bool:
        """Whether that many epochs are trained."""
        return self._done >= self.epochs

    @property
    def reached(self) -> str:
        """What is said where it is reached."""
        return f"StopAfterEpoch({self.epochs}) reached"

    def is_over_at(self, step: int, steps_per_epoch: int) -> bool:
        """Return whether that many epochs are trained."""
        return step >= self.epochs * steps_per_epoch

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Count."""
        self._done = epoch + 1
        if self.is_over:
            self.model.stop_training = True


class MinEpochs(keras.callbacks.Callback):
    """Put off the end that other callbacks ask for, until so many epochs are trained.

    A `Limit` ends the training all the same.

    Args:
        min_epochs: Number of epochs, 1 or more, over all runs that resume each other.
        callbacks: Those of the training; it is called after them.

    Raises:
        MisconfigurationError: It is no such number.
    """

    def __init__(
        self, min_epochs: int, callbacks: Iterable[keras.callbacks.Callback] = ()
    ) -> None:
        super().__init__()
        _refuse_below_one("min_epochs", min_epochs)
        self.min_epochs = min_epochs
        self._limits = [c for c in callbacks if isinstance(c, Limit)]
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Note the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Let an epoch be finished."""
        self._put_off(trained=self._epoch)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Let the next epoch begin."""
        self._put_off(trained=epoch + 1)

    def _put_off(self, trained: int) -> None:
        is_over = any(limit.is_over for limit in self._limits)
        if self.model.stop_training and trained < self.min_epochs and not is_over:
            self.model.stop_training = False


class Timer(Limit):
    """End the training when its time is over; the epoch ends there, as by `MaxSteps`.

    Args:
        max_time: A `datetime.timedelta`, its arguments as a dictionary such as
            `{"hours": 2}`, or "DD:HH:MM:SS".

    Attributes:
        seconds: What the training took so far, resumed runs in it.
    """

    # Text first: of jsonargparse's reading as a timedelta the last part is left out.
    def __init__(self, max_time: str | datetime.timedelta | dict) -> None:
        super().__init__()
        self.max_time = max_time
        self.max_seconds = seconds_of(max_time)
        self.seconds = 0.0

    @property
    def is_over(self) -> bool:
        """Whether its time is over."""
        return self.seconds >= self.max_seconds

    @property
    def reached(self) -> str:
        """What is said where it is reached."""
        return f"max_time={self.max_time} is over"

    def begin_at(self, step: int, steps_per_epoch: int) -> None:
        """Do nothing: what the training took so far is in the checkpoint."""

    def is_over_at(self, step: int, steps_per_epoch: int) -> bool:
        """Return False: the steps do not tell what the training took so far."""
        return False

    def was_over(self, kept: Mapping[str, Any]) -> bool:
        """Return whether its time was over."""
        return "seconds" in kept and kept["seconds"] >= self.max_seconds

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Start."""
        self.seconds = 0.0
        self._begun = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Look at the clock."""
        now = time.monotonic()
        self.seconds += now - self._begun
        self._begun = now
        if self.is_over:
            self.model.stop_training = True


def _refuse_below_one(name: str, value: int) -> None:
    if not isinstance(value, int) or value < 1:
        raise MisconfigurationError(
            f"{name} must be a whole number of 1 or more. Received: {name}={value!r}"
        )


def seconds_of(max_time: datetime.timedelta | dict | str) -> float:
    """Return the seconds of a duration.

    >>> seconds_of("00:01:30:00"), seconds_of({"minutes": 2})
    (5400.0, 120.0)
    """
    if isinstance(max_time, str):
        if not re.fullmatch(r"\d+:\d\d:\d\d:\d\d", max_time):
            raise MisconfigurationError(
                "max_time must be DD:HH:MM:SS, such as '00:12:00:00' for twelve hours. "
                f"Received: max_time={max_time!r}"
            )
        days, hours, minutes, seconds = map(int, max_time.split(":"))
        max_time = {"days": days, "hours": hours, "minutes": minutes}
        max_time["seconds"] = seconds
    if isinstance(max_time, dict):
        try:
            max_time = datetime.timedelta(**max_time)
        except TypeError as error:
            raise MisconfigurationError(
                f"max_time={max_time!r}: {error}. It takes the arguments of "
                "datetime.timedelta."
            ) from error
    if not isinstance(max_time, datetime.timedelta):
        raise MisconfigurationError(
            "max_time is a text DD:HH:MM:SS, a datetime.timedelta, or a dictionary of "
            f'its arguments, such as {{"minutes": 10}}. Received: max_time={max_time!r}'
        )
    return max_time.total_seconds()


class StopOnNaN(keras.callbacks.Callback):
    """End the training with `NotANumberError` when the loss is NaN or infinite.

    Keras's logs have the mean loss of the epoch so far, which stays NaN once it is.
    """

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Look at the loss."""
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise NotANumberError(
                f"The loss is {loss} after batch {batch + 1} of this epoch. Often the "
                "learning rate is too high, the data have NaN, or float16 overflowed. "
                "Trainer(detect_anomaly=True) finds the operation."
            )
