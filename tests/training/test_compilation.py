"""Models that make their weights when they see pictures, and data of unknown length."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_densenet as kd
from keras_densenet.callbacks import MaxSteps
from keras_densenet.training import MisconfigurationError

LABELS = np.arange(24) % 2
IMAGES = np.random.default_rng(0).integers(0, 255, (24, 4, 4, 1))


class Subclassed(keras.Model):
    def __init__(self, classes=2):
        super().__init__(name="subclassed")
        self.flat = keras.layers.Flatten()
        self.drop = keras.layers.Dropout(0.5)
        self.dense = keras.layers.Dense(classes, "softmax")

    def call(self, images, training=False):
        return self.dense(self.drop(self.flat(images), training=training))


def sequential(classes=2):
    dense = keras.layers.Dense(classes, "softmax")
    return keras.Sequential([keras.layers.Flatten(), dense])


def generated():
    def batches():
        for first in range(0, 24, 6):
            places = slice(first, first + 6)
            yield np.float32(IMAGES[places] / 255), LABELS[places]

    specs = (tf.TensorSpec((None, 4, 4, 1)), tf.TensorSpec((None,), tf.int64))
    return tf.data.Dataset.from_generator(batches, output_signature=specs)


@pytest.mark.parametrize("make", [Subclassed, sequential])
def test_a_model_without_weights_gets_them_from_the_data(tmp_path, make):
    data = kd.data.Arrays(IMAGES, LABELS, 6, validation_split=0.25, seed=1)
    quiet = {"logger": False, "enable_progress_bar": False}
    trainer = kd.Trainer(1, default_root_dir=tmp_path, **quiet)
    with trainer.scope():
        model = make()
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    trainer.fit(model, data)
    assert sum(weight.size for weight in model.get_weights()) == 16 * 2 + 2
    expected = trainer.validate()
    module = kd.ImageClassifier(make)
    trainer.fit(module, data)
    trainer.fit(module, data)  # goes on with its weights
    assert trainer.validate(model, ckpt_path=None) == expected


def test_a_generator_goes_on_exactly_within_an_epoch(tmp_path):
    def fit(folder, limits, ckpt_path=None):
        keras.utils.set_random_seed(1)
        trainer = kd.Trainer(
            2, limit_train_batches=6, default_root_dir=folder, callbacks=limits
        )
        with trainer.scope():
            model = Subclassed()
            model.compile(
                "adam", "sparse_categorical_crossentropy", metrics=["accuracy"]
            )
        trainer.fit(model, generated(), ckpt_path=ckpt_path)
        return trainer, model.get_weights()

    whole, expected = fit(tmp_path / "whole", [])
    fit(tmp_path / "parts", [MaxSteps(4)])
    parts, weights = fit(tmp_path / "parts", [], "last")
    assert whole.global_step == parts.global_step == 12
    for weight, right in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(weight, right)


def test_what_is_validated_is_counted_once(tmp_path):
    """Keras 3.15 takes a batch of nothing into the mean where it knows no number."""
    both = (np.float32(IMAGES / 255), LABELS)
    batches = tf.data.Dataset.from_tensor_slices(both).batch(6, drop_remainder=True)
    trainer = kd.Trainer(1, default_root_dir=tmp_path)
    with trainer.scope():
        model = Subclassed()
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model(both[0][:1])
    expected = model.evaluate(*both, verbose=0, return_dict=True)
    unknown = batches.filter(lambda images, labels: True)
    assert trainer.validate(model, unknown) == pytest.approx(expected)
    assert trainer.test(model, generated()) == pytest.approx(expected)


def test_fewer_answers_than_classes_are_refused(tmp_path):
    data = kd.data.Arrays(IMAGES, LABELS + 3, 6, num_classes=5)
    trainer = kd.Trainer(1, default_root_dir=tmp_path)
    module = kd.ImageClassifier(lambda input_shape: sequential(3))
    with pytest.raises(MisconfigurationError, match=r"3 classes apart, .* 5"):
        trainer.fit(module, data)


def test_one_unit_tells_no_three_classes_apart(tmp_path):
    data = kd.data.Arrays(IMAGES, np.arange(len(IMAGES)) % 3, 6)
    trainer = kd.Trainer(1, default_root_dir=tmp_path)
    model = sequential(1)
    model.layers[-1].activation = keras.activations.sigmoid
    model.compile("sgd", "binary_crossentropy")
    with pytest.raises(MisconfigurationError, match=r"2 classes apart, .* 3"):
        trainer.fit(model, data)
