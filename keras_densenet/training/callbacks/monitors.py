"""What a log of a training has besides loss and metrics."""

import keras


class LearningRateMonitor(keras.callbacks.Callback):
    """Add the learning rate to the logs of each epoch, as `learning_rate`.

    It is that of the epoch's last step. Callbacks after this one see it; the trainer
    puts it first.
    """

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Add it."""
        if logs is not None:
            optimizer = getattr(self.model.optimizer, "inner_optimizer", None)
            optimizer = optimizer or self.model.optimizer  # of a loss scale optimizer
            rate = keras.ops.convert_to_tensor(optimizer.learning_rate)
            logs["learning_rate"] = float(rate.numpy())
