import inspect
import json
import zipfile

import keras
import numpy as np
import pytest
from shaken import shaken

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
        (lambda: kd.DenseNet121(input_shape=(64,)), ["(64, 64, 64, 1)", "(64,)"]),
        (lambda: kd.DenseNet(classes=0), ["classes=0"]),
        (lambda: kd.DenseNet121(classes=-1), ["classes=-1"]),
        (lambda: kd.DenseNet(memory_efficient="half"), ["'full'", "'half'"]),
        (lambda: kd.DenseNet121(memory_efficient="all"), ["'full'", "'all'"]),
        (lambda: kd.DenseNet121(pooling="min"), ["pooling='min'"]),
        (lambda: kd.DenseNet(40, blocks=(2, 3)), ["Leave depth out", "blocks=(2, 3)"]),
        (lambda: kd.DenseNetBC(100, blocks=[2]), ["Leave depth out", "depth=100"]),
        (lambda: kd.DenseNet(blocks=()), ["1 or more", "blocks=()"]),
        (lambda: kd.DenseNet(blocks=4), ["(6, 12, 24, 16)", "blocks=4"]),
        (lambda: kd.DenseNet(blocks="24"), ["a sequence", "blocks='24'"]),
        (lambda: kd.DenseNet(blocks=(2, 0)), ["1 or more", "blocks=(2, 0)"]),
        (lambda: kd.DenseNet(blocks=(2, 1.5)), ["whole numbers", "blocks=(2, 1.5)"]),
        (lambda: kd.DenseNetBC(bn_size=0), ["1 or more", "bn_size=0"]),
        (lambda: kd.DenseNetBC(bn_size=1.5), ["whole number", "bn_size=1.5"]),
        (lambda: kd.DenseNet(bn_size=2), ["Say bottleneck=True", "bn_size=2"]),
        (lambda: kd.DenseNet(stem="large"), ["'small'", "'imagenet'", "'large'"]),
        (lambda: kd.DenseNet(init_features=0), ["1 or more", "init_features=0"]),
        (lambda: kd.DenseNet(blocks=[2], compression=2.0), ["compression=2.0"]),
        (lambda: kd.DenseNet(pooling="max"), ["include_top=False"]),
        (lambda: kd.DenseNetBC(stem="imagenet", input_shape=(12, 32, 3)), ["13x13"]),
        (lambda: kd.DenseNet(blocks=[1] * 6, input_shape=(31, 31, 3)), ["32x32"]),
        (lambda: kd.DenseNet121(output_stride=12), ["4, 8, 16, 32", "=12"]),
        (lambda: kd.DenseNet(output_stride=8), ["1, 2, 4", "=8"]),
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


@pytest.mark.parametrize("rank", [1, 3])
def test_each_axis_of_signals_and_volumes_is_halved_as_those_of_pictures(rank):
    """With the stem of ImageNet 64 becomes 16, 8, 4 and 2, and 28 is too small."""
    options = {"blocks": (1, 1, 1, 1), "growth_rate": 2, "stem": "imagenet"}
    shape = (*[64] * rank, 2)
    model = kd.DenseNetBC(**options, input_shape=shape, include_top=False)
    sizes = [model.get_layer(f"dense_block{n}").output.shape[1:-1] for n in range(1, 5)]
    assert sizes == [(side,) * rank for side in (16, 8, 4, 2)]
    with pytest.raises(ValueError, match=f"be {'x'.join(['29'] * rank)} or larger"):
        kd.DenseNetBC(**options, input_shape=(*[28] * rank, 2))
    with pytest.raises(ValueError, match="of volumes, such as"):
        kd.DenseNetBC(**options, input_shape=(2,))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("stem", "last"), [("imagenet", 16), ("small", 4)])
