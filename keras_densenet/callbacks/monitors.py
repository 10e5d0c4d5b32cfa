"""What a log of a training has besides loss and metrics."""

import time

import keras
import tensorflow as tf

from keras_densenet.devices.precision import unscaled


class LearningRateMonitor(keras.callbacks.Callback):
    """Add the learning rate to the logs of each epoch, as `learning_rate`.

    It is that of the epoch's last step. Callbacks after this one see it; the trainer
    puts it first.
    """

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Add it."""
        if logs is not None:
            rate = unscaled(self.model.optimizer).learning_rate
            rate = keras.ops.convert_to_tensor(rate)
            logs["learning_rate"] = float(rate.numpy())


class ThroughputMonitor(keras.callbacks.Callback):
    """Add the speed of training to the logs of each epoch, as `images_per_second`.

    Of training steps alone: without validation and checkpoints, and without the first
    step, which builds the graph, unless it is the epoch's only one. On a GPU also
    `peak_memory_mb`, of all that TensorFlow has held there so far.

    Args:
        images_per_step: Pictures in a global batch.

    Attributes:
        images_per_second: Since the training began; 0.0 before its second step.
        seconds_per_step: In the same time.
    """

    def __init__(self, images_per_step: int) -> None:
        super().__init__()
        self.images_per_step = images_per_step

    @property
    def seconds_per_step(self) -> float:
        """Mean of the steps since the first."""
        return self._seconds / self._steps if self._steps else 0.0

    @property
    def images_per_second(self) -> float:
        """Mean of the steps since the first."""
        each = self.seconds_per_step
        return self.images_per_step / each if each else 0.0

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Begin with nothing."""
        self._steps, self._seconds, self._first = 0, 0.0, 0.0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Note where the epoch begins."""
        self._epoch = (self._steps, self._seconds)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Start the clock."""
        self._clock = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Stop it."""
        seconds = time.perf_counter() - self._clock
        if not self._first:
            self._first = seconds
            return
        self._steps += self.model.steps_per_execution
        self._seconds += seconds

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Add what this epoch's speed was, if a step was taken."""
        if logs is None or not self._first:
            return
        steps, seconds = self._steps - self._epoch[0], self._seconds - self._epoch[1]
        if not steps:
            steps, seconds = self.model.steps_per_execution, self._first
        logs["images_per_second"] = steps * self.images_per_step / seconds
        peak = gpu_peak_bytes()
        if peak is not None:
            logs["peak_memory_mb"] = peak / 1e6


def gpu_peak_bytes() -> int | None:
    """Return the most that TensorFlow has held on the GPU so far; None without one."""
    if not tf.config.list_logical_devices("GPU"):
        return None
    return tf.config.experimental.get_memory_info("GPU:0")["peak"]
