import keras
import numpy as np
import pytest

import keras_densenet as kd
from keras_densenet import models


def parameters(model):
    """Trainable parameters, and all with BN's moving statistics."""
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    return trainable, model.count_params()


# Trainable counts are those of torchvision (121, 161, 169, 201), and derived by hand
# from Table 1 and the technical report for the others.
@pytest.mark.parametrize(
    ("network", "trainable", "total"),
    [
        ("DenseNet121", 7_978_856, 8_062_504),
        pytest.param("DenseNet169", 14_149_480, 14_307_880, marks=pytest.mark.slow),
        pytest.param("DenseNet201", 20_013_928, 20_242_984, marks=pytest.mark.slow),
        pytest.param("DenseNet264", 33_337_704, 33_736_232, marks=pytest.mark.slow),
        ("DenseNet161", 28_681_000, 28_900_936),
        pytest.param("DenseNet264k48", 72_686_632, 73_284_424, marks=pytest.mark.slow),
        pytest.param("DenseNet232k48", 55_570_984, 56_025_928, marks=pytest.mark.slow),
    ],
)
def test_imagenet_networks_have_the_golden_parameter_counts(network, trainable, total):
    assert parameters(getattr(kd, network)()) == (trainable, total)


@pytest.mark.parametrize(
    ("network", "depth", "growth_rate", "cifar10", "cifar100"),
    [
        (kd.DenseNet, 40, 12, 1_019_722, 1_060_132),
        (kd.DenseNet, 100, 12, 6_979_642, 7_084_852),
        pytest.param(
            *(kd.DenseNet, 100, 24, 27_249_082, 27_457_972), marks=pytest.mark.slow
        ),
        (kd.DenseNetBC, 100, 12, 769_162, 800_032),
        pytest.param(
            *(kd.DenseNetBC, 250, 24, 15_324_406, 15_480_556), marks=pytest.mark.slow
        ),
        pytest.param(
            *(kd.DenseNetBC, 190, 40, 25_624_430, 25_821_620), marks=pytest.mark.slow
        ),
        (kd.DenseNetBC, 40, 36, 1_542_682, 1_578_412),
        (kd.DenseNetBC, 40, 48, 2_733_130, 2_780_740),
        (kd.DenseNetBC, 40, 60, 4_261_690, 4_321_180),
    ],
)
def test_cifar_networks_have_the_golden_parameter_counts(
    network, depth, growth_rate, cifar10, cifar100
):
    for classes, trainable in ((10, cifar10), (100, cifar100)):
        assert parameters(network(depth, growth_rate, classes=classes))[0] == trainable


def test_layer_names_are_stable_and_readable():
    names = [layer.name for layer in kd.DenseNetBC(22, 12).layers]
    assert names == [
        "images",
        "stem_conv",
        "dense_block1",
        "transition1",
        "dense_block2",
        "transition2",
        "dense_block3",
        "final_bn",
        "final_relu",
        "global_average_pool",
        "classifier",
    ]
    paths = {weight.path for weight in kd.DenseNetBC(22, 12).weights}
    assert "dense_block2/layer3/bottleneck_bn/moving_mean" in paths
    assert "transition1/conv/kernel" in paths


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: kd.DenseNet(depth=41), ["3 n + 4", "40 or 43", "depth=41"]),
        (lambda: kd.DenseNetBC(depth=99), ["6 n + 4", "94 or 100", "depth=99"]),
        (lambda: kd.DenseNetBC(depth=4), ["10 (smallest)", "depth=4"]),
        (lambda: kd.DenseNetBC(compression=0.0), ["compression=0.0", "at most 1"]),
        (lambda: kd.DenseNetBC(compression=1.5), ["compression=1.5", "above 0"]),
        (lambda: kd.DenseNetBC(compression=0.001), ["none of 216 feature maps"]),
        (lambda: kd.DenseNet(growth_rate=0), ["growth_rate=0", "1 or more"]),
        (lambda: kd.DenseNet(input_shape=(3, 3, 3)), ["4x4 or larger"]),
        (lambda: kd.DenseNet121(input_shape=(28, 64, 3)), ["29x29", "(28, 64, 3)"]),
        (lambda: kd.DenseNet121(input_shape=(64, 64)), ["three entries"]),
        (lambda: kd.DenseNet(classes=0), ["classes=0"]),
        (lambda: kd.DenseNet121(classes=-1), ["classes=-1"]),
        (lambda: kd.DenseNet(memory_efficient="half"), ["'full'", "'half'"]),
        (lambda: kd.DenseNet121(memory_efficient="all"), ["'full'", "'all'"]),
        (lambda: kd.DenseNet121(pooling="min"), ["pooling='min'"]),
        (lambda: kd.layers.DenseBlock(0, 12), ["num_layers=0"]),
        (lambda: kd.layers.DenseLayer(12, data_format="NCHW"), ["'NCHW'"]),
    ],
)
def test_a_wrong_argument_is_refused_with_what_to_do(build, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011, the words are checked below
        build()
    for word in words:
        assert word in str(error.value)


def test_depths_named_by_the_error_are_valid():
    with pytest.raises(ValueError, match="10 or 16"):
        kd.DenseNetBC(11)
    for depth in (10, 16):
        assert kd.DenseNetBC(depth).name == f"densenet_bc_{depth}_12"


@pytest.mark.parametrize(
    ("build", "smallest"), [(kd.DenseNet, 4), (kd.DenseNetBC, 4), (kd.DenseNet121, 29)]
)
def test_the_smallest_input_leaves_one_position(build, smallest):
    model = build(input_shape=(smallest, smallest, 1))
    assert model.get_layer("final_bn").output.shape[1:3] == (1, 1)
    assert np.isfinite(model(np.ones((1, smallest, smallest, 1), "float32"))).all()


def test_imagenet_feature_maps_have_the_sizes_of_table_1():
    model = kd.DenseNet121()
    sizes = [model.get_layer(f"dense_block{i}").output.shape[1:] for i in (1, 2, 3, 4)]
    assert sizes == [(56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 1024)]


def test_tops_of_keras_applications_signature(monkeypatch):
    # One layer a block: 8 maps of the stem, then 12 / 2 + 4, 10 / 2 + 4, 9 // 2 + 4.
    monkeypatch.setitem(models.IMAGENET_VARIANTS, "Small", (4, (1, 1, 1, 1)))
    network = models._imagenet_densenet("Small")
    shape = (64, 64, 3)
    maps = network(include_top=False, input_shape=shape)
    assert maps.output_shape == (None, 2, 2, 8)
    vectors = network(include_top=False, input_shape=shape, pooling="max")
    assert vectors.output_shape == (None, 8)
    free = network(include_top=False, input_shape=(None, None, 3), pooling="avg")
    assert free(np.ones((1, 40, 72, 3), "float32")).shape == (1, 8)
    logits = network(None, True, 7, shape, None, None)
    assert logits.get_layer("classifier").activation is keras.activations.linear


@pytest.mark.slow
def test_weights_of_a_file_are_loaded(tmp_path):
    first = kd.DenseNet121(input_shape=(32, 32, 3), classes=3)
    first.save_weights(tmp_path / "first.weights.h5")
    second = kd.DenseNet121(tmp_path / "first.weights.h5", True, 3, (32, 32, 3))
    for ours, theirs in zip(second.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_saved_model_is_the_same_model(tmp_path):
    model = kd.DenseNetBC(10, 4, dropout_rate=0.2)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    pictures = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(loaded(pictures), model(pictures))
    assert [type(layer) for layer in loaded.layers] == [
        type(layer) for layer in model.layers
    ]
