"""A training that ends as by a crash."""

import keras


class CrashError(Exception):
    """What ends it."""


class StopAt(keras.callbacks.Callback):
    """Ends the run after so many steps, as a crash does."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        """Count."""
        self.left -= 1
        if self.left == 0:
            raise CrashError
