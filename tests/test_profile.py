"""What networks cost, against numbers of others and by hand."""

import keras
import pytest

import keras_densenet as kd
from keras_densenet.analysis import profile


@pytest.mark.parametrize(
    ("network", "giga"),
    [  # torchvision's "GFLOPS" (multiply-adds) of its weights' meta data
        (kd.DenseNet121, 2.834),
        (kd.DenseNet161, 7.728),
        (kd.DenseNet169, 3.36),
        (kd.DenseNet201, 4.291),
    ],
)
def test_multiply_adds_are_torchvisions(network, giga):
    assert profile(network(weights=None)).multiply_adds / 1e9 == pytest.approx(
        giga, abs=0.001
    )


def test_parameters():
    costs = profile(kd.DenseNetBC(100, 12))
    assert costs.trainable_parameters == 769_162
    assert sum(layer.parameters for layer in costs.layers) == costs.parameters


@pytest.mark.parametrize(
    ("make", "measured"),
    [  # MB a picture by benchmarks/memory.py, float32: plain, True, "full"
        (lambda: kd.DenseNetBC(100, 12), (37.6, 9.4, 4.9)),
        (lambda: kd.DenseNetBC(190, 40), (373.7, 65.2, 27.3)),
        (lambda: kd.DenseNet264k48(weights=None), (399.4, 78.7, 43.5)),
    ],
)
def test_memory_is_within_a_quarter_of_what_was_measured(make, measured):
    costs = profile(make())
    for mode, expected in zip((False, True, "full"), measured, strict=True):
        assert costs.training_bytes(mode) / 1e6 == pytest.approx(expected, rel=0.25)


def test_keras_layers_by_hand():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, padding="same", strides=2),  # 4 4 (3 3 3 4)
            keras.layers.DepthwiseConv2D(3, padding="same"),  # 4 4 (3 3 4)
            keras.layers.Conv2DTranspose(2, 2, strides=2),  # of 4 4: (2 2 2 4)
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(5),  # (8 8 2) 5
        ]
    )
    assert [layer.multiply_adds for layer in profile(model).layers] == [
        *(16 * 108, 16 * 36, 16 * 32),
        *(0, 0, 640),
    ]


def test_a_model_inside_a_model_costs_what_it_costs_alone():
    inner = kd.DenseNetBC(10, 4)
    outer = keras.Sequential([keras.Input((32, 32, 3)), inner, keras.layers.Dense(2)])
    assert profile(outer).multiply_adds == profile(inner).multiply_adds + 10 * 2
    inside, alone = profile(outer).training_bytes(False), profile(inner)
    # Its input, and what the new layer gives, are there besides.
    assert inside == alone.training_bytes(False) + 4 * 2


@pytest.mark.parametrize("layer", [keras.layers.LSTM(4), keras.layers.GRU(4)])
def test_what_nobody_knows_is_unknown(layer):
    model = keras.Sequential([keras.Input((5, 3)), layer])
    assert profile(model).multiply_adds is None


def test_mixed_precision_takes_half():
    plain = profile(kd.DenseNetBC(10, 4)).training_bytes(False)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = profile(kd.DenseNetBC(10, 4)).training_bytes(False)
    finally:
        keras.config.set_dtype_policy("float32")
    assert 2 * mixed == plain


def test_a_free_size_is_refused():
    with pytest.raises(ValueError, match="numbers alone"):
        profile(kd.DenseNetBC(10, 4, input_shape=(None, None, 3)))