def test_less_output_stride_gives_the_pixels_between(rank, stem, last):
    """With stride s the maps are the plain ones at every (last / s)-th pixel.

    A transition without stride averages, at an even pixel, the two that a stride of 2
    takes there; the next layer reads pixels of even distance from it, which are those
    that it reads in the plain network; and so on, with the distance doubled by each
    transition. It holds where the last size divides: at an odd size, pooling drops the
    last pixel, which the dilated convolutions read. In training it does not hold, since
    the moments are those of the pixels between, too.
    """
    side = 2 * last
    options = {"blocks": (2, 2, 3), "growth_rate": 4, "stem": stem, "compression": 0.5}
    options |= {"input_shape": (*(side,) * rank, 2), "include_top": False}
    plain = shaken(kd.DenseNet(**options))
    images = np.random.default_rng(0).normal(size=(2, *(side,) * rank, 2))
    expected = np.asarray(plain(images, training=False))
    assert expected.shape[1:-1] == (2,) * rank
    for stride in (last // 2, last // 4):
        dilated = kd.DenseNet(**options, output_stride=stride)
        dilated.set_weights(plain.get_weights())
        found = np.asarray(dilated(images, training=False))
        assert found.shape[1:-1] == (side // stride,) * rank
        every = (slice(None), *(slice(None, None, last // stride),) * rank)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found[every], expected, rtol=0, atol=1e-5 * scale)


def test_the_smallest_input_of_less_output_stride():
    """Of 13 pixels the stem leaves 4, and one transition 2."""
    model = kd.DenseNet121(input_shape=(13, 13, 3), include_top=False, output_stride=8)
    assert model.output_shape == (None, 2, 2, 1024)


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


# --- blocks of one's own ----------------------------------------------------------

# A dense layer that reads c maps has 2c weights in its BN and, with a bottleneck of
# b = bn_size k maps, c b + 2b + 9 b k more, else 9 c k. A transition that reads m maps
# has 2m + m floor(theta m).
NARROW = {"blocks": (2, 3), "growth_rate": 8, "bn_size": 2, "init_features": 10}


@pytest.mark.parametrize(
    ("build", "trainable"),
    [
        # b = 16: 18c + 1184 a layer. 27 10 of the stem; 10 and 18 are read, and 26 by
        # the transition; 13, 21 and 29, and 37 by the last BN and the 10 classes.
        (
            lambda: kd.DenseNetBC(**NARROW),
            270 + (18 * 28 + 2 * 1184) + 390 + (18 * 63 + 3 * 1184) + 74 + 380,
        ),
        (lambda: kd.DenseNetBC(**NARROW, include_top=False), 8672 - 380),
        # 7 7 3 10 of the stem, and its BN.
        (lambda: kd.DenseNetBC(**NARROW, stem="imagenet"), 8672 - 270 + 1470 + 20),
        (lambda: kd.DenseNetBC(**NARROW, memory_efficient=True), 8672),
        (lambda: kd.DenseNetBC(**NARROW, memory_efficient="full"), 8672),
        # 38c a layer: 16 maps of the stem, 20, and 24 to the classifier.
        (lambda: kd.DenseNet(blocks=[2], growth_rate=4), 432 + 38 * 36 + 48 + 250),
        # 16, 20, 24, 28 and 32 are read, and m (m + 2) of 20 to 32 in the transitions.
        (
            lambda: kd.DenseNet(blocks=[1] * 5, growth_rate=4),
            432 + 38 * 120 + (440 + 624 + 840 + 1088) + 72 + 370,
        ),
        # Signals: 3 where pictures have 9, so that a layer has 18c + 32 + 384, and the
        # stem 3 10 of one channel. Volumes: 27, a layer 18c + 32 + 3456, and 27 10.
        (
            lambda: kd.DenseNetBC(**NARROW, input_shape=(64, 1)),
            30 + (18 * 28 + 2 * 416) + 390 + (18 * 63 + 3 * 416) + 74 + 380,
        ),
        (
            lambda: kd.DenseNetBC(**NARROW, input_shape=(8, 8, 8, 1)),
            270 + (18 * 28 + 2 * 3488) + 390 + (18 * 63 + 3 * 3488) + 74 + 380,
        ),
        # The paper's, by its blocks.
        (lambda: kd.DenseNet(blocks=(12, 12, 12)), 1_019_722),
        (lambda: kd.DenseNetBC(blocks=(16, 16, 16), classes=100), 800_032),
    ],
)
def test_networks_of_own_blocks_have_the_parameters_worked_out_by_hand(
    build, trainable
):
    assert parameters(build())[0] == trainable


@pytest.mark.parametrize(
    ("network", "arguments", "position"),
    [
        (kd.DenseNet, {}, ["depth", "growth_rate"]),
        (
            kd.DenseNetBC,
            {},
            [
                *("depth", "growth_rate", "compression", "classes", "input_shape"),
                *("dropout_rate", "memory_efficient", "sync_batchnorm", "name"),
            ],
        ),
        (
            kd.DenseNet121,
            {"blocks", "growth_rate", "bottleneck", "compression", "bn_size"}
            | {"stem", "init_features", "depth"},
            [
                *("weights", "include_top", "classes", "input_shape", "pooling"),
                "classifier_activation",
            ],
        ),
    ],
)
def test_signatures(network, arguments, position):
    """The positional arguments keep their places; `help` shows all of `DenseNet`'s."""
    all_of_them = inspect.signature(kd.DenseNet).parameters
    found = inspect.signature(network).parameters
    by_place = [n for n, p in found.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert by_place == position
    fixed = {"bottleneck"} if network is kd.DenseNetBC else set(arguments)
    assert found.keys() == all_of_them.keys() - fixed


def test_arguments_by_place_are_the_ones_of_before():
    model = kd.DenseNetBC(16, 4, 0.75, 5, (16, 12, 1), 0.1, "full", False, "mine")
    assert (model.name, model.input_shape) == ("mine", (None, 16, 12, 1))
    assert model.output_shape == (None, 5)
    block = model.get_layer("dense_block1")
    assert (block.num_layers, block.growth_rate, block.dropout_rate) == (2, 4, 0.1)
    assert block.memory_efficient == "full"
    assert model.get_layer("transition1").compression == 0.75
    assert kd.DenseNet(10, 4).get_layer("dense_block3").num_layers == 2


def test_names_of_networks():
    small = {"growth_rate": 4, "input_shape": (8, 8, 3)}
    assert kd.DenseNet(10, **small).name == "densenet_10_4"
    assert kd.DenseNet(blocks=(1, 2), **small).name == "densenet_1_2_k4"
    assert kd.DenseNetBC(blocks=[1, 2], **small).name == "densenet_bc_1_2_k4"
    assert kd.DenseNet121(input_shape=(32, 32, 3)).name == "densenet121"


@pytest.mark.parametrize(
    ("blocks", "stem", "smallest"),
    [
        ((3,), "small", 1),
        ((1,) * 5, "small", 16),  # halved 4 times
        ((3,), "imagenet", 1),  # strides round up: 1, 1, 1
        ((1, 2), "imagenet", 5),  # 3, 2, 1
        ((1,) * 5, "imagenet", 61),  # 31, 16, 8, 4, 2, 1
    ],
)
def test_the_smallest_input_of_own_blocks(blocks, stem, smallest):
    shape = (smallest, smallest, 1)
    options = {"blocks": blocks, "growth_rate": 4, "stem": stem}
    model = kd.DenseNet(**options, input_shape=shape)
    assert model.get_layer("final_bn").output.shape[1:3] == (1, 1)
    free = kd.DenseNet(**options, input_shape=(None, None, 1))
    free.set_weights(model.get_weights())
    picture = np.ones((1, *shape), "float32")
    np.testing.assert_allclose(free(picture), model(picture), rtol=1e-5)
    with pytest.raises(ValueError, match=f"{smallest}x{smallest} or larger"):
        kd.DenseNet(**options, input_shape=(smallest - 1, 64, 1))


def test_tops_of_small_networks():
    # Two blocks: 16 maps of the stem, 16 + 4, 20 + 4.
    options = {"blocks": (1, 1), "growth_rate": 4, "input_shape": (8, 8, 3)}
    pictures = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    maps = kd.DenseNet(**options, include_top=False)
    assert maps.output_shape == (None, 4, 4, 24)
    for pooling, of in (("avg", np.mean), ("max", np.max)):
        vectors = kd.DenseNet(**options, include_top=False, pooling=pooling)
        vectors.set_weights(maps.get_weights())
        expected = of(np.array(maps(pictures)), axis=(1, 2))
        np.testing.assert_allclose(vectors(pictures), expected, rtol=1e-5)


def test_activations_of_the_classifier_are_of_its_logits():
    shape, answers = {"blocks": (1,), "input_shape": (8, 8, 3), "classes": 3}, {}
    pictures = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    logits = kd.DenseNetBC(**shape, classifier_activation=None)
    for activation in ("softmax", "sigmoid"):
        model = kd.DenseNetBC(**shape, classifier_activation=activation)
        model.set_weights(logits.get_weights())
        answers[activation] = model(pictures)
    exp = np.exp(logits(pictures))
    np.testing.assert_allclose(answers["sigmoid"], exp / (1 + exp), rtol=1e-4)
    expected = exp / exp.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(answers["softmax"], expected, rtol=1e-4)


def test_weights_of_a_file_are_loaded_into_own_blocks(tmp_path):
    options = {**NARROW, "input_shape": (8, 8, 3)}
    first = kd.DenseNetBC(**options)
    first.save_weights(tmp_path / "first.weights.h5")
    second = kd.DenseNetBC(**options, weights=tmp_path / "first.weights.h5")
    for ours, theirs in zip(second.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_saved_own_blocks_are_the_same(tmp_path):
    model = kd.DenseNetBC(**NARROW, stem="imagenet", classifier_activation="sigmoid")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert configs_of_blocks(loaded) == configs_of_blocks(model)
    pictures = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(loaded(pictures), model(pictures))


def configs_of_blocks(model):
    return [
        layer.get_config()
        for layer in model.layers
        if isinstance(layer, kd.layers.DenseBlock)
    ]


def without(config, name):
    """Return a tree of dictionaries and lists in which no dictionary has the name."""
    if isinstance(config, dict):
        return {k: without(v, name) for k, v in config.items() if k != name}
    return [without(v, name) for v in config] if isinstance(config, list) else config


def test_a_file_from_before_there_was_a_bn_size_is_read(tmp_path):
    model = kd.DenseNetBC(16, 4, input_shape=(8, 8, 3))
    model.save(tmp_path / "new.keras")
    with (
        zipfile.ZipFile(tmp_path / "new.keras") as new,
        zipfile.ZipFile(tmp_path / "old.keras", "w") as old,
    ):
        config = json.loads(new.read("config.json"))
        assert without(config, "bn_size") != config
        old.writestr("config.json", json.dumps(without(config, "bn_size")))
        for name in ("metadata.json", "model.weights.h5"):
            old.writestr(name, new.read(name))
    loaded = keras.saving.load_model(tmp_path / "old.keras")
    assert configs_of_blocks(loaded) == configs_of_blocks(model)
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
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
