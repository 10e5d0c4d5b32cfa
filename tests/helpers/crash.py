"""Trainings that end early: as by a crash, or by a signal."""

import os

import keras


class CrashError(Exception):
    """What ends it."""


class StopAt(keras.callbacks.Callback):
    """Ends the run after so many steps, as a crash does."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        """Count, and end it after the last one."""
        self.left -= 1
        if self.left == 0:
            self.end()

    def end(self):
        """Crash."""
        raise CrashError


class SignalAt(StopAt):
    """Sends this process a signal after so many steps."""

    def __init__(self, step, number):
        super().__init__(step)
        self.number = number

    def end(self):
        """Send it."""
        os.kill(os.getpid(), self.number)
