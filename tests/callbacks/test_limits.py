"""What ends a training early counts over all runs that resume each other."""

import keras
import numpy as np
import pytest
from linear_network import linear

import keras_densenet as kd
from keras_densenet.callbacks import MaxSteps, MinEpochs, StopAfterEpoch
from keras_densenet.training import MisconfigurationError


class Numbers(kd.data.ArrayDataModule):
    """Four batches an epoch of pictures of one pixel."""

    num_classes, input_shape, class_names = 2, (1, 1, 1), ("a", "b")
    mean, std, title = (0.0,), (1.0,), "numbers"

    def load_splits(self, stage):
        images, labels = np.zeros((16, 1, 1, 1), "uint8"), np.arange(16) % 2
        split = kd.data.Split(images, labels)
        return {"train": split, "val": split, "test": split}


def steps_of(folder, limit, ckpt_path=None):
    trainer = kd.Trainer(9, default_root_dir=folder, callbacks=[limit])
    data = Numbers(4, augment=False)
    trainer.fit(kd.ImageClassifier(linear), data, ckpt_path=ckpt_path)
    return trainer.global_step


@pytest.mark.parametrize(
    ("first", "second", "steps"),
    [
        (MaxSteps(3), MaxSteps(6), (3, 6)),
        (StopAfterEpoch(1), StopAfterEpoch(3), (4, 12)),
    ],
)
def test_a_limit_of_ones_own_goes_on_counting(tmp_path, first, second, steps):
    assert steps_of(tmp_path, first) == steps[0]
    assert steps_of(tmp_path, second, "last") == steps[1]


def test_a_limit_begins_anew_with_each_fit(tmp_path):
    limit = MaxSteps(3)
    assert [steps_of(tmp_path, limit) for _ in range(2)] == [3, 3]


@pytest.mark.parametrize("make", [MaxSteps, MinEpochs, StopAfterEpoch])
@pytest.mark.parametrize("number", [0, -3, "2"])
def test_a_limit_is_a_whole_number_of_one_or_more(make, number):
    with pytest.raises(MisconfigurationError, match=f"Received: .*{number}"):
        make(number)


class Stops(keras.callbacks.Callback):
    """Asks for the end all the time; told of exceptions."""

    seen = None

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True

    def on_exception(self, exception):
        self.seen = exception


@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        ({}, 1),
        ({"min_epochs": 2}, 8),
        pytest.param(
            {"min_epochs": 2, "val_check_interval": 0.5}, 8, marks=pytest.mark.slow
        ),
        pytest.param({"min_epochs": 2, "max_steps": 6}, 6, marks=pytest.mark.slow),
        ({"min_epochs": 2, "max_epochs": -1}, 8),
    ],
)
def test_so_many_epochs_are_trained_at_least(tmp_path, flags, steps):
    flags = {
        "max_epochs": 5,
        "default_root_dir": tmp_path,
        "callbacks": Stops(),
    } | flags
    trainer = kd.Trainer(**flags)
    module = kd.ImageClassifier(linear, milestones=())
    trainer.fit(module, Numbers(4, augment=False))
    assert trainer.global_step == steps


def test_callbacks_and_data_are_told_of_an_exception(tmp_path):
    class Told(Numbers):
        seen = ()

        def on_exception(self, exception):
            self.seen += (exception,)

        def teardown(self, stage):
            super().teardown(stage)
            self.seen += (stage,)

    class Fails(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise RuntimeError("mine")

    data, told = Told(4), Stops()
    trainer = kd.Trainer(2, default_root_dir=tmp_path, callbacks=[Fails(), told])
    with pytest.raises(RuntimeError, match="mine") as raised:
        trainer.fit(kd.ImageClassifier(linear), data)
    assert told.seen is raised.value
    assert data.seen == (raised.value, "fit")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"min_epochs": 3, "max_epochs": 2}, "min_epochs=3 is above max_epochs=2"),
        ({"min_epochs": 0}, "min_epochs must be 1"),
        ({"max_epochs": -2}, "max_epochs must be 1"),
        ({"val_check_interval": 1.5}, "a share of an epoch"),
        ({"val_check_interval": 0}, "a share of an epoch"),
        ({"val_check_interval": 0.5, "overfit_batches": 2}, "choose one"),
        ({"val_check_interval": 1, "check_val_every_n_epoch": 2}, "choose one"),
    ],
)
def test_epochs_that_contradict_each_other_are_refused(flags, said):
    with pytest.raises(MisconfigurationError, match=said):
        kd.Trainer(**flags)
