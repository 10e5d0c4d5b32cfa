"""Gradients by depth and by reader, against differences and Keras's own gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_densenet as kd
from keras_densenet.layers import DenseBlock


@pytest.fixture
def float64():
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


def batch(n=4, size=8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, size, size, 3)), rng.integers(0, 3, n)


def relu_of_norm(x, epsilon=1e-5):
    """ReLU of a new batch norm, with scale 1 and offset 0, in NumPy."""
    pixels = x.reshape(-1, x.shape[-1])
    mean, variance = pixels.mean(0), pixels.var(0)
    return np.maximum((x - mean) / np.sqrt(variance + epsilon), 0)


def convolved(x, kernel):
    size = x.shape[1:-1]
    padded = np.pad(x, [(0, 0), *[(1, 1)] * len(size), (0, 0)])
    total = 0
    for taps in np.ndindex(*[3] * len(size)):
        window = [slice(tap, tap + n) for tap, n in zip(taps, size, strict=True)]
        total = total + padded[:, *window] @ kernel[taps]
    return total


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("size", [(16,), (4, 4), (2, 4, 2)])
def test_shares_are_those_of_differences(size):
    """One block of two layers; each reader's copy of each source is changed by hand."""
    pictures = keras.Input((*size, 2))
    block = DenseBlock(2, 3, bottleneck=False)
    model = keras.Model(pictures, block(pictures))
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, *size, 2))
    weights = rng.normal(size=(2, *size, 8))
    first, second = (layer.conv.kernel.numpy() for layer in block.dense_layers)

    def value(x_of_1=images, x_of_2=images, x_of_end=images, for_2=0.0, for_end=0.0):
        new = convolved(relu_of_norm(x_of_1), first)
        read = np.concatenate([x_of_2, new + for_2], -1)
        last = convolved(relu_of_norm(read), second)
        return (weights * np.concatenate([x_of_end, new + for_end, last], -1)).sum()

    def differences(shape, change):
        gradient, step = np.zeros(shape), 1e-5
        for place in np.ndindex(*shape):
            delta = np.zeros(shape)
            delta[place] = step
            gradient[place] = (change(delta) - change(-delta)) / (2 * step)
        return gradient.ravel()

    of_input = [
        differences(images.shape, lambda d, name=name: value(**{name: images + d}))
        for name in ("x_of_1", "x_of_2", "x_of_end")
    ]
    of_first = [
        differences((2, *size, 3), lambda d, name=name: value(**{name: d}))
        for name in ("for_2", "for_end")
    ]
    expected = [
        [part @ sum(parts) / (sum(parts) @ sum(parts)) for part in parts]
        for parts in (of_input, of_first)
    ]
    flow = kd.analysis.gradient_flow(
        model, (images, np.zeros(2)), lambda _, maps: tf.reduce_sum(weights * maps)
    )
    (shares,) = flow.shares
    np.testing.assert_allclose(shares[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(shares[1, 1:], expected[1], rtol=1e-5)
    assert shares[2, 2] == pytest.approx(1)
    assert np.isnan(shares[1, 0])
    assert np.isnan(shares[2, :2]).all()


@pytest.mark.parametrize("memory_efficient", [False, "full"])
def test_norms_are_those_of_a_training_step(memory_efficient):
    model = kd.DenseNetBC(
        16, 4, classes=3, input_shape=(8, 8, 3), memory_efficient=memory_efficient
    )
    images, labels = batch()
    before = model.get_weights()
    flow = kd.analysis.gradient_flow(model, (images, labels))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)  # moving statistics, too
    with tf.GradientTape() as tape:
        loss = keras.losses.SparseCategoricalCrossentropy()(
            labels, model(images, training=True)
        )
    kernels = [w for w in model.trainable_weights if len(w.shape) > 1]
    gradients = tape.gradient(loss, [kernel.value for kernel in kernels])
    assert (
        len(flow.layers) == 1 + 3 * 4 + 2 + 1
    )  # stem, blocks, transitions, classifier
    assert flow.layers[0] == "stem_conv"
    assert flow.layers[-1] == "classifier"
    np.testing.assert_allclose(
        flow.norms, [float(tf.norm(g)) for g in gradients], rtol=1e-4
    )
    for matrix in flow.shares:
        np.testing.assert_allclose(np.nansum(matrix, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("input_shape", [(8, 1), (4, 4, 4, 1)])
def test_a_network_of_signals_or_of_volumes_as_a_whole(input_shape):
    """Each row of shares sums to 1, and the classifier's gradient is known by hand."""
    model = kd.DenseNetBC(16, 4, classes=3, input_shape=input_shape)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, *input_shape)).astype("float32")
    labels = rng.integers(0, 3, 4)
    flow = kd.analysis.gradient_flow(model, (images, labels))
    assert len(flow.layers) == 1 + 3 * 4 + 2 + 1
    for matrix in flow.shares:
        assert matrix.shape == (3, 3)
        np.testing.assert_allclose(np.nansum(matrix, axis=1), 1, rtol=1e-5)
    read = keras.Model(model.input, model.get_layer("classifier").input)
    wrong = model(images, training=True) - np.eye(3)[labels]
    by_hand = np.asarray(read(images, training=True)).T @ np.asarray(wrong) / 4
    assert flow.norms[-1] == pytest.approx(np.linalg.norm(by_hand), rel=1e-4)


@pytest.mark.parametrize(
    ("blocks", "layers"),
    [  # stem and classifier, two convolutions a dense layer, transitions
        ((2,), 2 + 2 * 2 + 0),
        ((1, 2), 2 + 2 * 3 + 1),
        ((1, 1, 2, 1, 1), 2 + 2 * 6 + 4),
    ],
)
def test_any_number_of_blocks(tmp_path, blocks, layers):
    shape = (16, 16, 3)
    model = kd.DenseNetBC(None, 4, classes=3, blocks=blocks, input_shape=shape)
    flow = kd.analysis.gradient_flow(model, batch(size=16))
    assert len(flow.layers) == layers
    assert [len(matrix) - 1 for matrix in flow.shares] == list(blocks)
    for matrix in flow.shares:
        np.testing.assert_allclose(np.nansum(matrix, axis=1), 1, rtol=1e-5)
    kd.analysis.plot_gradient_flow({"own": flow}, tmp_path / "flow.png")
    assert (tmp_path / "flow.png").stat().st_size > 10_000


def test_a_network_without_blocks_has_norms_alone():
    pictures = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="first")(pictures)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(pictures, keras.layers.Dense(3, "softmax", name="last")(x))
    images, labels = batch()
    flow = kd.analysis.gradient_flow(model, (images, np.eye(3)[labels]))
    assert flow.layers == ["first", "last"]
    assert flow.shares == []
    assert (flow.norms > 0).all()


