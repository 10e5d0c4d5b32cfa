"""Files of Keras, read layer by layer: nothing is built, and nothing in them is run."""

import io
import json
import os
import warnings
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras.src.applications.densenet import DenseNet as Application

import keras_densenet as kd
from keras_densenet.layers.batch_norm import EPSILON
from keras_densenet.weights import WeightsError
from keras_densenet.weights.keras_files import (
    NORM,
    KerasLayers,
    activations_in,
    read_keras_file,
)
from keras_densenet.weights.keras_names import by_pytorchs_names

SIDE = 32
SHAPE = (SIDE, SIDE, 3)


def application(**options):
    """keras.applications' DenseNet with one dense layer a block, and random weights."""
    shape = {"weights": None, "input_shape": SHAPE, "name": "densenet"}
    return shaken(Application([1, 1, 1, 1], **shape, **options))


def shaken(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        is_scale = weight.path.endswith(("variance", "gamma"))
        low, high = (0.5, 1.5) if is_scale else (-0.1, 0.1)
        if "seed" not in weight.path:
            weight.assign(rng.uniform(low, high, weight.shape))
    return model


def ours(classes=5):
    return kd.DenseNet(
        blocks=(1, 1, 1, 1),
        growth_rate=32,
        bottleneck=True,
        compression=0.5,
        stem="imagenet",
        classes=classes,
        classifier_activation=None,
        input_shape=SHAPE,
    )


def whole():
    return application(classes=5, classifier_activation=None)


def sequential(frozen=0):
    base = application(include_top=False, pooling="avg")
    for layer in base.layers[:frozen]:
        layer.trainable = False
    layers = [keras.layers.RandomFlip(), base, keras.layers.Dropout(0.2)]
    head = keras.layers.Dense(5)
    return shaken(keras.Sequential([keras.Input(SHAPE), *layers, head]))


def half_frozen():
    return sequential(20)


def functional():
    base = application(include_top=False)
    pictures = keras.Input(SHAPE)
    maps = base(pictures * 1.0)
    answer = keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(maps))
    return shaken(keras.Model(pictures, answer))


def written(model, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras says that .keras is newer
        save = model.save_weights if ".weights." in path.name else model.save
        save(path)
    return path


def pictures():
    return np.random.default_rng(1).normal(size=(2, *SHAPE)).astype("float32")


def assert_same_answers(path, theirs):
    network = ours()
    loaded = kd.weights.load(network, path)
    assert loaded.weights == len(network.weights)
    expected = np.array(theirs(pictures(), training=False))
    found = np.array(network(pictures(), training=False))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize("make", [whole, sequential, half_frozen, functional])
def test_a_network_in_any_file_of_keras_answers_as_it_did(tmp_path, make):
    theirs = make()
    for name in ("model.h5", "model.weights.h5", "model.keras"):
        assert_same_answers(written(theirs, tmp_path / name), theirs)


def test_a_compiled_model_has_an_optimizer_beside_its_weights(tmp_path):
    theirs = whole()
    theirs.compile("adam", "mse")
    theirs.optimizer.build(theirs.trainable_variables)
    for name in ("model.h5", "model.weights.h5", "model.keras"):
        assert_same_answers(written(theirs, tmp_path / name), theirs)


@pytest.mark.parametrize("name", ["model.weights.h5", "model.keras"])
def test_layers_without_names_are_known_by_their_numbers(tmp_path, name):
    """Keras before 3.10, and Keras 2, write the names of classes alone."""
    theirs = half_frozen()
    path = written(theirs, tmp_path / name)
    if name.endswith(".keras"):
        with zipfile.ZipFile(path) as archive:
            parts = {part: archive.read(part) for part in archive.namelist()}
        buffer = io.BytesIO(parts["model.weights.h5"])
        without_names(buffer)
        parts["model.weights.h5"] = buffer.getvalue()
        with zipfile.ZipFile(path, "w") as archive:
            for part, content in parts.items():
                archive.writestr(part, content)
    else:
        without_names(path)
    assert_same_answers(path, theirs)


def test_layers_without_names_have_the_epsilon_that_all_have():
    norm = dict.fromkeys(NORM, np.ones(2))
    kernel = {"kernel": np.zeros((3, 3, 2, 2))}
    layers = {"conv2d": kernel, "conv2d_1": kernel}
    layers |= {"batch_normalization": norm, "batch_normalization_1": norm}
    epsilons = {"conv1_bn": {0.25 + EPSILON}, "bn": {0.25 + EPSILON}}
    found = by_pytorchs_names(KerasLayers(layers, epsilons, {}, are_in_order=True))
    assert found["features.norm5.running_var"].tolist() == [1.25, 1.25]
    others = KerasLayers(layers, epsilons | {"head": {0.001}}, {}, are_in_order=True)
    with pytest.raises(WeightsError, match="either of the epsilons"):
        by_pytorchs_names(others)


def without_names(file):
    with h5py.File(file, "a") as groups:
        groups.visititems(
            lambda _, item: item.attrs.pop("name", None) and None  # to go on
        )


def test_names_of_keras_2_by_hand():
    """Keras 2 has "/" after "conv1", where Keras 3 has "_"; pooling counts from 2."""
    kernel, norm = (
        {"kernel": np.zeros((1, 1, 2, 2))},
        dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), np.zeros(2)),
    )
    layers = {
        "conv1/conv": kernel,
        "conv1/bn": norm,
        "conv2_block1_0_bn": norm,
        "conv2_block1_1_conv": kernel,
        "conv2_block1_1_bn": norm,
        "conv2_block1_2_conv": kernel,
        "pool2_bn": norm,
        "pool2_conv": kernel,
        "conv3_block10_0_bn": norm,
        "conv3_block10_1_conv": kernel,
        "conv3_block10_1_bn": norm,
        "conv3_block10_2_conv": kernel,
        "bn": norm,
    }
    found = by_pytorchs_names(KerasLayers(layers, {}, {}, are_in_order=True))
    assert [n for n in found if n.endswith(".weight")] == [
        "features.conv0.weight",
        "features.norm0.weight",
        "features.denseblock1.denselayer1.norm1.weight",
        "features.denseblock1.denselayer1.conv1.weight",
        "features.denseblock1.denselayer1.norm2.weight",
        "features.denseblock1.denselayer1.conv2.weight",
        "features.transition1.norm.weight",
        "features.transition1.conv.weight",
        "features.denseblock2.denselayer10.norm1.weight",
        "features.denseblock2.denselayer10.conv1.weight",
        "features.denseblock2.denselayer10.norm2.weight",
        "features.denseblock2.denselayer10.conv2.weight",
        "features.norm5.weight",
    ]


