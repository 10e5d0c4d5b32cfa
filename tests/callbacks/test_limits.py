"""What ends a training early counts over all runs that resume each other."""

import keras
import numpy as np
import pytest

import keras_densenet as kd
from keras_densenet.callbacks import MaxSteps, StopAfterEpoch
from keras_densenet.training import MisconfigurationError


class Numbers(kd.data.ArrayDataModule):
    """Four batches an epoch of pictures of one pixel."""

    num_classes, input_shape, class_names = 2, (1, 1, 1), ("a", "b")
    mean, std, title = (0.0,), (1.0,), "numbers"

    def load_splits(self, stage):
        images, labels = np.zeros((16, 1, 1, 1), "uint8"), np.arange(16) % 2
        split = kd.data.Split(images, labels)
        return {"train": split, "val": split, "test": split}


def linear(classes, input_shape):
    pictures = keras.Input(input_shape)
    scores = keras.layers.Dense(classes, "softmax")(keras.layers.Flatten()(pictures))
    return keras.Model(pictures, scores, name="linear")


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


@pytest.mark.parametrize("make", [MaxSteps, StopAfterEpoch])
@pytest.mark.parametrize("number", [0, -3, "2"])
def test_a_limit_is_a_whole_number_of_one_or_more(make, number):
    with pytest.raises(MisconfigurationError, match=f"Received: .*{number}"):
        make(number)