def test_the_picture_is_drawn(tmp_path):
    model = kd.DenseNetBC(16, 4, classes=3, input_shape=(8, 8, 3))
    flow = kd.analysis.gradient_flow(model, batch())
    kd.analysis.plot_gradient_flow(
        {"DenseNet": flow, "again": flow}, tmp_path / "a.png"
    )
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_what_cannot_be_taken_apart_is_refused():
    class Mine(keras.Model):
        pass

    with pytest.raises(ValueError, match="functional or sequential"):
        kd.analysis.gradient_flow(Mine(), batch())


@pytest.mark.parametrize(
    ("images", "labels", "says"),
    [
        (np.zeros((0, 8, 8, 3), "float32"), [], "one picture or more"),
        (np.zeros((2, 8, 8, 3), "float32"), [0], "a label for each"),
        (np.zeros((2, 8, 8, 3), "float32"), [0, 10], "has 10 classes"),
    ],
)
def test_what_no_gradient_is_taken_of(images, labels, says):
    model = kd.DenseNetBC(10, 4, input_shape=(8, 8, 3))
    with pytest.raises(ValueError, match=says):
        kd.analysis.gradient_flow(model, (images, np.array(labels, "int64")))


def test_a_model_that_is_frozen_has_none():
    model = kd.DenseNetBC(10, 4, input_shape=(8, 8, 3))
    model.trainable = False
    batch = np.zeros((2, 8, 8, 3), "float32"), np.zeros(2, "int64")
    with pytest.raises(ValueError, match="weights that are trained"):
        kd.analysis.gradient_flow(model, batch)


def test_blocks_within_a_model_are_looked_into():
    flat = kd.DenseNetBC(10, 4, classes=3, input_shape=(8, 8, 3))
    backbone = keras.Model(flat.input, flat.get_layer("final_relu").output)
    top = [keras.layers.GlobalAveragePooling2D(), flat.get_layer("classifier")]
    nested = keras.Sequential([keras.Input((8, 8, 3)), backbone, *top])
    images, labels = batch()
    right = kd.analysis.gradient_flow(flat, (images.astype("float32"), labels))
    found = kd.analysis.gradient_flow(nested, (images.astype("float32"), labels))
    np.testing.assert_allclose(found.norms, right.norms, rtol=1e-5)
    assert len(found.shares) == 3
    for one, other in zip(found.shares, right.shares, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    # Nothing is left of having looked: the block is called as before.
    assert "call" not in vars(flat.get_layer("dense_block1"))
    assert len(flat.get_layer("stem_conv")._inbound_nodes) == 1


def test_the_loss_is_of_what_the_model_gives():
    x = keras.Input((8,))
    logits = keras.Model(x, keras.layers.Dense(3)(x))
    softmax = keras.Model(x, keras.layers.Softmax()(logits.output))
    images, labels = batch()
    given = images[:, 0, :, 0].astype("float32"), labels
    norm = kd.analysis.gradient_flow(softmax, given).norms
    np.testing.assert_allclose(
        kd.analysis.gradient_flow(logits, given).norms, norm, rtol=1e-5
    )
    sigmoid = keras.Model(x, keras.layers.Activation("sigmoid")(logits.output))
    with pytest.raises(ValueError, match="the loss that it is trained with"):
        kd.analysis.gradient_flow(sigmoid, given)
    loss = keras.losses.BinaryCrossentropy()
    several = given[0], np.eye(3)[labels]
    assert kd.analysis.gradient_flow(sigmoid, several, loss).norms > 0
