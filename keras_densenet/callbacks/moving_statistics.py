"""Replicas that agree on their moving statistics."""

import keras
import tensorflow as tf


class AverageMovingStatistics(keras.callbacks.Callback):
    """Let all replicas of a strategy have the same moving statistics.

    Keras lets each replica update its own, from its own share of every batch, and saves
    the first replica's. So before each validation, and before each checkpoint, every
    weight that is not trained becomes its mean over the replicas of all machines.

    Args:
        strategy: The `tf.distribute.Strategy` that the model was made in.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        super().__init__()
        self.strategy = strategy
        self._average = tf.function(
            lambda: strategy.run(self._in_replica), autograph=False
        )

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Average before validation."""
        self._average()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Average before the checkpoint, also where nothing is validated."""
        self._average()

    def _in_replica(self) -> None:
        weights = [weight.value for weight in self.model.non_trainable_weights]
        context = tf.distribute.get_replica_context()
        for dtype in sorted({w.dtype for w in weights if w.dtype.is_floating}, key=str):
            same = [weight for weight in weights if weight.dtype == dtype]
            values = [tf.identity(weight) for weight in same]
            means = context.all_reduce(tf.distribute.ReduceOp.MEAN, values)
            for weight, mean in zip(same, means, strict=True):
                weight.assign(mean)
