"""Our networks against `keras.applications`', with the same weights.

The weights pass from one to the other in `get_weights()`'s own order, so they are the
same, layer by layer. Keras's BN is set to the paper's epsilon and momentum: it builds
with 1.001e-5 and 0.99.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_densenet as kd

NETWORKS = [  # the deeper ones differ by a number alone, and take minutes
    "DenseNet121",
    pytest.param("DenseNet169", marks=pytest.mark.slow),
    pytest.param("DenseNet201", marks=pytest.mark.slow),
]
SHAPE = (64, 64, 3)
CLASSES = 10


def make_pair(network, policy, mean_of_beta):
    """Our network and Keras's, with the same random weights and statistics."""
    keras.config.set_dtype_policy(policy)
    theirs = getattr(keras.applications, network)(
        weights=None, input_shape=SHAPE, classes=CLASSES, classifier_activation=None
    )
    ours = getattr(kd, network)(
        classes=CLASSES, input_shape=SHAPE, classifier_activation=None
    )
    keras.config.set_dtype_policy("float32")
    for layer in theirs.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon, layer.momentum = 1e-5, 0.9
    rng = np.random.default_rng(0)
    theirs.set_weights([random_weight(w, rng, mean_of_beta) for w in theirs.weights])
    ours.set_weights(theirs.get_weights())
    return ours, theirs


def random_weight(weight, rng, mean_of_beta):
    kind = weight.path.rsplit("/", 1)[-1]
    if kind in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 1.5, weight.shape)
    if kind == "beta":
        return rng.normal(mean_of_beta, 0.2, weight.shape)
    if kind in ("moving_mean", "bias"):
        return rng.normal(0.0, 0.2, weight.shape)
    fan_in = np.prod(weight.shape[:-1])  # a kernel: He-normal
    return rng.normal(0.0, np.sqrt(2.0 / fan_in), weight.shape)


def training_step(model, images, labels):
    """Give the loss, the gradients and the moving statistics after one step."""
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with tf.GradientTape() as tape:
        loss = loss_of(labels, model(images, training=True))
    gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
    return loss, flat(gradients), flat(w.numpy() for w in model.non_trainable_weights)


def flat(arrays):
    return np.concatenate([np.ravel(array) for array in arrays])


def relative_error(ours, expected):
    difference = np.asarray(ours) - np.asarray(expected)
    return np.linalg.norm(difference) / np.linalg.norm(expected)


@pytest.mark.parametrize("network", NETWORKS)
def test_inference_gives_the_same_logits(network):
    ours, theirs = make_pair(network, "float32", mean_of_beta=0.0)
    images = np.random.default_rng(1).normal(size=(4, *SHAPE)).astype("float32")
    expected = theirs(images, training=False)
    assert np.std(expected, axis=0).max() > 0.1  # the answers differ from each other
    assert relative_error(ours(images, training=False), expected) < 1e-5


# In float32 a pre-activation near zero may fall on either side of the ReLU, and each of
# the two networks is 1e-2 from the true gradient (measured against float64, at 64x64).
# So the fused float32 kernels are compared where ReLUs are away from their bend, and
# the networks with bends in float64, where the agreement is to rounding.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "mean_of_beta", "tolerance"),
    [("float32", 8.0, 1e-4), ("float64", 0.0, 1e-9)],
)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_training_step_is_the_same(network, policy, mean_of_beta, tolerance):
    pair = make_pair(network, policy, mean_of_beta)
    rng = np.random.default_rng(2)
    images = rng.normal(size=(4, *SHAPE)).astype(policy)
    labels = rng.integers(0, CLASSES, 4)
    results = [training_step(model, images, labels) for model in pair]
    for ours, expected in zip(*results, strict=True):
        assert relative_error(ours, expected) < tolerance
