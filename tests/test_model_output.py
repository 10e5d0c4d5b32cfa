"""What a model answers, said by its last layers, or by its loss."""

import keras
import numpy as np
import pytest

import keras_densenet as kd
from keras_densenet.model_output import ModelOutput, last_activation, output_of

Dense, Activation = keras.layers.Dense, keras.layers.Activation


def ending_in(*layers):
    return keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), *layers])


def operation(function, *layers):
    pictures = keras.Input((2, 2, 1))
    return keras.Model(pictures, function(ending_in(*layers)(pictures)))


class Unknown(keras.layers.Layer):
    def call(self, x):
        return x


class Subclassed(Dense):
    def call(self, x):
        return keras.ops.softmax(super().call(x))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: ending_in(Dense(3, "softmax")), "softmax"),
        (lambda: ending_in(Dense(3)), "logits"),
        (lambda: ending_in(Dense(3, "sigmoid")), "sigmoid"),
        (lambda: ending_in(Dense(3), keras.layers.Softmax()), "softmax"),
        (lambda: ending_in(Dense(3), keras.layers.Softmax(axis=0)), "unknown"),
        (lambda: ending_in(Dense(3), Activation("softmax")), "softmax"),
        (lambda: ending_in(Dense(3), Activation("linear")), "logits"),
        (lambda: ending_in(Dense(3, "softmax"), Activation("linear")), "softmax"),
        (lambda: ending_in(Dense(3, "log_softmax")), "logits"),
        (lambda: ending_in(Dense(3, "relu")), "unknown"),
        (lambda: ending_in(Dense(3), Unknown()), "unknown"),
        (lambda: ending_in(Subclassed(3)), "unknown"),
        (lambda: ending_in(ending_in_within("softmax")), "softmax"),
        (lambda: ending_in(ending_in_within(None)), "logits"),
        (lambda: operation(keras.ops.softmax, Dense(3)), "softmax"),
        (lambda: operation(keras.ops.sigmoid, Dense(3)), "sigmoid"),
        (lambda: operation(lambda x: keras.ops.cast(x, "float32"), Dense(3)), "logits"),
        (lambda: operation(lambda x: x + x, Dense(3)), "unknown"),
        (lambda: fully_convolutional("softmax"), "softmax"),
        (lambda: fully_convolutional(None), "logits"),
        (lambda: keras.Sequential([keras.layers.Flatten(), Dense(3)]), "logits"),
        (lambda: kd.DenseNetBC(10, 4, input_shape=(8, 8, 1)), "softmax"),
    ],
)
def test_the_last_layers_say_it(make, kind):
    assert output_of(make()).kind == kind


def ending_in_within(activation):
    return keras.Sequential([Dense(5, "relu"), Dense(3, activation)])


def fully_convolutional(activation):
    layers = [keras.layers.Conv2D(3, 1, activation=activation)]
    layers += [keras.layers.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input((2, 2, 1)), *layers])


def test_mixed_precision_hides_nothing():
    top = [Dense(3, dtype="mixed_float16"), Activation("softmax", dtype="float32")]
    assert last_activation(ending_in(*top)).layer is top[1]
    assert output_of(
        ending_in(Dense(3), Activation("linear", dtype="float32"))
    ).kind == ("logits")


@pytest.mark.parametrize(
    ("layer", "loss", "kind"),
    [
        (Dense(1), None, "sigmoid_logits"),
        (Dense(1), "mse", "unknown"),
        (Dense(3), keras.losses.Huber(), "unknown"),
        (Dense(3), keras.losses.BinaryCrossentropy(from_logits=True), "sigmoid_logits"),
        (
            Unknown(),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "logits",
        ),
        (Unknown(), "sparse_categorical_crossentropy", "unknown"),
    ],
)
def test_else_the_loss_says_it(layer, loss, kind):
    model = ending_in(layer)
    assert output_of(model, loss).kind == kind
    model.compile(loss=loss)
    assert output_of(model).kind == kind


def test_a_softmax_over_one_unit_is_refused():
    with pytest.raises(kd.training.MisconfigurationError, match="1 for every picture"):
        output_of(ending_in(Dense(1, "softmax")))


def test_probabilities_by_hand():
    # exp(log 3) = 3 and exp(0) = 1: shares of 3/4 and 1/4, for softmax and sigmoid.
    answers = np.array([[np.log(3), 0.0]])
    of_softmax = ModelOutput("logits", 2).probabilities(answers, classes=2)
    np.testing.assert_allclose(of_softmax, [[0.75, 0.25]], atol=1e-6)
    of_sigmoid = ModelOutput("sigmoid_logits", 2).probabilities(answers, classes=2)
    np.testing.assert_allclose(of_sigmoid, [[0.75, 0.5]], atol=1e-6)
    one = ModelOutput("sigmoid_logits", 1).probabilities(answers[:, :1], classes=2)
    np.testing.assert_allclose(one, [[0.25, 0.75]], atol=1e-6)
    one = ModelOutput("sigmoid", 1).probabilities(np.array([[0.125]]), classes=2)
    np.testing.assert_array_equal(one, [[0.875, 0.125]])
    half = ModelOutput("logits", 2).probabilities(answers.astype("float16"))
    assert half.dtype == "float32"
    for kind in ("softmax", "unknown", "sigmoid"):
        assert ModelOutput(kind, 2).probabilities(answers, classes=2) is answers