def test_the_epsilon_of_a_file_is_its_own(tmp_path):
    """What is above the paper's 1e-5 is added to variances; ours has nothing above."""
    theirs = application(classes=5)
    variance = "features.norm5.running_var"
    its_own = np.array(theirs.get_layer("bn").moving_variance)
    path = written(theirs, tmp_path / "model.keras")
    found = by_pytorchs_names(read_keras_file(path, "keras"))[variance]
    np.testing.assert_allclose(found - its_own, 1e-8, atol=6e-8)  # 1.001e-5 - 1e-5
    with zipfile.ZipFile(path) as archive:
        parts = {part: archive.read(part) for part in archive.namelist()}
    parts["config.json"] = parts["config.json"].replace(b"1.001e-05", b"0.25")
    with zipfile.ZipFile(path, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    found = by_pytorchs_names(read_keras_file(path, "keras"))[variance]
    np.testing.assert_allclose(found - its_own, 0.24999, rtol=1e-5)


def test_a_network_without_bottlenecks_in_a_file(tmp_path):
    small = {"depth": 10, "growth_rate": 4, "classes": 3, "input_shape": (8, 8, 3)}
    first, second = kd.DenseNet(**small), kd.DenseNet(**small)
    for name in ("model.h5", "model.weights.h5", "model.keras"):
        second.set_weights([0 * weight for weight in second.get_weights()])
        kd.weights.load(second, written(first, tmp_path / name))
        for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["bn", "final_bn"])
def test_a_layer_of_the_head_is_not_taken_for_the_networks_last(tmp_path, name):
    base = application(include_top=False, pooling="avg")
    norm = keras.layers.BatchNormalization(epsilon=1.001e-5, name=name)
    front = [keras.Input(SHAPE), base]
    model = shaken(keras.Sequential([*front, norm, keras.layers.Dense(5)]))
    expected = np.array(base.get_layer("bn").moving_mean)
    network = ours()
    names = ["model.keras"] + ["model.h5"] * (name != "bn")  # there, paths are equal
    for file in names:
        kd.weights.load(network, written(model, tmp_path / file), include_top=False)
        found = network.get_layer("final_bn").moving_mean
        np.testing.assert_array_equal(np.array(found), expected)


