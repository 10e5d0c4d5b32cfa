"""Weights of pictures in a network for volumes, by I3D's rule."""

import numpy as np
import pytest

import keras_densenet as kd
from keras_densenet.weights import WeightsError

SMALL = {"blocks": (2, 2), "growth_rate": 4, "bottleneck": True, "classes": 3}


def network(*sizes, **options):
    shape = (*sizes, 2)
    return kd.DenseNet(
        **SMALL, input_shape=shape, classifier_activation=None, **options
    )


def test_kernels_are_repeated_along_the_depth_and_divided():
    pictures, volumes = network(8, 8), network(8, 8, 8)
    kd.weights.load(volumes, pictures, inflate=True)
    flat, deep = (m.get_layer("stem_conv").kernel.numpy() for m in (pictures, volumes))
    assert deep.shape == (3, 3, 3, 2, 16)
    for slice_ in deep:
        np.testing.assert_allclose(slice_, flat / 3, rtol=1e-6)
    flat, deep = (m.get_layer("classifier").kernel for m in (pictures, volumes))
    np.testing.assert_array_equal(flat, deep)


def test_a_volume_of_one_picture_is_answered_as_the_picture():
    """Where nothing is padded: the middle of maps that padding has not reached.

    With one dense layer of 3x3 two slices at each end are reached; a depth of 16, of
    which the last block sees 8, has means of maps whose middle is the picture's.
    """
    options = {"include_top": False, "stem": "small"}
    shallow = {"blocks": (1,), "growth_rate": 4, "bottleneck": True}
    pictures = kd.DenseNet(**shallow, input_shape=(8, 8, 1), **options)
    volumes = kd.DenseNet(**shallow, input_shape=(9, 8, 8, 1), **options)
    kd.weights.load(volumes, pictures, inflate=True)
    picture = np.random.default_rng(0).normal(size=(1, 8, 8, 1)).astype("float32")
    volume = np.repeat(picture[:, np.newaxis], 9, axis=1)
    expected = pictures(picture, training=False)
    found = volumes(volume, training=False)[:, 4]  # two slices from what is padded
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_cannot_be_inflated_is_refused():
    volumes = network(8, 8, 8)
    with pytest.raises(WeightsError, match="with inflate=True"):
        kd.weights.load(volumes, network(8, 8))
    with pytest.raises(WeightsError, match="these are others"):
        kd.weights.load(volumes, network(8, 8, 8), inflate=True)
    with pytest.raises(WeightsError, match="another shape"):
        kd.weights.load(network(8), network(8, 8))
    for sizes, kind in (((8, 8), "pictures"), ((8,), "signals")):
        with pytest.raises(WeightsError, match=f"a network of {kind}: leave it out"):
            kd.weights.load(network(*sizes), network(8, 8), inflate=True)
