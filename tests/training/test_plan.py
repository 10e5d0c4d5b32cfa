"""Flags stay what the user said; what a fit derives from them is its plan."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from linear_network import linear

import keras_densenet as kd
from keras_densenet.callbacks import StopAfterEpoch
from keras_densenet.callbacks.limits import ENDLESS
from keras_densenet.devices import make_devices
from keras_densenet.training import Flags, MisconfigurationError
from keras_densenet.training.limits import take
from keras_densenet.training.plan import make_plan


class Tens(kd.data.DataModule):
    """Pictures of one number, in batches of 10."""

    num_classes, input_shape, batch_size = 2, (1, 1, 1), 10

    def __init__(self, batches):
        self.batches = batches

    def train_dataset(self):
        numbers = np.arange(10 * self.batches, dtype="float32").reshape(-1, 1, 1, 1)
        labels = np.zeros(len(numbers), "int64")
        return tf.data.Dataset.from_tensor_slices((numbers, labels)).batch(10)

    def val_dataset(self):
        return self.train_dataset().take(2)

    test_dataset = train_dataset

    def predict_dataset(self):
        return self.test_dataset().map(lambda images, labels: images)


def plan_of(batches, **flags):
    flags = Flags(**flags).resolved()
    devices = make_devices("none", 1, "auto", 1, "32-true")
    return make_plan(flags, devices, kd.ImageClassifier(linear), Tens(batches))


@pytest.mark.parametrize(
    ("batches", "flags", "epochs", "an_epoch", "total", "scheduled"),
    [
        (10, {"max_epochs": 3}, 3, 10, 30, 30),
        (10, {"max_steps": 25}, 3, 10, 25, 25),  # 2.5 epochs
        (5, {"max_steps": 25}, 5, 5, 25, 25),
        (10, {"max_epochs": 3, "max_steps": 100}, 3, 10, 30, 30),
        (10, {"max_epochs": 3, "limit_train_batches": 0.25}, 3, 2, 6, 6),
        # Two executions of 4 steps; the two batches left over begin the next epoch.
        (10, {"max_epochs": 3, "steps_per_execution": 4}, 3, 8, 24, 30),
        (10, {"max_epochs": 7, "fast_dev_run": True}, 1, 1, 1, 1),
        (10, {"max_epochs": 7, "fast_dev_run": 3}, 1, 3, 3, 3),
        (10, {"max_epochs": 2, "overfit_batches": 4}, 2, 4, 8, 8),
        # Twice five batches, each validated, and the same training.
        (10, {"max_epochs": 3, "val_check_interval": 0.5}, 6, 5, 30, 30),
        (10, {"max_epochs": 3, "val_check_interval": 2}, 15, 2, 30, 30),
        (10, {"max_steps": 25, "val_check_interval": 5}, 6, 5, 25, 25),
        (
            11,
            {"max_epochs": 1, "val_check_interval": 0.5, "limit_train_batches": 10},
            *(2, 5, 10, 10),
        ),
        (10, {"max_epochs": -1, "max_steps": 25}, 3, 10, 25, 25),
        (10, {"max_epochs": -1}, ENDLESS, 10, math.inf, -1),
    ],
)
def test_epochs_and_steps(batches, flags, epochs, an_epoch, total, scheduled):
    plan = plan_of(batches, **flags)
    assert plan.max_epochs == epochs
    assert plan.steps_per_epoch == an_epoch
    assert plan.total_steps == total
    assert plan.scheduled_steps == scheduled
    assert plan.batch_size == 10


def first_numbers(dataset, batches):
    return [int(images[0, 0, 0, 0]) for images, _ in dataset.take(batches)]


def test_batches_from_a_step_on():
    plan = plan_of(3, max_epochs=9)
    assert first_numbers(plan.train_batches(2), 3) == [20, 0, 10]
    assert first_numbers(plan.val_batches(), 9) == [0, 10]
    few = plan_of(3, max_epochs=9, overfit_batches=2)
    assert first_numbers(few.train_batches(3), 3) == [10, 0, 10]
    assert first_numbers(few.val_batches(), 9) == [0, 10]
    assert plan_of(3, max_epochs=9, limit_val_batches=0).val_batches() is None


def test_an_execution_longer_than_an_epoch_is_refused():
    with pytest.raises(MisconfigurationError, match="use 3 or fewer"):
        plan_of(3, max_epochs=1, steps_per_execution=4)


@pytest.mark.parametrize(
    ("batches", "interval", "said"),
    [
        (9, 0.25, "2 batches, of which an epoch of 9 .*limit_train_batches=8"),
        (10, 4, "4 batches, of which an epoch of 10 .*limit_train_batches=8"),
        (10, 11, "11 batches, of which .* divides it"),
    ],
)
def test_an_epoch_is_a_whole_number_of_intervals(batches, interval, said):
    with pytest.raises(MisconfigurationError, match=said):
        plan_of(batches, max_epochs=1, val_check_interval=interval)


def test_an_endless_training_has_no_schedule():
    with pytest.raises(MisconfigurationError, match=r"max_steps=.*milestones=\(\)"):
        kd.ImageClassifier(linear).schedule(-1)
    assert kd.ImageClassifier(linear, milestones=()).schedule(-1) == 0.1


class OfUnknownLength(Tens):
    def train_dataset(self):
        return super().train_dataset().filter(lambda images, labels: True)


def plan_of_unknown_length(**flags):
    flags = Flags(max_epochs=2, **flags).resolved()
    devices = make_devices("none", 1, "auto", 1, "32-true")
    return make_plan(flags, devices, kd.ImageClassifier(linear), OfUnknownLength(4))


def test_a_limit_says_how_long_an_epoch_of_unknown_length_is():
    plan = plan_of_unknown_length(limit_train_batches=6)
    assert plan.steps_per_epoch == 6
    # Four batches in a pass: the epoch goes on with the next pass, also from a step on.
    assert first_numbers(plan.train_batches(0), 7) == [0, 10, 20, 30, 0, 10, 20]
    assert first_numbers(plan.train_batches(5), 2) == [10, 20]
    assert first_numbers(plan.val_batches(), 9) == [0, 10]
    for flags in ({}, {"limit_train_batches": 0.5}):
        with pytest.raises(MisconfigurationError, match="limit_train_batches=n"):
            plan_of_unknown_length(**flags)


def test_batches_to_validate_on_are_counted_where_nobody_knows():
    unknown = OfUnknownLength(4).train_dataset()
    for limit, batches in ((1.0, 4), (3, 3), (9, 4)):
        assert int(take(unknown, limit).cardinality()) == batches
    for dataset in (unknown, unknown.repeat()):
        with pytest.raises(MisconfigurationError, match="a number of batches"):
            take(dataset, 0.5)
    with pytest.raises(MisconfigurationError, match="that has no end"):
        take(unknown.repeat(), 1.0)
    assert int(take(unknown.repeat(), 5).cardinality()) == 5


def test_a_trainer_keeps_nothing_of_one_fit_for_the_next(tmp_path):
    """30 steps are 3 epochs of 10 batches, and 6 of 5."""
    trainer = kd.Trainer(max_steps=30, default_root_dir=tmp_path)
    steps = []
    for batches in (10, 5):
        trainer.fit(kd.ImageClassifier(linear), Tens(batches))
        steps.append((trainer.global_step, trainer.estimated_stepping_batches))
    assert steps == [(30, 30), (30, 30)]
    assert trainer.max_epochs is None


@pytest.mark.parametrize("name", ["max_epochs", "strategy", "callbacks"])
def test_flags_can_be_read_and_not_be_changed(name):
    trainer = kd.Trainer(3)
    getattr(trainer, name)
    with pytest.raises(AttributeError, match=rf"Trainer\({name}="):
        setattr(trainer, name, 5)
    with pytest.raises(AttributeError):
        setattr(trainer.flags, name, 5)
    assert trainer.max_epochs == 3
    with pytest.raises(AttributeError, match="no attribute 'max_epoch'"):
        trainer.max_epoch  # noqa: B018


def test_a_training_that_is_ended_after_an_epoch_keeps_its_schedule(tmp_path):
    """Two fits of one and two epochs are, to the bit, one of three."""

    def fit(folder, *, ends=(), ckpt_path=None):
        keras.utils.set_random_seed(1)
        module = kd.ImageClassifier(linear, learning_rate=0.01, lr_schedule="cosine")
        trainer = kd.Trainer(3, default_root_dir=folder, callbacks=list(ends))
        trainer.fit(module, Tens(4), ckpt_path=ckpt_path)
        return trainer, module.model.get_weights()

    _, whole = fit(tmp_path / "whole")
    trainer, _ = fit(tmp_path / "parts", ends=[StopAfterEpoch(1)])
    assert trainer.global_step == 4
    again, _ = fit(tmp_path / "parts", ends=[StopAfterEpoch(1)], ckpt_path="last")
    assert again.global_step == 4  # nothing is left to train
    _, parts = fit(tmp_path / "parts", ckpt_path="last")
    for weight, expected in zip(parts, whole, strict=True):
        np.testing.assert_array_equal(weight, expected)