def test_each_batch_norm_has_its_own_epsilon(tmp_path):
    """0.1 - 1e-5 is added to the last variance, 1.001e-5 - 1e-5 to the others."""
    theirs = application(classes=5, classifier_activation=None)
    theirs.get_layer("bn").epsilon = 0.1
    assert_same_answers(theirs, theirs)
    assert_same_answers(written(theirs, tmp_path / "model.keras"), theirs)


@pytest.mark.parametrize(
    ("name", "activation"), [("conv2_block1_0_relu", "elu"), ("relu", "leaky_relu")]
)
def test_a_network_with_another_activation_is_another_network(
    tmp_path, name, activation
):
    theirs = application(classes=5, classifier_activation=None)
    theirs.get_layer(name).activation = keras.activations.get(activation)
    norm = name.removesuffix("relu") + "bn"
    for source in (
        theirs,
        *(written(theirs, tmp_path / n) for n in ("m.h5", "m.keras")),
    ):
        with pytest.raises(
            WeightsError, match=rf"{norm} there.* {activation}: it is an"
        ):
            kd.weights.load(ours(), source)


def test_activations_that_are_layers_of_their_own(tmp_path):
    """The dictionary has a batch norm's ReLU; a head's activation does not matter."""
    relu = {"max_value": None, "negative_slope": 0.0, "threshold": 0.0}
    layers = [
        ("BatchNormalization", {"name": "a"}),
        ("ReLU", relu),
        ("BatchNormalization", {"name": "b"}),
        ("Conv2D", {"activation": "linear"}),
        ("ELU", {"alpha": 1.0}),
        ("Activation", {"activation": "tanh"}),
        ("BatchNormalization", {"name": "c"}),
        ("ReLU", relu | {"max_value": 6.0}),
    ]
    config = {"layers": [{"class_name": k, "config": options} for k, options in layers]}
    assert activations_in(config) == {
        "a": {"relu"},
        "b": {"elu"},
        "c": {"ReLU of {'max_value': 6.0}"},
    }
    base = application(include_top=False, pooling="avg")
    head = [keras.layers.BatchNormalization(), keras.layers.Activation("gelu")]
    model = keras.Sequential([keras.Input(SHAPE), base, *head, keras.layers.Dense(5)])
    kd.weights.load(ours(), written(model, tmp_path / "m.keras"), include_top=False)


def test_an_epsilon_that_the_file_does_not_say_is_called_a_guess(tmp_path, capsys):
    theirs = application(classes=5)
    for name in ("model.h5", "model.keras", "model.weights.h5"):
        kd.weights.load(ours(), written(theirs, tmp_path / name))
        said = "a guess: 1.001e-05 as epsilon" in capsys.readouterr().err
        assert said == ("weights" in name)
    network = ours()
    kd.weights.load(network, written(network, tmp_path / "ours.weights.h5"))
    assert "guess" not in capsys.readouterr().err


def test_batch_norms_of_one_name_with_other_epsilons_are_refused(tmp_path):
    base = application(include_top=False, pooling="avg")
    norm = keras.layers.BatchNormalization(name="bn")  # with 1e-3
    model = keras.Sequential([keras.Input(SHAPE), base, norm])
    with pytest.raises(WeightsError, match=r"the epsilons 1\.001e-05, 0\.001"):
        kd.weights.load(ours(), written(model, tmp_path / "m.keras"), include_top=False)


