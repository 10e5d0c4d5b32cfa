"""A first convolution for pictures of other channels, as timm adapts it."""

import hashlib

import numpy as np
import pytest
import pytorch_answers as pytorch

import keras_densenet as kd
from keras_densenet.weights.channels import adapted_kernel
from keras_densenet.weights.names import from_pytorch, to_pytorch, weights_by_name

# SHA-256 of what timm 1.0's `adapt_input_conv(channels, kernel)` returns, float32, for
# the kernel below.
OF_TIMM = {
    1: "d6de646d19c1b966acd78e19346b076569930a6ae8a37ca2415813faf1d33910",
    2: "47c8afaae1825f9b448d7a552a22ba28ffb4a51341ce615b1b71ae5ac74f6abf",
    4: "461954bbea3de759a1be14bf134f4e0ee73399f23e31f1ba346526208f3bb184",
    12: "db7fae0b2795a8b43e4aa97355b69586daaef5687e70f6467fbc24aa9d475836",
}


@pytest.mark.parametrize("channels", OF_TIMM)
def test_the_kernel_is_timms_to_the_bit(channels):
    kernel = np.random.default_rng(0).normal(size=(64, 3, 7, 7)).astype("float32")
    adapted = to_pytorch(adapted_kernel(from_pytorch(kernel), channels))
    assert adapted.shape == (64, channels, 7, 7)
    raw = np.ascontiguousarray(adapted).tobytes()
    assert hashlib.sha256(raw).hexdigest() == OF_TIMM[channels]


def network(channels, **options):
    shape = {"depth": 10, "growth_rate": 4, "input_shape": (8, 8, channels)}
    return kd.DenseNetBC(**shape, **options)


def weights(model):
    return {w.name: pytorch.weight(w.name, w.shape) for w in weights_by_name(model)}


def gray():
    return np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")


@pytest.mark.parametrize(("before", "after"), [(3, 1), (1, 3), (3, 12), (2, 1), (1, 4)])
def test_equal_channels_are_answered_as_before(before, after, capsys):
    """A gray picture as one channel, or as three equal ones, is the same picture."""
    source, adapted = network(before), network(after)
    kd.weights.load(source, weights(source))
    capsys.readouterr()
    loaded = kd.weights.load(adapted, source)
    assert loaded.channels == (before, after)
    said = capsys.readouterr().err
    assert f"made for {after} channel{'s' * (after > 1)} instead of {before}" in said
    expected = source(np.repeat(gray(), before, axis=-1))
    found = adapted(np.repeat(gray(), after, axis=-1))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_half_precision_is_added_up_as_timm_does():
    """In float32, rounded once: in float16 2048 + 1 + 1 is 2048."""
    kernel = np.array([2048, 1, 1], "float16").reshape(1, 1, 3, 1)
    assert adapted_kernel(kernel, 1).ravel().tolist() == [2050]
    assert adapted_kernel(kernel, 1).dtype == "float16"


def test_kernels_that_are_left_out_are_said(capsys):
    kd.weights.load(network(3), weights(network(4)))
    said = capsys.readouterr().err
    assert "3 channels instead of 4, of its first 3 kernels alone" in said


def test_the_same_channels_are_not_adapted(capsys):
    source, other = network(3), network(3)
    kd.weights.load(source, weights(source))
    assert kd.weights.load(other, source).channels == (3, 3)
    assert "channels" not in capsys.readouterr().err
    np.testing.assert_array_equal(source.get_weights()[0], other.get_weights()[0])
