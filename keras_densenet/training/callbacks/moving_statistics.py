"""Replicas that agree on their moving statistics."""

import keras
import tensorflow as tf


class AverageMovingStatistics(keras.callbacks.Callback):
    """Let all replicas of a strategy have the same moving statistics.

    Keras lets each replica update its own, from its own share of every batch, and saves
    the first replica's. So before each validation, and before each checkpoint, every
    weight that is not trained becomes its mean over the replicas.

    Args:
        strategy: The `tf.distribute.Strategy` that the model was made in.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        super().__init__()
        self.strategy = strategy

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Average before validation."""
        for weight in self.model.non_trainable_weights:
            values = self.strategy.experimental_local_results(weight.value)
            if values[0].dtype.is_floating:
                weight.assign(sum(value.numpy() for value in values) / len(values))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Average before the checkpoint, also where nothing is validated."""
        self.on_test_begin()
