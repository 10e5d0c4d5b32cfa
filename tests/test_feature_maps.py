"""Encoders: maps of timm's `features_only`, of all strides and layers, and trained.

What timm gives was written by `timm_features.py`, where timm is.
"""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import pytorch_answers as pytorch
import timm_features as timm

import keras_densenet as kd
from keras_densenet.errors import MisconfigurationError
from keras_densenet.weights.names import weights_by_name

ANSWERS = json.loads((Path(timm.__file__).with_suffix(".json")).read_text())
OF_TIMM = {  # what is theirs by our names
    "features.norm0": "stem/maps",
    "features.denseblock1": "dense_block1",
    "features.denseblock2": "dense_block2",
    "features.denseblock3": "dense_block3",
    "features.norm5": "final_relu",
}
TINY = {"blocks": (2, 3, 2), "growth_rate": 4, "stem": "imagenet", "classes": 3}
TINY |= {"input_shape": (32, 32, 3)}
PICTURES = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name != "densenet121"))
        for name in ANSWERS
    ],
)
def test_maps_of_timm(name):
    expected = ANSWERS[name]
    network = getattr(kd, name.replace("densenet", "DenseNet"))
    model = network(input_shape=(None, None, 3))
    drawn = {w.name: pytorch.weight(w.name, w.shape) for w in weights_by_name(model)}
    kd.weights.load(model, drawn)
    encoder = kd.features(model, strides=(2, 4, 8, 16, 32))
    info = encoder.feature_info
    assert [feature.stride for feature in info] == expected["reduction"]
    assert [feature.channels for feature in info] == expected["channels"]
    assert [feature.name for feature in info] == [
        OF_TIMM[module] for module in expected["module"]
    ]
    found = encoder(pytorch.pictures(timm.SIZE), training=False)
    assert [list(maps.shape) for maps in found] == expected["shapes"]
    for maps, samples, scale in zip(
        found, expected["samples"], expected["scales"], strict=True
    ):
        ours = timm.samples(np.asarray(maps))
        np.testing.assert_allclose(ours, samples, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("include_top", [True, False])
def test_without_strides_all_blocks_are_meant(include_top):
    model = kd.DenseNetBC(**TINY, include_top=include_top)
    encoder = kd.features(model)
    # 8 maps of the stem, 4 a layer, halved by each transition.
    assert [tuple(feature) for feature in encoder.feature_info] == [
        ("dense_block1", 4, 16),
        ("dense_block2", 8, 20),
        ("final_relu", 16, 18),
    ]
    assert [tuple(maps.shape) for maps in encoder(PICTURES)] == [
        (2, 8, 8, 16),
        (2, 4, 4, 20),
        (2, 2, 2, 18),
    ]


def test_a_layer_inside_a_block_is_what_it_adds():
    model = kd.DenseNetBC(**TINY)
    encoder = kd.features(model, layers=("dense_block2/layer3", "transition1"))
    added, before = encoder(PICTURES)
    block = model.get_layer("dense_block2")
    x = before
    for layer in block.dense_layers:
        new = layer(x, training=False)
        x = np.concatenate([x, new], axis=-1)
    np.testing.assert_allclose(added, new, rtol=1e-5, atol=1e-5)
    assert [tuple(feature) for feature in encoder.feature_info] == [
        ("dense_block2/layer3", 8, 4),
        ("transition1", 8, 8),
    ]


def test_small_networks_and_fc_densenets_have_maps_too():
    small = kd.features(kd.DenseNet(16, 4))
    assert [feature.stride for feature in small.feature_info] == [1, 2, 4]
    tiramisu = kd.FCDenseNet(blocks=(2, 3, 2, 3, 2), growth_rate=4)
    way_down = kd.features(tiramisu).feature_info
    assert [(maps.name, maps.stride) for maps in way_down] == [
        ("dense_block1", 1),
        ("dense_block2", 2),
        ("dense_block3", 4),
    ]
    names = ("skip1", "dense_block5")
    way_up = kd.features(tiramisu, layers=names).feature_info
    assert [(maps.name, maps.stride) for maps in way_up] == [
        ("skip1", 2),
        ("dense_block5", 1),
    ]


@pytest.mark.parametrize("rank", [1, 3])
def test_signals_and_volumes_have_maps(rank):
    model = kd.DenseNetBC(**{**TINY, "input_shape": (*(32,) * rank, 1)})
    stem, block = kd.features(model, strides=(2, 4))(np.ones((1, *(32,) * rank, 1)))
    assert stem.shape == (1, *(16,) * rank, 8)
    assert block.shape == (1, *(8,) * rank, 16)


def test_of_one_stride_the_last_maps_are_taken():
    model = kd.DenseNetBC(**TINY, output_stride=4)
    by_none = kd.features(model).feature_info
    assert [(maps.name, maps.stride) for maps in by_none] == [
        ("dense_block1", 4),
        ("dense_block2", 4),
        ("final_relu", 4),
    ]
    assert [maps.name for maps in kd.features(model, (2, 4)).feature_info] == [
        "stem/maps",
        "final_relu",
    ]


@pytest.mark.parametrize("mode", [False, True, "full"])
def test_an_encoder_is_trained_as_the_network_is(mode):
    """The same weights: gradients and moving statistics, in each memory mode."""

    def trained(encode):
        keras.utils.set_random_seed(1)
        model = kd.DenseNetBC(**TINY, include_top=False, memory_efficient=mode)
        pooled = keras.layers.GlobalAveragePooling2D()(encode(model))
        head = keras.layers.Dense(3, kernel_initializer="ones")(pooled)
        whole = keras.Model(model.input, head)
        whole.compile(keras.optimizers.SGD(0.1), "mse")
        whole.train_on_batch(PICTURES, np.ones((2, 3)))
        return model.get_weights()

    def of_strides(model):
        encoder = kd.features(model, strides=(2, 16))
        return encoder(model.input)[-1]

    plain = trained(lambda model: model.output)
    for one, other in zip(plain, trained(of_strides), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


def test_the_stems_maps_are_trained_too():
    """Against the stem in the paper's order, of Keras's own layers."""
    model = kd.DenseNetBC(**TINY, memory_efficient="full")
    stem = model.get_layer("stem")
    encoder = kd.features(model, strides=(2,))
    gradients = []
    for network in (encoder, _stem_of_keras(stem)):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            maps = network(PICTURES, training=True)
            maps = maps[0] if isinstance(maps, list) else maps
            loss = tf.reduce_sum(maps**2 * np.linspace(0, 1, 8))
        kernel = network.trainable_weights[0]
        gradients.append(tape.gradient(loss, kernel.value))
    scale = np.abs(gradients[1]).max()
    np.testing.assert_allclose(*gradients, rtol=0, atol=1e-5 * scale)


def _stem_of_keras(stem):
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.ZeroPadding2D(3)(inputs)
    x = keras.layers.Conv2D(8, 7, 2, use_bias=False)(x)
    x = keras.layers.BatchNormalization(epsilon=1e-5)(x)
    model = keras.Model(inputs, keras.layers.ReLU()(x))
    model.set_weights([stem.conv.kernel, *stem.bn.get_weights()])
    return model


def test_a_saved_encoder_says_what_its_maps_are(tmp_path):
    encoder = kd.features(kd.DenseNetBC(**TINY), strides=(2, 4, 16))
    encoder.save(tmp_path / "encoder.keras")
    loaded = keras.saving.load_model(tmp_path / "encoder.keras")
    assert loaded.feature_info == encoder.feature_info
    for one, other in zip(encoder(PICTURES), loaded(PICTURES), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_network_stays_what_it_is():
    """Its layers have been called once more: nothing that looks inside may mind."""
    model = kd.DenseNetBC(**TINY)
    before = model(PICTURES)
    kd.features(model, strides=(2, 4))
    np.testing.assert_array_equal(model(PICTURES), before)
    assert kd.analysis.profile(model).multiply_adds
    again = kd.features(model)
    assert [maps.stride for maps in again.feature_info] == [4, 8, 16]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"strides": (3,)}, ValueError, ["stride 3", "2, 4, 8, 16"]),
        ({"layers": ("dense_block1/layer9",)}, ValueError, ["dense_block1/layer"]),
        ({"layers": ("dens_block1",)}, ValueError, ["Did you mean 'dense_block1'"]),
        ({"strides": (4,), "layers": ("stem",)}, ValueError, ["leave one"]),
        ({"strides": 4}, ValueError, ["(8, 16)", "strides=4"]),
        ({"strides": ()}, ValueError, ["one or more"]),
        ({"layers": "stem"}, ValueError, ["('transition1',)", "layers='stem'"]),
    ],
)
def test_maps_that_there_are_not(arguments, error, words):
    with pytest.raises(error) as refused:
        kd.features(kd.DenseNetBC(**TINY), **arguments)
    for word in words:
        assert word in str(refused.value)


