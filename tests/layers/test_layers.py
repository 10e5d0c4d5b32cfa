import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_densenet as kd
from keras_densenet.layers.pooling import max_pool
from keras_densenet.layers.shared_moments import Moments, batch_moments, normalize


def pictures(*shape):
    return np.random.default_rng(1).normal(2.0, 3.0, size=shape).astype("float32")


def keras_batch_norm(like, axes=4):
    """Return Keras's own BN with the paper's constants and the weights of ours."""
    theirs = keras.layers.BatchNormalization(epsilon=1e-5, momentum=0.9)
    theirs.build((*[None] * (axes - 1), like.gamma.shape[0]))
    theirs.set_weights(like.get_weights())
    return theirs


@pytest.fixture
def batch_norm():
    layer = kd.layers.BatchNorm()
    layer.build((None, 5, 6, 7))
    rng = np.random.default_rng(2)
    layer.set_weights([rng.uniform(0.5, 2.0, 7) for _ in range(4)])
    return layer


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_is_keras_batch_norm(batch_norm, training):
    x = tf.Variable(pictures(4, 5, 6, 7))
    weights = pictures(4, 5, 6, 7)
    theirs = keras_batch_norm(batch_norm)
    results = []
    for layer in (batch_norm, theirs):
        with tf.GradientTape() as tape:
            y = layer(x, training=training)
            loss = tf.reduce_sum(y * weights)
        gradients = tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])
        results.append([y, *gradients, *layer.get_weights()])
    for ours, expected in zip(*results, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_frozen_batch_norm_uses_and_keeps_its_moving_statistics(batch_norm):
    batch_norm.trainable = False
    before = batch_norm.get_weights()
    x = pictures(4, 5, 6, 7)
    y = batch_norm(x, training=True)
    gamma, beta, mean, variance = before
    expected = (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    for now, then in zip(batch_norm.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_moving_statistics_after_one_step_by_hand():
    layer = kd.layers.BatchNorm()
    x = np.array([1.0, 3.0, 5.0, 7.0], "float32").reshape(1, 2, 2, 1)
    layer(x, training=True)
    # mean 4, biased variance 5; 0.9 * 0 + 0.1 * 4 and 0.9 * 1 + 0.1 * 5.
    np.testing.assert_allclose(layer.moving_mean, [0.4], rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, [1.4], rtol=1e-6)


def test_moments_are_right_where_the_mean_is_large():
    x = 1000.0 + np.array([-1.0, 1.0], "float32").reshape(2, 1, 1, 1)
    mean, variance = batch_moments(ops.convert_to_tensor(x), axis=3)
    np.testing.assert_allclose(mean, [1000.0])
    np.testing.assert_allclose(variance, [1.0])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_normalize_keeps_the_type_and_computes_in_float32(dtype):
    x = ops.cast(np.full((1, 1, 1, 2), 3.0), dtype)
    wide = "float64" if dtype == "float64" else "float32"
    mean, variance, gamma, beta = (
        ops.cast(vector, wide)
        for vector in ([1.0, 2.0], [0.5, 3.5], [2.0, 1.0], [1.0, -1.0])
    )
    y = normalize(x, Moments(mean, variance), gamma, beta, epsilon=0.5, axis=3)
    assert y.dtype == dtype
    # 2 (3 - 1) / sqrt(0.5 + 0.5) + 1 and (3 - 2) / sqrt(3.5 + 0.5) - 1
    np.testing.assert_allclose(ops.cast(y, "float32"), [[[[5.0, -0.5]]]], rtol=1e-6)


def reference_block(block, x, training):
    """Compute the block with Keras's own BN, which computes moments at every use."""
    for layer in block.dense_layers:
        h = x
        if layer.bottleneck:
            h = keras_batch_norm(layer.bottleneck_bn, len(x.shape))(
                h, training=training
            )
            h = layer.bottleneck_conv(ops.relu(h))
        h = keras_batch_norm(layer.bn, len(x.shape))(h, training=training)
        x = ops.concatenate([x, layer.conv(ops.relu(h))], axis=-1)
    return x


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("bottleneck", [True, False])
def test_block_with_shared_moments_is_a_block_of_keras_batch_norms(
    bottleneck, training
):
    block = kd.layers.DenseBlock(3, 4, bottleneck=bottleneck)
    x = tf.Variable(pictures(4, 8, 8, 5))
    block.build(x.shape)
    weights = pictures(4, 8, 8, 17)
    results = []
    for call in (block, lambda x, training: reference_block(block, x, training)):
        with tf.GradientTape() as tape:
            y = call(x, training=training)
            loss = tf.reduce_sum(y * weights)
        kernels = [layer.conv.kernel.value for layer in block.dense_layers]
        results.append([y, *tape.gradient(loss, [x, *kernels])])
    for ours, expected in zip(*results, strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5 * scale)


def test_block_keeps_its_input_in_front():
    block = kd.layers.DenseBlock(2, 3)
    x = pictures(1, 4, 4, 5)
    y = block(x)
    assert y.shape == (1, 4, 4, 11)
    np.testing.assert_array_equal(y[..., :5], x)


def test_transition_pools_floor_theta_m_maps():
    # 0.29 * 100 is 28.999... in binary.
    assert kd.layers.Transition(0.29)(keras.Input((8, 8, 100))).shape == (
        None,
        4,
        4,
        29,
    )
    assert kd.layers.Transition(0.5)(keras.Input((7, 5, 9))).shape == (None, 3, 2, 4)
    free = kd.layers.Transition(0.5)(keras.Input((None, None, 8)))
    assert free.shape == (None, None, None, 4)


def test_transition_averages_each_two_by_two_square():
    layer = kd.layers.Transition(1.0)
    layer.build((None, 2, 2, 1))
    layer.set_weights([*layer.get_weights()[:4], np.ones((1, 1, 1, 1))])
    x = np.array([1.0, 2.0, 3.0, 6.0], "float32").reshape(1, 2, 2, 1)
    np.testing.assert_allclose(layer(x), [[[[3.0]]]], rtol=1e-4)  # BN is the identity


@pytest.mark.parametrize(
    "layer",
    [
        kd.layers.BatchNorm(),
        kd.layers.DenseLayer(4, dropout_rate=0.1),
        kd.layers.DenseLayer(4, False),
        kd.layers.DenseLayer(4, bn_size=2),
        kd.layers.DenseBlock(2, 4, bottleneck=False, dropout_rate=0.1),
        kd.layers.DenseBlock(2, 4, bn_size=3),
        kd.layers.DenseBlock(2, 4, dilation_rate=2),
        kd.layers.Transition(0.75),
        kd.layers.Transition(0.5, strides=1, dilation_rate=2),
        kd.layers.Transition(1.0, pooling="max"),
        kd.layers.ChannelSlice(2, 5),
        kd.layers.ChannelSlice(4),
    ],
    ids=lambda layer: layer.name,
)
def test_a_layer_is_made_again_from_its_config(layer):
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    x = pictures(2, 8, 8, 6)
    assert layer(x).shape == again(x).shape == layer.compute_output_shape(x.shape)


@pytest.mark.parametrize(
    ("policy", "tolerance"),
    [("mixed_bfloat16", 2e-2), ("mixed_float16", 3e-3), ("float64", 1e-5)],
)
def test_precisions_agree_with_float32(policy, tolerance):
    x = pictures(8, 8, 8, 6)
    full = kd.layers.DenseBlock(3, 4)
    other = kd.layers.DenseBlock(3, 4, dtype=policy)
    for block in (full, other):
        block.build(x.shape)
    other.set_weights(full.get_weights())
    expected, y = full(x, training=True), other(x, training=True)
    assert y.dtype == other.compute_dtype
    error = np.abs(ops.cast(y, "float32") - expected).max() / np.abs(expected).max()
    assert (
        error < {"mixed_bfloat16": 2e-2, "mixed_float16": 3e-3, "float64": 1e-5}[policy]
    )
    statistics = other.dense_layers[0].bottleneck_bn.moving_mean
    assert statistics.dtype == ("float64" if policy == "float64" else "float32")
    np.testing.assert_allclose(
        statistics, full.dense_layers[0].bottleneck_bn.moving_mean, rtol=1e-2, atol=1e-4
    )


def bottleneck_shapes(block):
    block.build((None, 8, 8, 6))
    return [layer.bottleneck_conv.kernel.shape for layer in block.dense_layers]


@pytest.mark.parametrize("mode", [False, True, "full"])
def test_a_bottleneck_makes_bn_size_times_k_maps(mode):
    block = kd.layers.DenseBlock(2, 4, bn_size=3, memory_efficient=mode)
    # Of 6 maps, then of 6 + 4, to 3 times 4.
    assert bottleneck_shapes(block) == [(1, 1, 6, 12), (1, 1, 10, 12)]


def test_a_config_from_before_there_was_a_bn_size_has_bottlenecks_of_4k_maps():
    config = kd.layers.DenseBlock(2, 4).get_config()
    del config["bn_size"]
    block = kd.layers.DenseBlock.from_config(config)
    assert bottleneck_shapes(block) == [(1, 1, 6, 16), (1, 1, 10, 16)]


def test_dropout_drops_in_training_only():
    layer = kd.layers.DenseLayer(8, dropout_rate=0.5)
    x = pictures(4, 8, 8, 6)
    assert np.mean(layer(x, training=True) == 0.0) == pytest.approx(0.5, abs=0.05)
    assert np.mean(layer(x, training=False) == 0.0) < 0.01


def test_he_normal_by_fan_out():
    kernel = kd.layers.he_convolution(64, 3)
    kernel.build((None, 8, 8, 32))
    # sqrt(2 / (3 * 3 * 64)) = 0.0589
    assert np.std(kernel.kernel) == pytest.approx(0.0589, rel=0.02)
    assert not kernel.use_bias


def test_channels_first_is_refused_on_tensorflow():
    with pytest.raises(ValueError, match="channels_last"):
        kd.layers.DenseBlock(2, 4, data_format="channels_first")


def test_layers_compile_with_xla():
    block = kd.layers.DenseBlock(2, 4)
    x = tf.constant(pictures(4, 8, 8, 3))
    block.build(x.shape)
    expected = block(x)
    compiled = tf.function(lambda x: block(x), jit_compile=True)
    np.testing.assert_allclose(compiled(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 1, "strides": 2},
        {"kernel_size": 1, "activation": "relu"},
        {"kernel_size": 2},
        {"kernel_size": 3},
        {"kernel_size": 3, "padding": "valid"},
        {"kernel_size": 3, "strides": 2},
        {"kernel_size": 3, "dilation_rate": 2},
        {"kernel_size": 3, "activation": "relu"},
    ],
)
def test_he_convolution_is_a_convolution(options):
    """Value and gradient are those of Keras's layer, whatever the arguments."""
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 8, 8, 5)), tf.float32)
    ours = kd.layers.he_convolution(8, **options)
    keras_s = keras.layers.Conv2D(8, use_bias=False, **{"padding": "same", **options})
    results = []
    for layer in (ours, keras_s):
        layer.build(x.shape)
        layer.set_weights(ours.get_weights())
        with tf.GradientTape() as tape:
            y = layer(x, training=True) if layer is ours else layer(x)
            loss = tf.reduce_sum(y**2)
        results.append([y, *tape.gradient(loss, layer.trainable_variables)])
    if options == {"kernel_size": 1, "strides": 2}:
        # Both are Keras's own, and oneDNN's gradient of it varies from call to call.
        results = [result[:1] for result in results]
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


