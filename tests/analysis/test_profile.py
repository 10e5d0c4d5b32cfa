"""What networks cost, against published numbers and numbers worked out by hand."""

import keras
import pytest

import keras_densenet as kd
from keras_densenet.analysis import profile


@pytest.mark.parametrize(
    ("network", "giga"),
    [  # "GFLOPS" (multiply-adds) in the metadata of torchvision's weights
        (kd.DenseNet121, 2.834),
        pytest.param(kd.DenseNet161, 7.728, marks=pytest.mark.slow),
        pytest.param(kd.DenseNet169, 3.36, marks=pytest.mark.slow),
        pytest.param(kd.DenseNet201, 4.291, marks=pytest.mark.slow),
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
    [  # MB a picture by benchmarks/memory.py, float32: False, True, "full"
        (lambda: kd.DenseNetBC(100, 12), (37.6, 9.4, 4.9)),
        pytest.param(
            lambda: kd.DenseNetBC(190, 40),
            (373.7, 65.2, 27.3),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda: kd.DenseNet264k48(weights=None),
            (399.4, 78.7, 43.5),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_memory_is_within_a_quarter_of_what_was_measured(make, measured):
    costs = profile(make())
    for mode, expected in zip((False, True, "full"), measured, strict=True):
        assert costs.training_bytes(mode) / 1e6 == pytest.approx(expected, rel=0.25)


def by_hand():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            keras.layers.Conv2D(2, 3, use_bias=False),  # 2 x 2 x 2 of 54 weights
            keras.layers.Flatten(),
            keras.layers.Dense(5),  # 8 x 5 weights and 5 biases
        ]
    )
    return profile(model, batch_size=10)


def test_memory_of_a_batch_by_hand():
    costs = by_hand()
    # Kept: 8, 8 and 5 values; passing by: 2 times 8 of the widest layer.
    assert costs.training_bytes(False) == 4 * (21 + 16)
    assert costs.weight_bytes == 4 * 3 * (54 + 45)
    assert costs.training_peak(False) == 1188 + 10 * 148
    assert costs.largest_batch(1188 + 7 * 148) == 7
    assert costs.largest_batch(1188 + 7 * 148 - 1, "full") == 6
    assert costs.largest_batch(1000) == 0


def test_costs_as_arrays_and_as_a_table():
    costs = by_hand()
    arrays = costs.arrays()
    assert arrays["parameters"].tolist() == [54, 0, 45]
    assert arrays["multiply_adds"].tolist() == [216, 0, 40]
    assert arrays["stored_full"].tolist() == [320, 320, 200]
    header, *rows = str(costs).splitlines()[1:]
    assert header.split() == ["layer", "parameters", "multiply-adds", *MODES]
    assert [row.split()[1:] for row in rows[:2]] == [
        ["54", "216", "0.0", "0.0", "0.0"],
        ["0", "0", "0.0", "0.0", "0.0"],
    ]
    assert rows[3].split() == ["whole", "99", "256", "0.0", "0.0", "0.0"]
    with pytest.raises(ValueError, match="batch_size must be 1"):
        profile(kd.DenseNetBC(10, 4), 0)


MODES = ("False", "True", "full")


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


SIXTEEN_PLACES = pytest.mark.parametrize("size", [(16,), (4, 4), (4, 2, 2)])


@SIXTEEN_PLACES
@pytest.mark.parametrize(
    ("bn_size", "widest"),
    [
        (2, 5 + 2 * 3),  # all maps: more than the bottleneck's 6
        (8, 8 * 3),  # the bottleneck's
    ],
)
def test_a_block_of_other_bottlenecks_by_hand(size, bn_size, widest):
    """Two layers of 3 maps on 16 pixels: they read 5 and 8 maps."""
    block = kd.layers.DenseBlock(2, 3, bn_size=bn_size)
    pictures = keras.Input((*size, 5))
    costs = profile(keras.Model(pictures, block(pictures))).layers[1]
    b, taps = bn_size * 3, 3 ** len(size)
    kernels = (5 * b + taps * b * 3) + (8 * b + taps * b * 3)
    assert costs.multiply_adds == 16 * kernels
    # What is read and the bottleneck, as they are and normalized; the new maps.
    assert costs.stored[False] == 16 * ((10 + 2 * b + 3) + (16 + 2 * b + 3))
    assert costs.stored[True] == 16 * 2 * (b + 3)
    assert costs.stored["full"] == 16 * 2 * 3
    # The gradient of all 11 maps; of the widest themselves, normalized, gradient.
    assert costs.passing == 16 * (11 + 3 * widest)


@SIXTEEN_PLACES
def test_a_transition_by_hand(size):
    """It mixes 6 maps to 3 and leaves a half, a quarter or an eighth of 16 pixels."""
    pictures = keras.Input((*size, 6))
    transition = kd.layers.Transition(0.5)
    costs = profile(keras.Model(pictures, transition(pictures))).layers[1]
    pooled = {1: 8, 2: 4, 3: 2}[len(size)]
    assert costs.multiply_adds == 16 * 6 * 3
    assert costs.stored[True] == 3 * pooled
    assert costs.stored[False] == 3 * pooled + 6 * (16 + pooled)
    assert costs.passing == 3 * 6 * 16


@pytest.mark.parametrize(
    ("model", "multiply_adds"),
    [  # of the stem, block by block with transitions between, and the classifier
        (
            lambda: kd.DenseNet(blocks=(2,), growth_rate=4, input_shape=(8, 8, 3)),
            64 * 27 * 16 + 64 * 9 * (16 + 20) * 4 + 24 * 10,
        ),
        (  # bottlenecks of 8 maps; 8 maps from the stem, 12 halved, 6 and 10 read
            lambda: kd.DenseNetBC(
                None, 4, blocks=(1, 2), bn_size=2, input_shape=(8, 8, 3)
            ),
            64 * 27 * 8
            + 64 * (8 * 8 + 9 * 8 * 4)
            + 64 * 12 * 6
            + 16 * ((6 * 8 + 9 * 8 * 4) + (10 * 8 + 9 * 8 * 4))
            + 14 * 10,
        ),
        (
            lambda: kd.DenseNet(
                blocks=(1,) * 5, growth_rate=4, input_shape=(16, 16, 3)
            ),
            256 * 27 * 16
            + (256 * 9 * 16 * 4 + 256 * 20 * 20)
            + (64 * 9 * 20 * 4 + 64 * 24 * 24)
            + (16 * 9 * 24 * 4 + 16 * 28 * 28)
            + (4 * 9 * 28 * 4 + 4 * 32 * 32)
            + 1 * 9 * 32 * 4
            + 36 * 10,
        ),
        (  # signals: kernels of 3
            lambda: kd.DenseNet(blocks=(2,), growth_rate=4, input_shape=(8, 3)),
            8 * 3 * 3 * 16 + 8 * 3 * (16 + 20) * 4 + 24 * 10,
        ),
        (  # volumes: kernels of 27, an eighth of the pixels after the transition
            lambda: kd.DenseNetBC(
                None, 4, blocks=(1, 2), bn_size=2, input_shape=(4, 4, 4, 1)
            ),
            64 * 27 * 1 * 8
            + 64 * (8 * 8 + 27 * 8 * 4)
            + 64 * 12 * 6
            + 8 * ((6 * 8 + 27 * 8 * 4) + (10 * 8 + 27 * 8 * 4))
            + 14 * 10,
        ),
    ],
    ids=["1 block", "2 blocks", "5 blocks", "signals", "volumes"],
)
def test_multiply_adds_of_own_blocks_by_hand(model, multiply_adds):
    assert profile(model()).multiply_adds == multiply_adds


def test_a_model_inside_a_model_costs_what_it_costs_alone():
    inner = kd.DenseNetBC(10, 4)
    outer = keras.Sequential([keras.Input((32, 32, 3)), inner, keras.layers.Dense(2)])
    assert profile(outer).multiply_adds == profile(inner).multiply_adds + 10 * 2
    inside, alone = profile(outer).training_bytes(False), profile(inner)
    # The outer model's input, and the output of its last layer, come on top.
    assert inside == alone.training_bytes(False) + 4 * 2


@pytest.mark.parametrize("layer", [keras.layers.LSTM(4), keras.layers.GRU(4)])
def test_the_costs_of_another_layer_are_unknown(layer):
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
