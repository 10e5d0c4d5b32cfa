"""What one fit is going to do: how many epochs and steps, on which batches."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import tensorflow as tf

from keras_densenet.callbacks.limits import ENDLESS
from keras_densenet.data import DataModule
from keras_densenet.devices import Devices
from keras_densenet.devices.shares import refuse_unequal_shares
from keras_densenet.errors import MisconfigurationError
from keras_densenet.training.flags import Flags
from keras_densenet.training.image_classifier import Module
from keras_densenet.training.limits import limited, take


@dataclass(frozen=True, eq=False)
class Plan:
    """What one fit derives from the flags, the devices, the data and the model.

    Attributes:
        flags: What the user said.
        devices: What the batches are for.
        data: Where they come from; it is set up.
        max_epochs: Epochs to train, over all runs that resume each other; `ENDLESS` for
            a training without end. With `val_check_interval` they are Keras's epochs,
            from one validation to the next.
        steps_per_epoch: Batches of an epoch.
        scheduled_steps: Steps of the training that the learning rate's schedule is made
            for, -1 for one without end. An epoch's batches that `steps_per_execution`
            leaves over count, too.
        batch_size: Pictures in a global batch.
        checks_an_epoch: Validations in an epoch of the data.
    """

    flags: Flags
    devices: Devices
    data: DataModule
    max_epochs: int
    steps_per_epoch: int
    scheduled_steps: int
    batch_size: int
    checks_an_epoch: int = 1

    @property
    def total_steps(self) -> float:
        """Steps of the whole training; infinity for one without end."""
        if self.max_epochs == ENDLESS:
            return math.inf
        return _at_most(self.max_epochs * self.steps_per_epoch, self.flags.max_steps)

    def train_batches(self, step: int) -> tf.data.Dataset:
        """Return the batches to train on, without end, from a step on."""
        if self.flags.overfit_batches:
            batches = self._few.repeat().skip(step % self.steps_per_epoch)
        else:
            batches = self.data.train_batches(step)
        return self.devices.sharded(batches)

    def val_batches(self) -> tf.data.Dataset | None:
        """Return the batches to validate on, or None where there are none."""
        if self.flags.overfit_batches:
            return self.devices.sharded(self._few)
        batches = self._held_out
        return None if batches is None else self.devices.shared_out(batches)

    @property
    def is_validated(self) -> bool:
        """Whether there are batches to validate on."""
        return bool(self.flags.overfit_batches) or self._held_out is not None

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What tells the data's pictures from others: files are read for it, once."""
        return self.data.fingerprint()

    @cached_property
    def _held_out(self) -> tf.data.Dataset | None:
        return take(self.data.val_dataset(), self.flags.limit_val_batches)

    @cached_property
    def _few(self) -> tf.data.Dataset:
        """The same few batches to learn by heart and to validate on."""
        return self.data.train_dataset().take(self.steps_per_epoch).cache()


def make_plan(flags: Flags, devices: Devices, module: Module, data: DataModule) -> Plan:
    """Return the plan of a fit.

    Args:
        flags: Resolved.
        devices: What is trained on.
        module: What is trained.
        data: It is set up.

    Raises:
        MisconfigurationError: Neither `max_epochs` nor `max_steps` is given; the data
            do not say how many batches they have, or those cannot be trained on.
    """
    if flags.max_epochs is None and flags.max_steps == -1:
        raise MisconfigurationError(
            "fit needs to know when to end: say Trainer(max_epochs=...) or "
            "Trainer(max_steps=...)."
        )
    one_epoch = data.train_dataset()
    batches = _batches_of_an_epoch(flags, one_epoch)
    epochs = flags.max_epochs or -1
    if epochs == -1 and flags.max_steps != -1:
        epochs = math.ceil(flags.max_steps / batches)
    checks = _checks_of_an_epoch(flags, batches)
    compiled = module if isinstance(module, keras.Model) else flags
    scheduled = -1 if epochs == -1 else _at_most(epochs * batches, flags.max_steps)
    return Plan(
        flags,
        devices,
        data,
        max_epochs=ENDLESS if epochs == -1 else epochs * checks,
        steps_per_epoch=_whole_executions(
            batches // checks, compiled.steps_per_execution
        ),
        scheduled_steps=scheduled,
        batch_size=_global_batch_size(one_epoch, devices.replicas),
        checks_an_epoch=checks,
    )


def _at_most(steps: int, max_steps: int) -> int:
    """Return the number of steps under a limit, of which -1 is none."""
    return steps if max_steps == -1 else min(steps, max_steps)


def _batches_of_an_epoch(flags: Flags, one_epoch: tf.data.Dataset) -> int:
    if flags.fast_dev_run:
        return int(flags.fast_dev_run)
    batches = int(one_epoch.cardinality())
    limit = flags.overfit_batches or flags.limit_train_batches
    if batches < 0 and isinstance(limit, int):  # unknown, or without end
        return limit
    if batches < 1:
        raise MisconfigurationError(
            "train_dataset() must know how many batches it has: say "
            "Trainer(limit_train_batches=n), a number, or end it with "
            ".apply(tf.data.experimental.assert_cardinality(n)). "
            f"Its cardinality is {batches}."
        )
    return limited(batches, limit)


def _checks_of_an_epoch(flags: Flags, batches: int) -> int:
    """Return how often is validated within an epoch, in equal distances."""
    interval = flags.val_check_interval
    if interval == 1.0 and isinstance(interval, float):
        return 1
    between = max(1, int(batches * interval)) if interval < 1 else int(interval)
    whole = batches - batches % between
    if whole == batches:
        return batches // between
    cure = f", or limit_train_batches={whole}" if whole else ""
    raise MisconfigurationError(
        f"val_check_interval={interval} is {between} batches, of which an epoch of "
        f"{batches} has no whole number: use a number that divides it{cure}."
    )


def _whole_executions(batches: int, steps_per_execution: int) -> int:
    """Return the steps of an epoch: the batches left over are the next epoch's."""
    if batches < steps_per_execution:
        raise MisconfigurationError(
            f"An epoch has {batches} steps, fewer than steps_per_execution="
            f"{steps_per_execution}: use {batches} or fewer."
        )
    return batches - batches % steps_per_execution


def _global_batch_size(one_epoch: tf.data.Dataset, replicas: int) -> int:
    """Return the pictures of a global batch, refusing what replicas cannot share."""
    size = tf.nest.flatten(one_epoch.element_spec)[0].shape[0]
    if size is None:
        size = tf.nest.flatten(next(iter(one_epoch)))[0].shape[0]
    refuse_unequal_shares(size, replicas)
    return size