@pytest.mark.parametrize("name", ["model.h5", "model.weights.h5", "model.keras"])
def test_bfloat16_in_a_file(tmp_path, name):
    """HDF5 has no bfloat16: what is read are two bytes of no kind."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("bfloat16")
    try:
        theirs = application(classes=5)
    finally:
        keras.config.set_dtype_policy(before)
    network = ours()
    kd.weights.load(network, written(theirs, tmp_path / name))
    expected = np.array(theirs.get_layer("bn").moving_mean).astype("float32")
    found = np.array(network.get_layer("final_bn").moving_mean)
    np.testing.assert_array_equal(found, expected)


# --- what is refused ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.h5", "model.weights.h5", "model.keras"])
def test_a_quantized_kernel_and_its_scale_are_no_kernel_and_bias(tmp_path, name):
    head = keras.layers.Dense(5, use_bias=False)
    base = application(include_top=False, pooling="avg")
    model = keras.Sequential([keras.Input(SHAPE), base, head])
    head.quantize("int8")
    with pytest.raises(WeightsError, match="dense"):
        kd.weights.load(ours(), written(model, tmp_path / name))


def test_two_networks_in_a_model_are_not_mixed(tmp_path):
    views = [keras.Input(SHAPE), keras.Input(SHAPE)]
    networks = [application(include_top=False, pooling="avg") for _ in views]
    networks[1].name = "second"
    both = keras.layers.Concatenate()(
        [network(view) for network, view in zip(networks, views, strict=True)]
    )
    model = keras.Model(views, keras.layers.Dense(5)(both))
    for name in ("model.h5", "model.weights.h5", "model.keras"):
        with pytest.raises(WeightsError, match=r"get_layer\(name\)|DenseNets"):
            kd.weights.load(ours(), written(model, tmp_path / name))


@pytest.mark.parametrize("name", ["model.h5", "model.weights.h5", "model.keras"])
@pytest.mark.parametrize(
    "front",
    [
        lambda: keras.layers.Conv2D(3, 1),
        keras.layers.Normalization,
        keras.layers.BatchNormalization,
    ],
)
def test_weights_before_the_network_are_not_dropped(tmp_path, name, front):
    base = application(include_top=False, pooling="avg")
    model = keras.Sequential([keras.Input(SHAPE), front(), base])
    with pytest.raises(WeightsError, match="before the last batch norm"):
        kd.weights.load(ours(), written(model, tmp_path / name), include_top=False)


def test_keras_hubs_network_is_another(tmp_path):
    """It pads its first convolution by 2 and 3 pixels, and not by 3."""
    kernel = {"kernel": np.zeros((1, 1, 2, 2))}
    layers = KerasLayers({"stack1_block1_1_conv": kernel}, {}, {}, are_in_order=True)
    with pytest.raises(WeightsError, match="KerasHub, whose DenseNet pads"):
        by_pytorchs_names(layers)


def test_code_in_a_file_of_keras_is_not_run(tmp_path):
    mark = tmp_path / "ran"
    theirs = application(classes=5, classifier_activation=None)
    path = written(theirs, tmp_path / "model.keras")
    with zipfile.ZipFile(path) as archive:
        parts = {part: archive.read(part) for part in archive.namelist()}
    config = json.loads(parts["config.json"])
    calling = {"module": "os", "class_name": "function", "config": "mkdir"}
    config["config"]["layers"][1] |= {
        "module": "os",
        "class_name": "mkdir",
        "registered_name": "mkdir",
        "config": {"name": "evil", "path": str(mark), "function": calling},
    }
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    assert_same_answers(path, theirs)
    assert not mark.exists()


def test_arrays_that_the_file_has_not_are_refused_before_memory_is_taken(tmp_path):
    path = tmp_path / "huge.weights.h5"
    with h5py.File(path, "w") as file:
        own = file.create_group("layers/conv2d/vars")
        own.create_dataset("0", (7, 7, 10**6, 10**6), "float32", chunks=(7, 7, 9, 9))
    with pytest.raises(WeightsError, match=r"would have 196,000,000,000,000 bytes"):
        kd.weights.load(ours(), path)


def test_an_archive_that_would_fill_memory_is_refused(tmp_path):
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(10**7))
    with pytest.raises(WeightsError, match=r"would have 10,000,000 bytes, from"):
        kd.weights.load(ours(), path)


def elsewhere(own, other):
    own["0"] = h5py.ExternalLink(str(other), "secret")


def through_a_soft_link(own, other):
    own["0"] = h5py.SoftLink("/nowhere")


def stored_outside(own, other):
    own.create_dataset("0", (4,), "float32", external=[(str(other), 0, 16)])


def virtual(own, other):
    layout = h5py.VirtualLayout((4,), "float32")
    layout[:] = h5py.VirtualSource(str(other), "secret", (4,))
    own.create_virtual_dataset("0", layout)


@pytest.mark.parametrize(
    "write", [elsewhere, through_a_soft_link, stored_outside, virtual]
)
def test_arrays_of_another_file_are_not_read(tmp_path, write):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["secret"] = np.ones(4, "float32")
    path = tmp_path / "links.weights.h5"
    with h5py.File(path, "w") as file:
        write(file.create_group("layers/conv2d/vars"), other)
    with pytest.raises(WeightsError, match=os.path.basename(path)):
        kd.weights.load(ours(), path)


def test_a_layer_in_another_file_is_not_read(tmp_path):
    other = written(whole(), tmp_path / "other.weights.h5")
    path = tmp_path / "links.weights.h5"
    with h5py.File(path, "w") as file:
        file.create_group("layers")["conv2d"] = h5py.ExternalLink(str(other), "layers")
    with pytest.raises(WeightsError, match="no group of a layer"):
        kd.weights.load(ours(), path)
