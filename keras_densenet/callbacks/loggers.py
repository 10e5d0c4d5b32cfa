"""Keras's loggers, for runs that go on: they append to what is there.

What they write is only written down, and no reason for a training to end: on a full
disk they warn, and are tried again.
"""

import csv
import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

LOGGERS = (keras.callbacks.CSVLogger, keras.callbacks.TensorBoard)  # the user's, too
_OPENING = ("set_model", "on_train_begin")
_HOOKS = tuple(name for name in dir(keras.callbacks.Callback) if name.startswith("on_"))
_NOT_WRITTEN = (OSError, tf.errors.OpError)
_NOT_VALIDATED = ("learning_rate", "images_per_second", "peak_memory_mb")


class CSVLogger(keras.callbacks.CSVLogger):
    """Keras's, appending in the columns that the file has.

    Keras names the columns after the first epoch that it sees, which in a resumed run
    may have no validation where the file's first epoch had.

    Args:
        filename: Of the log.
    """

    def __init__(self, filename: str | Path) -> None:
        super().__init__(filename, append=True)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Open the file, and take its columns."""
        super().on_train_begin(logs)
        with Path(self.filename).open(newline="") as file:
            header = next(csv.reader(file), [])
        self.keys = header[1:] or None  # without "epoch", which Keras adds

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Name the columns by the first epoch, and add its row.

        Where that has no validation, Keras would add a column for each, the learning
        rate's too.
        """
        if self.keys is None:
            self.keys = sorted(logs or {})
            if not any(name.startswith("val_") for name in self.keys):
                metrics = [n for n in self.keys if n not in _NOT_VALIDATED]
                self.keys += [f"val_{name}" for name in metrics]
        super().on_epoch_end(epoch, logs)


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras's, whose steps go on where the run was, and without the graph's drawing.

    Args:
        log_dir: Folder of the events.
        step: Batches trained on before.
        **options: Those of `keras.callbacks.TensorBoard`.
    """

    def __init__(self, log_dir: str | Path, step: int = 0, **options: Any) -> None:
        super().__init__(log_dir, write_graph=False, **options)
        self._first_step = step

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Count from where the run was; Keras counts from 0 in every process."""
        super().on_train_begin(logs)
        self._global_train_batch = self._first_step // self.model.steps_per_execution

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Record the epoch: Keras does so only if its last step is recorded, too."""
        with tf.summary.record_if(True):
            super().on_epoch_end(epoch, logs)


@contextmanager
def only_written_down(what: object) -> Iterator[None]:
    """Warn of what cannot be written inside, as on a full disk, and go on.

    Args:
        what: What is written, for the warning.
    """
    try:
        yield
    except _NOT_WRITTEN as error:
        warnings.warn(
            f"{what} could not be written, and the training goes on without it: "
            f"{error}. Is there space left?",
            stacklevel=3,
        )


def let_go_on(logger: keras.callbacks.Callback) -> None:
    """Let a logger warn once where it cannot write, instead of ending the training.

    It is tried again each time, but where it could not begin. Its hooks are changed for
    this object, not for its class.
    """
    if hasattr(logger.set_model, "__wrapped__"):  # of a fit before
        return
    failed: list[str] = []  # hooks, in this training
    for name in (*_OPENING, *_HOOKS):
        if name not in vars(logger):
            setattr(logger, name, _going_on(logger, name, failed))


def _going_on(
    logger: keras.callbacks.Callback, name: str, failed: list[str]
) -> Callable:
    hook = getattr(logger, name)

    @functools.wraps(hook)
    def going_on(*args: Any, **kwargs: Any) -> None:
        if name == "set_model":
            failed.clear()
        if set(failed) & set(_OPENING):
            return
        try:
            hook(*args, **kwargs)
        except _NOT_WRITTEN as error:
            if not failed:
                with only_written_down(f"What {type(logger).__name__} logs"):
                    raise error
            failed.append(name)

    return going_on
