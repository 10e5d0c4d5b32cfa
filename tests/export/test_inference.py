"""The network that is served gives the answers of the network that was trained."""

import keras
import numpy as np
import pytest
from shaken import shaken

import keras_densenet as kd
from keras_densenet.export import litert
from keras_densenet.export.inference import (
    inference_network,
    refuse_unknown_answers,
    scale_and_offset,
    unfolded_network,
)


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


def of_keras_own_layers_of_volumes():
    return keras.Sequential(
        [
            keras.Input((6, 6, 6, 2)),
            keras.layers.Conv3D(4, 3),
            keras.layers.BatchNormalization(axis=4),
            keras.layers.ReLU(),
            keras.layers.Conv3D(4, 1),
            keras.layers.BatchNormalization(axis=3),  # not of channels
            keras.layers.GlobalAveragePooling3D(),
            keras.layers.Dense(3, "softmax"),
        ]
    )


def of_rank(*size, stem="small"):
    options = {"bottleneck": True, "compression": 0.5, "classes": 3, "stem": stem}
    return kd.DenseNet(None, 4, blocks=(2, 2), input_shape=(*size, 2), **options)


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
    "dilated": lambda: kd.DenseNetBC(
        *(None, 8, 0.5, 3), blocks=(2, 2, 3), stem="imagenet", output_stride=4
    ),
    "one block": lambda: kd.DenseNet(blocks=(2,), classifier_activation="sigmoid"),
    "with a head": with_a_head,
    "Keras's own layers": of_keras_own_layers,
    "Keras's own layers of volumes": of_keras_own_layers_of_volumes,
    "signals of any size": lambda: of_rank(None, stem="imagenet"),
    "volumes": lambda: of_rank(29, 30, 31, stem="imagenet"),
    "plain volumes": lambda: kd.DenseNet(13, 5, classes=3, input_shape=(9, 5, 8, 1)),
}
SLOW = ("ImageNet's stem", "logits", "with a head", "plain volumes")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW))
        for name in NETWORKS
    ],
)
def test_folded_it_gives_the_same_answers(name):
    model = shaken(NETWORKS[name]())
    size = [n or 20 for n in model.input_shape[1:]]
    pictures = np.random.default_rng(1).normal(size=(3, *size))
    expected = np.asarray(model(pictures, training=False), "float64")
    if name == "logits":
        expected = np.exp(expected - expected.max(axis=-1, keepdims=True))
        expected /= expected.sum(axis=-1, keepdims=True)
    network = inference_network(model)
    found = network.probabilities(pictures.astype("float32"))
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert network.answers(pictures)["features"].shape[0] == 3


def folded(model):
    graph = inference_network(model).answers.__closure__
    (whole,) = [
        c.cell_contents for c in graph if isinstance(c.cell_contents, keras.Model)
    ]
    return whole


def test_a_batch_norm_of_volumes_is_gone_as_well():
    """Layers read 8 and 12 maps: two vectors, 16 kernels and biases, 16 to 4 maps."""
    whole = folded(of_rank(29, 29, 29, stem="imagenet"))
    kernel, bias = whole.get_layer("stem").weights
    assert (kernel.shape, bias.shape) == ((7, 7, 7, 2, 8), (8,))
    by_hand = sum(2 * c + c * 16 + 16 + 27 * 16 * 4 for c in (8, 12))
    assert whole.get_layer("dense_block1").count_params() == by_hand
    whole = folded(of_keras_own_layers_of_volumes())
    kept = [len(layer.weights) for layer in whole.layers if "norm" in layer.name]
    assert kept == [0, 4]  # the one of channels is gone


def test_a_batch_norm_after_a_convolution_is_gone():
    """Of the bottleneck's batch norm a bias is left; the stem's is gone, too."""
    whole = folded(kd.DenseNet121(input_shape=(64, 64, 3), classes=7))
    kernel, bias = whole.get_layer("stem").weights
    assert (kernel.shape, bias.shape) == ((7, 7, 3, 64), (64,))
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