def test_what_the_stem_returns_beside_its_maps():
    model = kd.DenseNetBC(**TINY)
    names = ("stem", "stem/maps", "dense_block1/layer1", "dense_block1/layer1")
    encoder = kd.features(model, layers=names)
    pooled, maps, one, same = encoder(PICTURES)
    assert [feature.name for feature in encoder.feature_info] == list(names)
    assert (pooled.shape, maps.shape) == ((2, 8, 8, 8), (2, 16, 16, 8))
    np.testing.assert_array_equal(one, same)


def test_what_is_no_network():
    encoder = kd.features(kd.DenseNetBC(**TINY), (2, 4))
    with pytest.raises(MisconfigurationError, match="feature maps already"):
        kd.features(encoder, (4,))
    module = kd.ImageClassifier(kd.DenseNetBC, depth=10)
    with pytest.raises(MisconfigurationError, match=r"module\.model"):
        kd.features(module)


def test_a_network_within_a_model_is_asked_for():
    inside = kd.DenseNetBC(**TINY, include_top=False)
    model = keras.Sequential([inside, keras.layers.GlobalAveragePooling2D()])
    with pytest.raises(MisconfigurationError, match="get_layer"):
        kd.features(model)
    assert kd.features(model.layers[0]).feature_info[0].channels == 16
