"""The batches of a training: how many, how large, and for whom."""

from typing import TYPE_CHECKING

import tensorflow as tf

from keras_densenet.data import DataModule
from keras_densenet.devices.cluster import is_multi_worker
from keras_densenet.devices.multi_worker import sharded_by_data
from keras_densenet.devices.strategy import refuse_unequal_shares, share_last_batches
from keras_densenet.errors import MisconfigurationError
from keras_densenet.training.limits import limited, take

if TYPE_CHECKING:
    from keras_densenet.training.trainer import Trainer


def steps_per_epoch(trainer: "Trainer", train: tf.data.Dataset) -> int:
    """Give the steps of an epoch, refusing what cannot be trained on."""
    if trainer.fast_dev_run:
        return int(trainer.fast_dev_run)
    steps = int(train.cardinality())
    if steps < 1:
        raise MisconfigurationError(
            "train_dataset() must know how many batches it has: end it with "
            ".apply(tf.data.experimental.assert_cardinality(n)). "
            f"Its cardinality is {steps}."
        )
    return limited(steps, trainer.overfit_batches or trainer.limit_train_batches)


def whole_executions(steps: int, steps_per_execution: int) -> int:
    """Give the steps of an epoch: what is left of the data is the next epoch's."""
    if steps < steps_per_execution:
        raise MisconfigurationError(
            f"An epoch has {steps} steps, fewer than steps_per_execution="
            f"{steps_per_execution}: use {steps} or fewer."
        )
    return steps - steps % steps_per_execution


def global_batch_size(train: tf.data.Dataset, num_devices: int) -> int:
    """Give the pictures of a global batch, refusing what replicas cannot share."""
    size = tf.nest.flatten(train.element_spec)[0].shape[0]
    if size is None:
        size = tf.nest.flatten(next(iter(train)))[0].shape[0]
    refuse_unequal_shares(size, num_devices)
    return size


def batches_to_fit(
    trainer: "Trainer", data: DataModule, steps: int, done: int
) -> tuple[tf.data.Dataset, tf.data.Dataset | None]:
    """Give the batches to train on, without end, and those to validate on.

    Args:
        trainer: Whose limits and strategy they are for.
        data: Set up.
        steps: Batches of an epoch.
        done: Batches trained on before.
    """
    if trainer.overfit_batches:
        few = data.train_dataset().take(steps).cache()
        train = few.repeat().skip(done % steps)
        return _sharded(trainer, train), _sharded(trainer, few)
    val = take(data.val_dataset(), trainer.limit_val_batches)
    return _sharded(trainer, data.train_batches(done)), shared_out(trainer, val)


def shared_out(
    trainer: "Trainer", dataset: tf.data.Dataset | None
) -> tf.data.Dataset | None:
    """Let no replica go without pictures in the last batch of a dataset."""
    if dataset is None or trainer.num_devices == 1:
        return dataset
    return _sharded(trainer, share_last_batches(dataset, trainer.num_devices))


def _sharded(trainer: "Trainer", dataset: tf.data.Dataset) -> tf.data.Dataset:
    return sharded_by_data(dataset) if is_multi_worker(trainer.strategy) else dataset