# --- signals and volumes ---------------------------------------------------------

SIDES = {1: (12,), 3: (4, 2, 6)}


@pytest.mark.parametrize("rank", SIDES)
@pytest.mark.parametrize("training", [True, False])
def test_a_block_of_any_rank_is_a_block_of_keras_batch_norms(rank, training):
    block = kd.layers.DenseBlock(2, 4)
    x = tf.Variable(pictures(4, *SIDES[rank], 5))
    block.build(x.shape)
    kernels = [layer.conv.kernel for layer in block.dense_layers]
    assert kernels[0].shape == (*[3] * rank, 16, 4)
    weights = pictures(4, *SIDES[rank], 13)
    results = []
    for call in (block, lambda x, training: reference_block(block, x, training)):
        with tf.GradientTape() as tape:
            y = call(x, training=training)
            loss = tf.reduce_sum(y * weights)
        values = [kernel.value for kernel in kernels]
        results.append([y, *tape.gradient(loss, [x, *values])])
    for ours, expected in zip(*results, strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("rank", SIDES)
def test_a_transition_averages_two_along_each_axis(rank):
    """Of 12 steps 6 means of two, of 4x2x6 voxels 2x1x3 means of eight."""
    layer = kd.layers.Transition(1.0)
    sides = SIDES[rank]
    layer.build((None, *sides, 1))
    layer.set_weights([*layer.get_weights()[:4], np.ones((1,) * (rank + 2))])
    x = np.random.default_rng(0).uniform(1, 2, (3, *sides, 1)).astype("float32")
    pairs = [n for side in sides for n in (side // 2, 2)]
    expected = x.reshape(3, *pairs, 1).mean(tuple(range(2, 2 * rank + 1, 2)))
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4)  # BN is the identity
    assert layer.compute_output_shape(x.shape) == expected.shape


@pytest.mark.parametrize("rank", SIDES)
@pytest.mark.parametrize("distance", [1, 2, 3])
def test_a_transition_without_stride_averages_neighbors(rank, distance):
    """By hand: along each axis a pixel and that so far after it, if there is one."""
    layer = kd.layers.Transition(1.0, strides=1, dilation_rate=distance)
    x = np.random.default_rng(0).uniform(1, 2, (3, *SIDES[rank], 2)).astype("float32")
    layer.build(x.shape)
    ones = np.eye(2).reshape(*(1,) * rank, 2, 2)
    layer.set_weights([*layer.get_weights()[:4], ones])  # BN is the identity
    expected = np.empty_like(x)
    for place in np.ndindex(x.shape[1:-1]):
        both = [
            sorted({n, n + distance if n + distance < side else n})
            for n, side in zip(place, x.shape[1:-1], strict=True)
        ]
        pixels = [x[:, *pixel] for pixel in itertools.product(*both)]
        expected[:, *place] = np.mean(pixels, axis=0)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4)
    assert layer.compute_output_shape(x.shape) == x.shape


@pytest.mark.parametrize("rank", SIDES)
@pytest.mark.parametrize("training", [True, False])
def test_a_transition_down_takes_the_largest(rank, training):
    """BN-ReLU-1x1 convolution, and then the largest of two along each axis."""
    layer = kd.layers.Transition(0.5, pooling="max")
    sides = SIDES[rank]
    x = pictures(3, *sides, 4)
    layer.build(x.shape)
    h = ops.relu(keras_batch_norm(layer.bn, len(x.shape))(x, training=training))
    mixed = np.asarray(h) @ np.asarray(layer.conv.kernel).reshape(4, 2)
    pairs = [n for side in sides for n in (side // 2, 2)]
    largest = mixed.reshape(3, *pairs, 2).max(tuple(range(2, 2 * rank + 1, 2)))
    found = layer(x, training=training)
    np.testing.assert_allclose(found, largest, rtol=1e-4, atol=1e-4)
    assert layer.compute_output_shape(x.shape) == largest.shape


@pytest.mark.parametrize(
    "make",
    [kd.layers.DenseLayer, kd.layers.DenseBlock, kd.layers.Transition],
)
def test_dilation_and_initializers_that_there_are_not(make):
    numbers = {kd.layers.DenseLayer: (4,), kd.layers.DenseBlock: (2, 4)}.get(make, ())
    with pytest.raises(ValueError, match="dilation_rate=0"):
        make(*numbers, dilation_rate=0)
    with pytest.raises(ValueError, match="is the name of"):
        make(*numbers, kernel_initializer=keras.initializers.HeUniform())
    with pytest.raises(ValueError, match="he_triangular"):
        make(*numbers, kernel_initializer="he_triangular")


def test_he_uniform_by_fan_in():
    """Uniform in +-sqrt(6 / fan-in), whose variance is 2 / fan-in."""
    block = kd.layers.DenseBlock(2, 16, kernel_initializer="he_uniform")
    block.build((None, 8, 8, 64))
    first, second = (layer.conv.kernel.numpy() for layer in block.dense_layers)
    assert np.abs(first).max() <= np.sqrt(6 / (9 * 64))
    assert np.var(first) == pytest.approx(2 / (9 * 64), rel=0.05)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pooling": "min"}, "'avg', as in DenseNet, or 'max'"),
        ({"strides": 3}, "strides must be 2"),
        ({"strides": 1, "pooling": "max"}, "leave strides out"),
        ({"dilation_rate": 2}, "give strides=1"),
    ],
)
def test_pooling_that_there_is_not(arguments, words):
    with pytest.raises(ValueError, match=words):
        kd.layers.Transition(**arguments)


@pytest.mark.parametrize("rank", SIDES)
@pytest.mark.parametrize("growth_rate", [4, 16])  # by another kernel each
def test_a_dilated_layer_is_keras_dilated_convolution(rank, growth_rate):
    layer = kd.layers.DenseLayer(growth_rate, False, dilation_rate=2)
    x = tf.constant(pictures(2, *SIDES[rank], 5))
    layer.build(x.shape)
    keras_s = getattr(keras.layers, f"Conv{rank}D")(
        growth_rate, 3, padding="same", use_bias=False, dilation_rate=2
    )
    keras_s.build(x.shape)
    keras_s.set_weights(layer.conv.get_weights())
    bn = keras_batch_norm(layer.bn, len(x.shape))
    results = []
    for call, kernel in (
        (layer, layer.conv.kernel),
        (
            lambda x, training: keras_s(ops.relu(bn(x, training=training))),
            keras_s.kernel,
        ),
    ):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = call(x, training=True)
            loss = tf.reduce_sum(y**2)
        results.append([y, *tape.gradient(loss, [x, kernel.value])])
    for one, other in zip(*results, strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * scale)


def test_upsampled_maps_are_cut_to_the_others():
    layer = kd.layers.SkipConnection()
    upsampled, maps = pictures(2, 7, 9, 3), pictures(2, 6, 9, 2)
    y = layer([upsampled, maps])
    np.testing.assert_array_equal(y[..., :3], upsampled[:, :6])
    np.testing.assert_array_equal(y[..., 3:], maps)
    assert layer.compute_output_shape([upsampled.shape, maps.shape]) == y.shape
    again = type(layer).from_config(layer.get_config())
    np.testing.assert_array_equal(again([upsampled, maps]), y)


@pytest.mark.parametrize("rank", SIDES)
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_a_convolution_of_any_rank_is_keras_own(rank, kernel_size):
    x = tf.constant(pictures(2, *SIDES[rank], 5))
    ours = kd.layers.he_convolution(8, kernel_size, rank=rank)
    keras_s = getattr(keras.layers, f"Conv{rank}D")(
        8, kernel_size, padding="same", use_bias=False
    )
    results = []
    for layer in (ours, keras_s):
        layer.build(x.shape)
        layer.set_weights(ours.get_weights())
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(y**2)
        results.append([y, *tape.gradient(loss, [x, *layer.trainable_variables])])
    for one, other in zip(*results, strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5 * scale)


def test_he_normal_by_fan_out_counts_all_axes():
    """The variance is 2 / (3^3 * 64) in three dimensions, 2 / (3 * 64) in one."""
    for rank, values in ((1, 3), (3, 27)):
        layer = kd.layers.he_convolution(64, 3, rank=rank)
        layer.build((None, *[8] * rank, 64))
        variance = np.var(layer.kernel.numpy())
        assert variance == pytest.approx(2 / (values * 64), rel=0.05)


def test_volumes_are_pooled_in_float64_and_16_bits_as_in_float32():
    """TensorFlow's kernels have float32 alone; the windows are NumPy's by hand."""
    x = np.random.default_rng(0).normal(size=(2, 7, 6, 5, 3))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3, 3), (1, 2, 3))
    largest = windows.max((-3, -2, -1))[:, ::2, ::2, ::2]
    np.testing.assert_array_equal(max_pool(x, "channels_last", 3), largest)
    means = x[:, :6, :, :4].reshape(2, 3, 2, 3, 2, 2, 2, 3).mean((2, 4, 6))
    transition = kd.layers.Transition(dtype="float64")
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-6), ("float16", 2e-3)):
        found = transition.pool(tf.constant(x, dtype))
        np.testing.assert_allclose(found, means, rtol=0, atol=tolerance)
