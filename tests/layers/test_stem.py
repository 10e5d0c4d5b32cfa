"""The stem for ImageNet is that of Table 1, which is built here of Keras's layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_densenet as kd

SHAPES = {1: (61, 2), 2: (33, 36, 2), 3: (29, 32, 30, 2)}


def of_keras_layers(rank):
    layers = keras.layers

    def of_rank(kind):
        return getattr(layers, f"{kind}{rank}D")

    return keras.Sequential(
        [
            of_rank("ZeroPadding")(3),
            of_rank("Conv")(5, 7, strides=2, use_bias=False),
            layers.BatchNormalization(epsilon=1e-5, momentum=0.9),
            layers.ReLU(),
            of_rank("ZeroPadding")(1),
            of_rank("MaxPooling")(3, strides=2),
        ]
    )


def gradients(layer, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
        loss = tf.reduce_sum(y**3)
    return y, tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)])


@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.parametrize("mode", [False, True, "full"])
def test_it_is_the_stem_of_the_paper(rank, mode):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(3, *SHAPES[rank])), "float32")
    layer, peer = kd.layers.Stem(5, memory_efficient=mode), of_keras_layers(rank)
    peer.build(x.shape)
    layer.build(x.shape)
    kernel, gamma, beta, mean, variance = (
        rng.normal(size=w.shape) for w in peer.weights
    )
    weights = [kernel, gamma, beta - 1, mean, variance**2]
    for model in (layer, peer):
        model.set_weights(weights)
    (y, found), (expected, wanted) = gradients(layer, x), gradients(peer, x)
    assert y.shape == expected.shape == layer.compute_output_shape(x.shape)
    assert (y.numpy() == 0).any()
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)
    for ours, theirs in zip(found, wanted, strict=True):
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("rank", SHAPES)
def test_pooling_before_relu_is_the_stem_of_the_paper_to_the_bit(rank):
    """Table 1 pools after BN-ReLU: that order is computed here by Keras's layers."""
    layer = kd.layers.Stem(5)
    layer.build((None, *SHAPES[rank]))
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, *[(n + 1) // 2 for n in SHAPES[rank][:-1]], 5))
    maps = tf.constant(np.round(4 * maps) / 4, "float32")  # with equal values
    after = of_keras_layers(rank).layers[3:]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(maps)
        y = layer._pooled(maps, None, False)
        expected = layer.bn(maps, training=False)
        for step in after:
            expected = step(expected)
        loss, wanted = tf.reduce_sum(y**3), tf.reduce_sum(expected**3)
    assert (y.numpy() == 0).any()
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(
        tape.gradient(loss, maps), tape.gradient(wanted, maps)
    )


def test_what_it_costs_by_hand():
    """64 maps of 112x112 from windows of 7x7x3; 56x56 are left."""
    layer = kd.layers.Stem(64)
    shape = (None, 224, 224, 3)
    layer.build(shape)
    assert layer.multiply_adds(shape) == 118_013_952  # 112^2 * 7^2 * 3 * 64
    stored = [layer.stored_values(shape, mode) for mode in (False, True, "full")]
    # 112^2 * 64 = 802,816; 56^2 * 64 = 200,704
    assert stored == [1_806_336, 1_003_520, 200_704]


def test_it_is_saved_with_what_it_was_made_of(tmp_path):
    options = {"blocks": (1,), "stem": "imagenet", "input_shape": (32, 32, 3)}
    model = kd.DenseNet(**options, memory_efficient="full", sync_batchnorm=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").get_layer("stem")
    assert loaded.get_config() == model.get_layer("stem").get_config()
    for ours, theirs in zip(
        loaded.weights, model.get_layer("stem").weights, strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("filters", [0, 2.5, "64", None])
def test_other_filters_are_refused(filters):
    with pytest.raises(ValueError, match=rf"whole number.*filters={filters!r}"):
        kd.layers.Stem(filters)


@pytest.mark.parametrize("shape", [(3,), (8, 8, 8, 8, 1)])
def test_what_are_no_pictures_is_refused(shape):
    with pytest.raises(ValueError, match=rf"Received: {len(shape) - 1} axes beside"):
        kd.layers.Stem(4)(keras.Input(shape))


def test_a_second_stem_of_a_process_is_known_by_its_name_too(tmp_path):
    nets = []
    for _ in range(2):
        x = pictures = keras.Input((32, 32, 3))
        x = kd.layers.Stem(8)(x)
        x = kd.layers.DenseBlock(1, 4, name="dense_block1")(x)
        x = kd.layers.BatchNorm(name="final_bn")(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        x = keras.layers.Dense(2, name="classifier")(x)
        nets.append(keras.Model(pictures, x))
    first, second = nets
    names = {net.layers[1].name for net in nets}
    assert len(names) == 2
    second.save(tmp_path / "second.keras")
    kd.weights.load(first, tmp_path / "second.keras")
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3))
    np.testing.assert_array_equal(first(x), second(x))
