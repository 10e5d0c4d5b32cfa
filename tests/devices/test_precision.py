"""Double means double: losses and metrics, too, wherever they come from."""

import keras
import numpy as np
import pytest
from linear_network import linear

import keras_densenet as kd


def by_hand(labels, probabilities):
    """Return the cross-entropy of each picture."""
    classes = keras.ops.one_hot(labels, 10, dtype=probabilities.dtype)
    return -keras.ops.sum(classes * keras.ops.log(probabilities), axis=-1)


MADE_BEFORE = keras.losses.SparseCategoricalCrossentropy()


class WithLoss(kd.ImageClassifier):
    """Has another loss, and a metric that Keras makes when it is trained."""

    def __init__(self, loss):
        super().__init__(linear, learning_rate=0.01)
        self.loss = loss

    def configure_loss(self):
        return self.loss

    def configure_metrics(self):
        return [*super().configure_metrics(), "sparse_categorical_crossentropy"]


@pytest.mark.parametrize(
    "loss",
    [MADE_BEFORE, "sparse_categorical_crossentropy", by_hand],
    ids=["object", "text", "function"],
)
def test_the_loss_is_computed_in_float64(tmp_path, loss):
    """Of a step, and of the test pictures, as NumPy computes it."""
    trainer = kd.Trainer(
        1,
        precision="64-true",
        limit_train_batches=1,
        limit_val_batches=0,
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
    )
    module, data, begun = WithLoss(loss), kd.data.Digits(batch_size=50), []
    trainer.callbacks.append(
        keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs: begun.extend(module.model.get_weights())
        )
    )
    history = trainer.fit(module, data).history
    data.setup("fit")
    (images, labels), *_ = data.train_batches(0).take(1)
    kernel, bias = begun
    scores = images.numpy().reshape(50, -1).astype("float64") @ kernel + bias
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = exponents / exponents.sum(axis=1, keepdims=True)
    expected = -np.log(probabilities[np.arange(50), labels]).mean()
    assert history["loss"] == pytest.approx([expected], rel=1e-13)
    metric = history["sparse_categorical_crossentropy"]
    assert metric == pytest.approx([expected], rel=1e-13)
    tested = trainer.test(module, data)
    name = "sparse_categorical_crossentropy"
    assert tested["loss"] == pytest.approx(tested[name], rel=1e-13)
    assert keras.config.floatx() == "float32"
    assert MADE_BEFORE.dtype == "float32"


def test_a_model_compiled_in_scope_with_a_loss_made_before(tmp_path):
    trainer = kd.Trainer(precision="64-true", default_root_dir=tmp_path)
    with trainer.scope():
        model = linear(10, (32, 32, 3))
        model.compile("sgd", MADE_BEFORE, metrics=[by_hand])
    tested = trainer.test(model, kd.data.Digits(batch_size=50))
    assert tested["loss"] == pytest.approx(tested["by_hand"], rel=1e-13)


def test_a_training_that_fails_leaves_keras_with_its_own_floats(tmp_path):
    trainer = kd.Trainer(
        1, precision="64-true", callbacks=[Failing()], default_root_dir=tmp_path
    )
    with pytest.raises(ZeroDivisionError):
        trainer.fit(kd.ImageClassifier(linear), kd.data.Digits(batch_size=50))
    assert keras.config.floatx() == "float32"
    assert keras.config.dtype_policy().name == "float32"


class Failing(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        assert keras.config.floatx() == "float64"
        raise ZeroDivisionError
