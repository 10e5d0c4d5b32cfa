"""TensorFlow's fused kernels against the formulas, in float64."""

import numpy as np
import pytest
import tensorflow as tf

from keras_densenet import processor
from keras_densenet.layers import tensorflow_kernels


@pytest.fixture(params=[8, 16])
def lanes(request, monkeypatch):
    """Stand for a processor whose vectors hold so many numbers."""
    monkeypatch.setattr(processor, "vector_lanes", lambda: request.param)
    return request.param


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def with_gradients(function, arguments, weights):
    arguments = [tf.constant(argument) for argument in arguments]
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        loss = tf.reduce_sum(
            function(*arguments) * tf.cast(weights, arguments[0].dtype)
        )
    return [loss, *tape.gradient(loss, arguments)]


def assert_close(ours, expected):
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


# 5, 6, 12 channels are no multiple of 4, 8 or 16; 3x3 pixels do not group, and 4x4 do.
@pytest.mark.parametrize("channels", [5, 6, 12, 16])
@pytest.mark.parametrize("size", [(3, 3), (4, 4)])
@pytest.mark.usefixtures("lanes")
def test_normalize_with_moments(size, channels):
    def formula(x, gamma, beta, mean, variance):
        return gamma * (x - mean) / tf.sqrt(variance + 1e-3) + beta

    def kernel(*arguments):
        return tensorflow_kernels.normalize_with_moments(*arguments, 1e-3)

    shape = (2, *size, channels)
    vectors = np.abs(normal(4, channels, seed=1)) + 0.5
    arguments = [normal(*shape), *vectors]
    ours = with_gradients(kernel, [a.astype("float32") for a in arguments], 1.0)
    assert_close(ours, with_gradients(formula, arguments, 1.0))
    weights = normal(*shape, seed=2)
    ours = with_gradients(kernel, [a.astype("float32") for a in arguments], weights)
    assert_close(ours, with_gradients(formula, arguments, weights))


@pytest.mark.parametrize("channels", [5, 12, 16])
@pytest.mark.usefixtures("lanes")
def test_moments(channels):
    def weighted(moments):
        def function(x):
            mean, variance = moments(x)
            first, second = tf.cast(normal(2, channels, seed=1), x.dtype)
            return mean * first + variance * second

        return function

    x = normal(2, 4, 4, channels) + 3.0
    ours = weighted(tensorflow_kernels.moments)
    expected = weighted(lambda x: tf.nn.moments(x, [0, 1, 2]))
    assert_close(
        with_gradients(ours, [x.astype("float32")], 1.0),
        with_gradients(expected, [x], 1.0),
    )


@pytest.mark.parametrize("channels", [5, 6, 12, 16])
@pytest.mark.usefixtures("lanes")
def test_normalize_batch(channels):
    def formula(x, gamma, beta):
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        return gamma * (x - mean) / tf.sqrt(variance + 1e-3) + beta

    def kernel(*arguments):
        return tensorflow_kernels.normalize_batch(*arguments, 1e-3)[0]

    x, weights = normal(2, 4, 4, channels) + 3.0, normal(2, 4, 4, channels, seed=2)
    arguments = [x, *(np.abs(normal(2, channels, seed=1)) + 0.5)]
    ours = with_gradients(kernel, [a.astype("float32") for a in arguments], weights)
    assert_close(ours, with_gradients(formula, arguments, weights))
    _, *moments = tensorflow_kernels.normalize_batch(
        *(tf.constant(a, "float32") for a in arguments), 1e-3
    )
    assert_close(moments, [x.mean((0, 1, 2)), x.var((0, 1, 2))])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_grouped_kernels_give_what_those_of_single_pixels_do(monkeypatch, dtype):
    """Two of 216 channels are one of 432; moments are those of all pixels."""
    x = tf.cast(normal(2, 8, 8, 216) + 3.0 * normal(216, seed=1), dtype)
    vectors = tf.constant(np.abs(normal(4, 216, seed=2)) + 0.5, "float32")

    def answers(lanes):
        monkeypatch.setattr(processor, "vector_lanes", lambda: lanes)
        multiple = tensorflow_kernels._multiples().in_training
        assert tensorflow_kernels._groups(x, multiple) == lanes // 8
        moments = tensorflow_kernels.moments(x)
        y = tensorflow_kernels.normalize(x, *vectors, 1e-3, in_training=True)
        return [*moments, y]

    for grouped, single in zip(answers(16), answers(8), strict=True):
        tolerance = 1e-6 if grouped.dtype == tf.float32 else 2**-8
        scale = float(tf.reduce_max(tf.abs(single)))
        np.testing.assert_allclose(
            tf.cast(grouped, "float32"),
            tf.cast(single, "float32"),
            rtol=0,
            atol=tolerance * scale,
        )


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_narrow_convolution_is_a_convolution(kernel_size):
    arguments = [normal(2, 5, 7, 6), normal(kernel_size, kernel_size, 6, 3, seed=1)]
    weights = normal(2, 5, 7, 3, seed=2)
    assert_close(
        with_gradients(tensorflow_kernels.narrow_convolution, arguments, weights),
        with_gradients(lambda x, w: tf.nn.conv2d(x, w, 1, "SAME"), arguments, weights),
    )


def test_second_derivatives_of_the_kernels():
    # d^2/dx^2 of sum(y^2) for y = gamma (x - mean) r is 2 (gamma r)^2.
    x, vectors = normal(1, 2, 2, 8).astype("float32"), np.full((4, 8), 0.5, "float32")
    x = tf.constant(x)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = tensorflow_kernels.normalize_with_moments(x, *vectors, 1e-3)
            loss = tf.reduce_sum(y**2)
        slope = tf.reduce_sum(inner.gradient(loss, x))
    second = outer.gradient(slope, x)
    np.testing.assert_allclose(second, np.full(x.shape, 0.5 / 0.501), rtol=1e-4)
