"""The network that is served gives the answers of the network that was trained."""

import keras
import numpy as np
import pytest

import keras_densenet as kd
from keras_densenet.export import litert
from keras_densenet.export.inference import (
    inference_network,
    refuse_unknown_answers,
    scale_and_offset,
    unfolded_network,
)


def shaken(model):
    """Give a model whose batch norms are unlike those that it began with."""
    rng = np.random.default_rng(0)
    model.set_weights(
        [
            rng.uniform(0.2, 1.2, variable.shape)
            if "variance" in variable.name
            else rng.uniform(-0.4, 0.8, variable.shape)
            if len(variable.shape) == 1
            else weight
            for variable, weight in zip(model.weights, model.get_weights(), strict=True)
        ]
    )
    return model


def with_a_head():
    body = kd.DenseNet121(include_top=False, input_shape=(64, 64, 3), pooling="avg")
    return keras.Sequential([body, keras.layers.Dense(3, activation="softmax")])


def of_keras_own_layers():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(scale=False),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
            keras.layers.Softmax(),
        ]
    )


def called_with_training():
    pictures = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False)(pictures)
    x = keras.layers.BatchNormalization()(x, training=False)
    x = kd.layers.DenseBlock(2, 4)(x, training=False)
    x = kd.layers.Transition()(x, training=False)
    x = kd.layers.BatchNorm()(x, training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(pictures, keras.layers.Dense(3, "softmax")(x))


NETWORKS = {
    "called with training=": called_with_training,
    "MobileNetV2": lambda: keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, weights=None, classes=5
    ),
    "bottlenecks": lambda: kd.DenseNetBC(22, 12, dropout_rate=0.2),
    "plain": lambda: kd.DenseNet(13, 5, classes=3),
    "recomputed": lambda: kd.DenseNetBC(16, 4, memory_efficient="full"),
    "ImageNet's stem": lambda: kd.DenseNet121(input_shape=(64, 64, 3), classes=7),
    "logits": lambda: kd.DenseNet121(
        input_shape=(64, 64, 3), classes=7, classifier_activation=None
    ),
    "narrow bottlenecks": lambda: kd.DenseNetBC(
        *(None, 8, 0.5, 3), blocks=(2, 3), bn_size=2, stem="imagenet"
    ),
    "one block": lambda: kd.DenseNet(blocks=(2,), classifier_activation="sigmoid"),
    "with a head": with_a_head,
    "Keras's own layers": of_keras_own_layers,
}
SLOW = ("ImageNet's stem", "logits", "with a head")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW))
        for name in NETWORKS
    ],
)
def test_folded_it_gives_the_same_answers(name):
    model = shaken(NETWORKS[name]())
    pictures = np.random.default_rng(1).normal(size=(3, *model.input_shape[1:]))
    expected = np.asarray(model(pictures, training=False), "float64")
    if name == "logits":
        expected = np.exp(expected - expected.max(axis=-1, keepdims=True))
        expected /= expected.sum(axis=-1, keepdims=True)
    network = inference_network(model)
    found = network.probabilities(pictures.astype("float32"))
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert network.answers(pictures)["features"].shape[0] == 3


def test_a_batch_norm_after_a_convolution_is_gone():
    """Of the bottleneck's batch norm a bias is left; the stem's is gone, too."""
    model = kd.DenseNet121(input_shape=(64, 64, 3), classes=7)
    graph = inference_network(model).answers.__closure__
    (whole,) = [
        c.cell_contents for c in graph if isinstance(c.cell_contents, keras.Model)
    ]
    assert not whole.get_layer("stem_bn").weights
    assert whole.get_layer("stem_conv").use_bias
    # 4 vectors of a batch norm become 2, those of a bottleneck 1: by hand.
    channels = [64 + 32 * i for i in range(6)]
    block = whole.get_layer("dense_block1")
    by_hand = sum(2 * c + c * 128 + 128 + 9 * 128 * 32 for c in channels)
    assert block.count_params() == by_hand


def test_scale_and_offset_by_hand():
    bn = kd.layers.BatchNorm(epsilon=0.25)
    bn.build((None, 2, 2, 1))
    bn.set_weights([np.array([x]) for x in (3.0, 1.0, 2.0, 2.0)])
    scale, offset = scale_and_offset(bn)  # 3 / sqrt(2.25) = 2; 1 - 2 * 2 = -3
    assert (scale[0], offset[0]) == (2.0, -3.0)


def ending_in(*layers):
    return keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.GlobalAveragePooling2D(), *layers]
    )


def compiled(model, loss):
    model.compile(loss=loss)
    return model


BINARY = keras.losses.BinaryCrossentropy(from_logits=True)


@pytest.mark.parametrize(
    ("model", "probabilities"),
    [
        # The mean of the pixels is log 3, whose odds are 3: e^0, too, is 1.
        (ending_in(keras.layers.Dense(2)), [3 / 4, 1 / 4]),
        (ending_in(keras.layers.Dense(2, "log_softmax")), [3 / 4, 1 / 4]),
        (ending_in(keras.layers.Dense(2, "softmax")), [3 / 4, 1 / 4]),
        (ending_in(keras.layers.Dense(2, "sigmoid")), [3 / 4, 1 / 2]),
        (compiled(ending_in(keras.layers.Dense(2)), BINARY), [3 / 4, 1 / 2]),
        (ending_in(keras.layers.Dense(1)), [3 / 4]),
    ],
)
def test_logits_and_probabilities_by_hand(model, probabilities):
    model.set_weights([np.eye(1, len(probabilities)), np.zeros(len(probabilities))])
    picture = np.full((1, 2, 2, 1), np.log(3), "float32")
    refuse_unknown_answers(model)
    for network in (inference_network(model), unfolded_network(model)):
        found = network.probabilities(picture)
        np.testing.assert_allclose(found, [probabilities], rtol=1e-5)


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ([keras.layers.Dense(2, "relu")], "ends in the activation relu"),
        ([keras.layers.Dense(1, "softmax")], "1 for every picture"),
        ([keras.Sequential([keras.layers.Dense(2)])], "end it in keras.layers.Softmax"),
    ],
)
def test_what_is_neither_logits_nor_probabilities_is_refused(layers, says, tmp_path):
    model = ending_in(*layers)
    with pytest.raises(ValueError, match=says):
        refuse_unknown_answers(model)
    with pytest.raises(ValueError, match=says):
        litert(model, tmp_path / "x.tflite", mean=[0.0], std=[1.0])
