"""Metrics of an epoch that was ended within are those of an unbroken one."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from crash import CrashError, StopAt

import keras_densenet as kd
from keras_densenet.callbacks import ModelCheckpoint

STEPS = 4


class Largest(keras.metrics.Metric):
    """The largest probability that was seen: no sum."""

    def __init__(self, name="largest"):
        super().__init__(name=name)
        self.value = self.add_weight(name="value", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.value.assign(keras.ops.maximum(self.value, keras.ops.max(y_pred)))

    def result(self):
        return self.value


class Falling(kd.data.DataModule):
    """Pictures whose brightness falls: the largest answer is the first batch's."""

    num_classes = 2
    input_shape = (1, 1, 1)
    class_names = ("dark", "bright")

    def train_dataset(self):
        images = np.linspace(4.0, -4.0, 8 * STEPS, dtype="float32")
        labels = np.arange(8 * STEPS) % 2
        dataset = tf.data.Dataset.from_tensor_slices(
            (images.reshape(-1, 1, 1, 1), labels)
        )
        return dataset.batch(8, drop_remainder=True)

    def val_dataset(self):
        return None

    test_dataset = predict_dataset = val_dataset


def epoch(folder, flags, *callbacks, ckpt_path=None):
    """Train one epoch, and return its metrics."""
    keras.utils.set_random_seed(1)
    trainer = kd.Trainer(
        1,
        default_root_dir=folder,
        logger=False,
        callbacks=[ModelCheckpoint(every_n_train_steps=1), *callbacks],
        enable_model_summary=False,
        enable_progress_bar=False,
        **flags,
    )
    with trainer.scope():
        model = keras.Sequential(
            [
                keras.Input((1, 1, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(1, "sigmoid", kernel_initializer="ones"),
            ],
            name="one_weight",
        )
        metrics = [Largest(), keras.metrics.AUC(name="auc"), "accuracy"]
        model.compile(
            keras.optimizers.SGD(0.01), "binary_crossentropy", metrics=metrics
        )
    return trainer.fit(model, Falling(), ckpt_path=ckpt_path).history


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [{}, pytest.param({"strategy": "mirrored", "devices": 2}, marks=pytest.mark.slow)],
    ids=["one", "two replicas"],
)
def test_each_metric_is_that_of_an_unbroken_epoch(tmp_path, flags):
    whole = epoch(tmp_path / "whole", flags)
    with pytest.raises(CrashError):
        epoch(tmp_path / "ended", flags, StopAt(3))
    resumed = epoch(tmp_path / "ended", flags, ckpt_path="last")
    whole.pop("images_per_second", None), resumed.pop("images_per_second", None)
    assert resumed == whole
    assert set(whole) >= {"loss", "largest", "auc", "accuracy"}
    if not flags:  # 1 / (1 + e^-4), before the first step
        assert whole["largest"] == pytest.approx([0.98201], abs=1e-5)


@pytest.mark.slow
def test_a_checkpoint_of_two_replicas_goes_on_on_one_device(tmp_path):
    """Sums are those of all replicas."""
    whole = epoch(tmp_path / "whole", {})
    with pytest.raises(CrashError):
        epoch(tmp_path, {"strategy": "mirrored", "devices": 2}, StopAt(3))
    resumed = epoch(tmp_path, {}, ckpt_path="last")
    for name in ("loss", "auc", "accuracy"):
        assert resumed[name] == pytest.approx(whole[name], rel=1e-5)
