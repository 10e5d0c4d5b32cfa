"""Loading weights of other libraries, saving ours, and refusing other files.

What torchvision and timm answer was written by `pytorch_answers.py`, where they are.
"""

import argparse
import collections
import datetime
import json
import pickle
import tarfile
import warnings
import zipfile
from pathlib import Path

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
import pytorch_answers as pytorch

import keras_densenet as kd
from keras_densenet.weights import WeightsError, preprocessing
from keras_densenet.weights.inert_pickle import Inert
from keras_densenet.weights.names import todays_name, weights_by_name
from keras_densenet.weights.pytorch_files import read_pth

HELPERS = Path(__file__).parents[1] / "helpers"
ANSWERS = json.loads((HELPERS / "pytorch_answers.json").read_text())
NETWORKS = {
    "densenet121": kd.DenseNet121,
    "densenet161": kd.DenseNet161,
    "densenet169": kd.DenseNet169,
    "densenet201": kd.DenseNet201,
}
QUICK = ("torchvision densenet121 224", "timm densenet121 197")
CASES = [
    pytest.param(case, marks=[pytest.mark.slow] * (case not in QUICK))
    for case in ANSWERS
]
SMALL = {"depth": 16, "growth_rate": 4, "input_shape": (8, 8, 3)}


def state_dict(model):
    """Draw the weights that `pytorch_answers.py` draws."""
    return {
        weight.name: pytorch.weight(weight.name, weight.shape)
        for weight in weights_by_name(model)
    }


def small(classes=10):
    return kd.DenseNetBC(**SMALL, classes=classes)


def weights_of(model):
    return [np.array(weight) for weight in model.get_weights()]


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


# --- the answers of PyTorch --------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_answers_of_pytorch(case):
    library, name, size = case.split()
    model = NETWORKS[name](input_shape=(None, None, 3), classifier_activation=None)
    kd.weights.load(model, state_dict(model))
    stages = {
        "features.norm5": "final_bn",
        **{f"features.denseblock{n}": f"dense_block{n}" for n in (1, 2, 3, 4)},
        **{f"features.transition{n}": f"transition{n}" for n in (1, 2, 3)},
    }
    if library == "timm":  # its norms include the ReLU
        del stages["features.norm5"]
    outputs = [model.get_layer(ours).output for ours in stages.values()]
    looked_into = keras.Model(model.input, [model.output, *outputs])
    logits, *maps = looked_into(pytorch.pictures(int(size)), training=False)
    expected = ANSWERS[case]
    scale = np.abs(expected["logits"]).max()
    np.testing.assert_allclose(
        logits[:, ::50], expected["logits"], rtol=0, atol=1e-4 * scale
    )
    for stage, found in zip(stages, maps, strict=True):
        *values, mean, deviation = expected["stages"][stage]
        ours = pytorch.summary(found)
        np.testing.assert_allclose(
            ours,
            [*values, mean, deviation],
            rtol=0,
            atol=1e-4 * deviation,
            err_msg=stage,
        )


# --- spellings and files -----------------------------------------------------------


def old_spelling(name):
    for kind in ("norm", "conv"):
        for number in "12":
            name = name.replace(f"{kind}{number}.", f"{kind}.{number}.")
    return name.replace("transition.1.", "transition1.")


@pytest.mark.parametrize(
    "changed",
    [
        lambda state: {old_spelling(n): a for n, a in state.items()},
        lambda state: {f"module.{n}": a for n, a in state.items()},
        lambda state: {f"module.densenet121.{n}": a for n, a in state.items()},
        lambda state: {
            f"backbone.{n.replace('classifier.', 'classifier.0.')}": a
            for n, a in state.items()
        },
        lambda state: {"epoch": 3, "state_dict": state},
        lambda state: state | {"features.norm5.num_batches_tracked": np.array(7)},
        lambda state: dict(reversed(state.items())),
    ],
    ids=[
        *("of 2017", "DataParallel", "CheXNet", "a sequence at the end"),
        *("a checkpoint", "counters", "another order"),
    ],
)
def test_other_spellings(changed):
    model, other = small(), small()
    state = state_dict(model)
    kd.weights.load(model, state)
    kd.weights.load(other, changed(state))
    assert_same(weights_of(model), weights_of(other))


def test_names_of_2017_by_hand():
    assert (
        todays_name("denseblock4.denselayer16.conv.2.weight")
        == "denseblock4.denselayer16.conv2.weight"
    )
    assert todays_name("transition1.conv.weight") == "transition1.conv.weight"


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_a_round_trip_loses_nothing(tmp_path, suffix):
    model, other = small(), small()
    kd.weights.load(model, state_dict(model))
    path = kd.weights.save(model, tmp_path / f"weights{suffix}")
    kd.weights.load(other, path)
    assert_same(weights_of(model), weights_of(other))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_file_for_monai_has_monais_names(tmp_path):
    """The names are those of MONAI 1.6.1's DenseNet, `block_config=(1, 1)`."""
    volumes = kd.DenseNetBC(
        blocks=(1, 1), growth_rate=4, stem="imagenet", input_shape=(32, 32, 32, 1)
    )
    path = kd.weights.save(volumes, tmp_path / "model.pt", layout="monai")
    layers = [
        *("features.conv0", "features.norm0", "features.norm5", "class_layers.out"),
        *("features.transition1.norm", "features.transition1.conv"),
        *(
            f"features.denseblock{block}.denselayer1.layers.{layer}"
            for block in (1, 2)
            for layer in ("norm1", "conv1", "norm2", "conv2")
        ),
    ]
    arrays = read_pth(path)
    assert {name.rpartition(".")[0] for name in arrays} == set(layers)
    again = kd.DenseNetBC(
        blocks=(1, 1), growth_rate=4, stem="imagenet", input_shape=(32, 32, 32, 1)
    )
    kd.weights.load(again, path)
    assert_same(weights_of(volumes), weights_of(again))
    with pytest.raises(kd.weights.WeightsError, match="layout='timm'"):
        kd.weights.save(volumes, tmp_path / "other.pt", layout="timm")


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_our_own_files(tmp_path, suffix):
    model, other = small(), small()
    kd.weights.load(model, state_dict(model))
    path = tmp_path / f"model{suffix}"
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    kd.weights.load(other, path)
    assert_same(weights_of(model), weights_of(other))
    # All but the classifier can be loaded into a network with other classes.
    three = small(classes=3)
    before = three.get_layer("classifier").get_weights()
    kd.weights.load(three, path, include_top=False)
    assert_same(weights_of(model)[:-2], weights_of(three)[:-2])
    assert_same(before, three.get_layer("classifier").get_weights())


@pytest.mark.parametrize("name", ["new", "old"])
def test_what_pytorch_saves(name, tmp_path):
    """The tensors are those that `pytorch_answers.py` makes."""
    path = HELPERS / f"pytorch_{name}.pth"
    found = read_pth(path)
    matrix = np.arange(12, dtype="float32").reshape(3, 4)
    expected = {
        "matrix": matrix,
        "transposed": matrix.T,
        "middle": np.array([5, 6, 7, 8], "float32"),
        "half": np.array([0.5, -2], "float16"),
        "bfloat16": np.array([0.5, -2], ml_dtypes.bfloat16),
        "double": np.array([[0.1]]),
        "count": np.array(3),
        "empty": np.zeros((0, 3), "float32"),
        "parameter": np.ones(2, "float32"),
    }
    assert list(found) == list(expected)
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array)
        assert np.asarray(found[key]).dtype == array.dtype
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 7):
        cut = tmp_path / "cut.pth"
        cut.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match="cut"):
            read_pth(cut)


def test_views_into_one_storage(tmp_path):
    """Tensors may share numbers, be transposed, and begin in their middle."""
    from keras_densenet.weights.pytorch_files import StoredArray, _Storage

    numbers = np.arange(12, dtype="float32")
    storage = _Storage(np.float32, "0")

    def stored(*view):
        return np.asarray(StoredArray(storage, *view, lambda *_: numbers))

    view = stored(1, (2, 3), (1, 4))
    np.testing.assert_array_equal(view, [[1, 5, 9], [2, 6, 10]])
    assert stored(1, (3, 3), (1, 4))[-1, -1] == 11  # the last number
    for bad in (
        (2, (3, 3), (1, 4)),  # its last is number 12, which does not exist
        (0, (2,), (-1,)),
        (0, (-2,), (1,)),
        (0, (2, 2), (1,)),
        (0, (10**12,), (0,)),  # one number, so often that no memory holds it
    ):
        with pytest.raises(WeightsError):
            stored(*bad)


@pytest.mark.parametrize("dtype", ["float16", "float64", ml_dtypes.bfloat16])
def test_other_precisions(dtype):
    model, other = small(), small()
    state = {n: a.astype(dtype) for n, a in state_dict(model).items()}
    kd.weights.load(model, state)
    kd.weights.load(other, {n: a.astype("float32") for n, a in state.items()})
    assert_same(weights_of(model), weights_of(other))


def test_the_content_says_what_a_file_is(tmp_path):
    model, other = small(), small()
    kd.weights.load(model, state_dict(model))
    for suffix, endings in (
        (".pth", (".pth.tar", ".ckpt", ".weights", ".h5")),
        (".safetensors", (".pth", ".model")),
    ):
        saved = kd.weights.save(model, tmp_path / f"saved{suffix}").read_bytes()
        for ending in endings:
            path = tmp_path / f"other{ending}"
            path.write_bytes(saved)
            other.set_weights([0 * weight for weight in other.get_weights()])
            kd.weights.load(other, path)
            assert_same(weights_of(model), weights_of(other))
            assert preprocessing(path) is None
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    for file, ending in (("model.keras", ".zip"), ("model.weights.h5", ".ckpt")):
        (tmp_path / file).rename(tmp_path / f"renamed{ending}")
        other.set_weights([0 * weight for weight in other.get_weights()])
        kd.weights.load(other, tmp_path / f"renamed{ending}")
        assert_same(weights_of(model), weights_of(other))
    with tarfile.open(tmp_path / "old.tar", "w") as archive:
        archive.add(tmp_path / "saved.pth", "saved.pth")
    with pytest.raises(WeightsError, match="an archive of tar"):
        kd.weights.load(other, tmp_path / "old.tar")


class Touching:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_what_is_beside_the_weights_is_passed_over(tmp_path, protocol):
    """As timm's and Lightning's checkpoints have it; what is called there, is not."""
    mark = tmp_path / "ran"
    beside = {
        "args": argparse.Namespace(lr=0.1, hosts=["a"]),
        "best": np.float64(0.5),
        "history": np.zeros(3),
        "when": datetime.datetime(2020, 1, 1),
        "counts": collections.defaultdict(list, {1: [2]}),
        "names": {"a", "b"},
        "queue": collections.deque([1, 2]),
        "class": argparse.Namespace,
        "evil": Touching(mark),
    }
    model, other = small(), small()
    kd.weights.load(model, state_dict(model))
    plain = kd.weights.save(model, tmp_path / "plain.pth")
    with zipfile.ZipFile(plain) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    # One pickle of both: {"state_dict": weights} | beside, without PROTO and STOP.
    name = next(name for name in parts if name.endswith("/data.pkl"))
    inner = parts.pop(name)[2:-1]
    other_things = pickle.dumps(beside, protocol)
    frames = [pickle.PROTO + b"\x05}(X\x0a\0\0\0state_dict", inner, b"X\4\0\0\0rest"]
    frames += [other_things[2 if protocol else 0 : -1], b"u."]
    whole = tmp_path / "whole.pth"
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr(name, b"".join(frames))
        for other_name, part in parts.items():
            archive.writestr(other_name, part)
    kd.weights.load(other, whole)
    assert_same(weights_of(model), weights_of(other))
    assert not mark.exists()
    rest = read_pth(whole)["rest"]
    assert {type(thing).__mro__[-2] for thing in rest.values()} >= {Inert}
    pickle.loads(pickle.dumps(beside["evil"], protocol))  # what Python would do
    assert mark.exists()


# --- every weight is accounted for -------------------------------------------------


@pytest.mark.parametrize("inflate", [False, True])
def test_a_network_of_blocks_without_a_stem_is_refused(inflate):
    inputs = keras.Input((8, 8, 3))
    mine = keras.Model(inputs, kd.layers.DenseBlock(2, 4)(inputs), name="mine")
    theirs = kd.DenseNetBC(blocks=(2,), growth_rate=4, input_shape=(8, 8, 3))
    with pytest.raises(WeightsError, match="mine has neither a layer 'stem_conv'"):
        kd.weights.load(mine, theirs, inflate=inflate)


def of_keras(*head, front=()):
    """DenseNetBC(10, 4) of Keras's own layers, in the order of keras.applications."""

    def normalized(x):
        return keras.layers.ReLU()(keras.layers.BatchNormalization(epsilon=1.001e-5)(x))

    def convolved(x, maps, size):
        return keras.layers.Conv2D(maps, size, padding="same", use_bias=False)(x)

    pictures = x = keras.Input((8, 8, 3))
    for layer in front:
        x = layer(x)
    x = convolved(x, 8, 3)
    for block in range(3):
        if block:
            x = convolved(normalized(x), x.shape[-1] // 2, 1)
            x = keras.layers.AveragePooling2D(2)(x)
        new = convolved(normalized(convolved(normalized(x), 16, 1)), 4, 3)
        x = keras.layers.Concatenate()([x, new])
    x = keras.layers.GlobalAveragePooling2D()(normalized(x))
    for layer in head:
        x = layer(x)
    return keras.Model(pictures, x)


def of_ours(*head, front=()):
    """The same of our layers, with another head than ours."""
    network = tiny()
    pictures = x = keras.Input((8, 8, 3))
    for layer in front:
        x = layer(x)
    whole = keras.Model(network.input, network.get_layer("global_average_pool").output)
    x = whole(x)
    for layer in head:
        x = layer(x)
    return keras.Model(pictures, x)


def tiny(classes=3):
    return kd.DenseNetBC(10, 4, classes=classes, input_shape=(8, 8, 3))


def softmax(classes=3):
    return keras.layers.Dense(classes, "softmax")


@pytest.mark.parametrize("make", [of_keras, of_ours])
@pytest.mark.parametrize("is_within", [False, True])
def test_a_network_of_keras_answers_as_it_did(make, is_within):
    theirs = make(softmax())
    if is_within:
        layers = [keras.layers.Rescaling(1.0), theirs]
        theirs = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    ours = tiny()
    assert kd.weights.load(ours, theirs).unused == []
    pictures = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(ours(pictures), theirs(pictures), atol=1e-5)


@pytest.mark.parametrize("make", [of_keras, of_ours])
def test_a_hidden_layer_is_not_dropped(make):
    hidden = keras.layers.Dense(9, "relu", name="hidden")  # as wide as the maps
    theirs, ours = make(hidden, softmax()), tiny()
    before = weights_of(ours)
    with pytest.raises(WeightsError, match=r"unexpected: classifier\.hidden/kernel"):
        kd.weights.load(ours, theirs)
    assert_same(weights_of(ours), before)
    loaded = kd.weights.load(ours, theirs, include_top=False)
    assert loaded.weights + len(loaded.unused) == len(theirs.weights)
    assert loaded.unused[:2] == ["classifier.hidden/kernel", "classifier.hidden/bias"]
    assert_same(weights_of(ours)[-2:], before[-2:])  # the classifier is as it was
    assert_same(weights_of(ours)[:1], weights_of(theirs)[:1])


def test_a_hidden_layer_of_pytorch_is_not_dropped():
    ours = tiny()
    state = state_dict(ours)
    head = {n: state.pop(n) for n in ("classifier.weight", "classifier.bias")}
    hidden = {"classifier.0.weight": np.eye(9), "classifier.0.bias": np.zeros(9)}
    last = {n.replace(".", ".2."): array for n, array in head.items()}
    with pytest.raises(WeightsError, match="include_top=False"):
        kd.weights.load(ours, state | hidden | last)
    with pytest.raises(WeightsError, match=r"unexpected: classifier\.0\.weight"):
        kd.weights.load(ours, state | hidden | head)
    loaded = kd.weights.load(ours, state | hidden | last, include_top=False)
    assert loaded.unused == [*hidden, *last]


@pytest.mark.parametrize("make", [of_keras, of_ours])
def test_other_weights_before_the_last_batch_norm_are_refused(make):
    theirs = make(softmax(), front=[keras.layers.Conv2D(3, 1)])
    for include_top in (True, False):
        with pytest.raises(WeightsError, match="Give weights of the same network"):
            kd.weights.load(tiny(), theirs, include_top=include_top)


def test_what_would_not_be_loaded_into_is_refused(tmp_path):
    network = tiny()
    hidden = keras.layers.Dense(9, "relu", name="hidden")
    answer = keras.layers.Dense(3, "softmax", name="classifier")
    x = network.get_layer("global_average_pool").output
    model = keras.Model(network.input, answer(hidden(x)))
    with pytest.raises(WeightsError, match=r"no other DenseNet has.*hidden/kernel"):
        kd.weights.load(model, tiny())
    assert kd.weights.load(model, tiny(), include_top=False).weights == 47 - 2
    with pytest.raises(WeightsError, match="no place for: hidden/kernel"):
        kd.weights.save(model, tmp_path / "model.pth")


def test_a_whole_model_in_h5_and_a_model_within_one(tmp_path):
    ours, other = tiny(), tiny()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras says that .keras is newer
        ours.save(tmp_path / "whole.h5")
    kd.weights.load(other, tmp_path / "whole.h5")
    assert_same(weights_of(ours), weights_of(other))
    dropping = kd.DenseNetBC(10, 4, classes=3, input_shape=(8, 8, 3), dropout_rate=0.2)
    dropping.save_weights(tmp_path / "dropout.weights.h5")  # with seeds
    kd.weights.load(other, tmp_path / "dropout.weights.h5")
    assert_same(weights_of(dropping), weights_of(other))
    maps = ours.get_layer("global_average_pool").output
    answer = keras.layers.Dense(3)(keras.layers.Dense(3, name="classifier")(maps))
    keras.Model(ours.input, answer).save_weights(tmp_path / "hidden.weights.h5")
    with pytest.raises(WeightsError, match=r"unexpected: .*dense/kernel.*include_top"):
        kd.weights.load(other, tmp_path / "hidden.weights.h5")
    theirs = of_ours(softmax())
    theirs.save(tmp_path / "nested.keras")
    kd.weights.load(other, tmp_path / "nested.keras")
    assert_same(weights_of(theirs), weights_of(other))
    theirs.save_weights(tmp_path / "nested.weights.h5")
    other.set_weights([0 * weight for weight in other.get_weights()])
    kd.weights.load(other, tmp_path / "nested.weights.h5")
    assert_same(weights_of(theirs), weights_of(other))


# --- keras.applications ------------------------------------------------------------


def random_application(**options):
    theirs = keras.applications.DenseNet121(weights=None, **options)
    rng = np.random.default_rng(0)
    for weight in theirs.weights:
        is_variance = weight.path.endswith(("variance", "gamma"))
        low, high = (0.5, 1.5) if is_variance else (-0.05, 0.05)
        weight.assign(rng.uniform(low, high, weight.shape))
    # A channel that is nearly the same everywhere shows another epsilon.
    theirs.get_layer("bn").moving_variance.assign(np.full(1024, 1e-6))
    return theirs


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"classes": 7, "classifier_activation": None},
        *(
            pytest.param(
                {"include_top": False, "pooling": pooling}, marks=pytest.mark.slow
            )
            for pooling in (None, "avg", "max")
        ),
    ],
    ids=str,
)
def test_answers_of_keras_applications(tmp_path, options):
    options = {"input_shape": (64, 64, 3), **options}
    theirs = random_application(**options)
    pictures = pytorch.pictures(64)
    expected = theirs(pictures, training=False)
    path = tmp_path / "theirs.weights.h5"
    theirs.save_weights(path)
    loaded = kd.DenseNet121(**options)
    kd.weights.load(loaded, theirs)
    for ours in (loaded, kd.DenseNet121(weights=path, **options)):
        scale = np.abs(expected).max()
        found = ours(pictures, training=False)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * scale)


@pytest.mark.slow
def test_a_whole_application_and_one_within_a_model(tmp_path):
    options = {"input_shape": (32, 32, 3)}
    theirs = random_application(classes=3, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras says that .keras is newer
        theirs.save(tmp_path / "whole.h5")
    base = random_application(include_top=False, **options)
    top = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, "softmax")]
    nested = keras.Sequential([keras.Input((32, 32, 3)), base, *top])
    nested.save(tmp_path / "nested.keras")
    ours, pictures = kd.DenseNet121(classes=3, **options), pytorch.pictures(32)
    for source, model in (("whole.h5", theirs), ("nested.keras", nested)):
        assert kd.weights.load(ours, tmp_path / source).unused == []
        expected = model(pictures, training=False)
        np.testing.assert_allclose(ours(pictures, training=False), expected, atol=1e-4)
    hidden = keras.layers.Dense(1024, activation="relu")
    outputs = top[1](hidden(top[0](base.output)))
    with pytest.raises(WeightsError, match="include_top=False"):
        kd.weights.load(ours, keras.Model(base.input, outputs))
    assert preprocessing(nested) == preprocessing("imagenet")


@pytest.mark.slow
@pytest.mark.parametrize("has_top", [True, False])
def test_a_file_of_keras_2(tmp_path, has_top):
    """keras.applications offers them as `..._kernels.h5` and `..._notop.h5`."""
    from keras.src.legacy.saving import legacy_h5_format

    theirs = random_application(input_shape=(64, 64, 3), include_top=has_top)
    path = tmp_path / "densenet121.h5"
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, theirs)
    ours = kd.DenseNet121(include_top=False, input_shape=(64, 64, 3))
    loaded = kd.weights.load(ours, path)
    top = ["classifier.weight", "classifier.bias"] if has_top else []
    assert loaded.unused == top
    pictures = pytorch.pictures(64)
    maps = keras.Model(theirs.input, theirs.get_layer("relu").output)
    expected = maps(pictures, training=False)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
        ours(pictures, training=False), expected, rtol=0, atol=1e-4 * scale
    )


@pytest.mark.slow
def test_weights_that_keras_downloads(monkeypatch):
    options = {"include_top": False, "input_shape": (32, 32, 3)}
    theirs = random_application(**options)
    asked = []

    def download(include_top):
        asked.append(include_top)
        return theirs

    monkeypatch.setattr(keras.applications, "DenseNet121", download)
    ours = kd.DenseNet121(weights="imagenet", **options)
    np.testing.assert_array_equal(ours.get_weights()[0], theirs.get_weights()[0])
    assert asked == [False]


def test_imagenet_without_a_network(monkeypatch):
    def refuse(include_top):
        raise Exception("URL fetch failure on https://...")

    monkeypatch.setattr(keras.applications, "DenseNet121", refuse)
    name = "densenet121_weights_tf_dim_ordering_tf_kernels.h5"
    with pytest.raises(WeightsError, match=name):
        kd.DenseNet121(weights="imagenet")
    with pytest.raises(WeightsError, match=r"densenet161.*torchvision"):
        kd.DenseNet161(weights="imagenet")


@pytest.mark.slow
def test_imagenet_has_no_weights_of_another_width():
    narrow = {"blocks": (6, 12, 24, 16), "growth_rate": 32, "stem": "imagenet"}
    with pytest.raises(WeightsError, match=r"not for narrow"):  # before a download
        kd.DenseNetBC(bn_size=2, weights="imagenet", name="narrow", **narrow)


# --- what is refused ---------------------------------------------------------------


def archive_of(path, pickled):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)


def calling(function):
    """Pickle a call of a function, `module.name`, that touches a file."""
    module, name = function.rsplit(".", 1)
    return f"c{module}\n{name}\n(S'{{path}}'\ntR.".encode()


@pytest.mark.parametrize("is_archive", [True, False])
@pytest.mark.parametrize("function", ["os.system", "builtins.eval", "os.mkdir"])
def test_code_in_a_pickle_is_not_run(tmp_path, is_archive, function):
    mark = tmp_path / "ran"
    pickled = calling(function).replace(b"{path}", str(mark).encode())
    path = tmp_path / "evil.pth"
    archive_of(path, pickled) if is_archive else path.write_bytes(pickled)
    model = small()
    before = weights_of(model)
    with pytest.raises(WeightsError, match=f"calls for {function}"):
        kd.weights.load(model, path)
    assert not mark.exists()
    assert_same(weights_of(model), before)


def test_a_whole_model_of_pytorch_says_what_to_save(tmp_path):
    path = tmp_path / "model.pth"
    archive_of(path, b"ctorchvision.models.densenet\nDenseNet\n)R.")
    with pytest.raises(WeightsError, match=r"model.state_dict\(\)"):
        kd.weights.load(small(), path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: {n: a for n, a in s.items() if "norm5.bias" not in n}, "missing"),
        (lambda s: s | {"features.conv9.weight": np.zeros(3)}, "unexpected"),
        (lambda s: s | {"features.conv0.weight": np.zeros((8, 3, 7, 7))}, "(7, 7, 3"),
        (lambda s: s | {"features.conv1.weight": np.zeros(3)}, "deep stem"),
        (lambda s: s | {"features.transition1.pool.filt": np.zeros(3)}, "blur"),
        (lambda s: s | {"classifier.bias": np.zeros(7)}, "include_top=False"),
        (lambda s: {}, "no weights by name"),
        (lambda s: s | {"features.conv0.weight": "text"}, "no array but a str"),
    ],
)
def test_other_networks_are_refused_and_the_model_is_as_it_was(change, words):
    model = small()
    before = weights_of(model)
    with pytest.raises(WeightsError) as refused:
        kd.weights.load(model, change(state_dict(model)))
    assert words in str(refused.value)
    assert_same(weights_of(model), before)


@pytest.mark.parametrize(
    "name", ["x.pth", "x.pt", "x.safetensors", "x.keras", "x.weights.h5", "x.h5"]
)
def test_files_of_something_else_are_refused(tmp_path, name):
    path = tmp_path / name
    rng = np.random.default_rng(0)
    for content in (b"", b"not weights at all", rng.bytes(5000)):
        path.write_bytes(content)
        with pytest.raises(WeightsError):
            kd.weights.load(small(), path)
    with pytest.raises(FileNotFoundError):
        kd.weights.load(small(), tmp_path / f"no{name}")


def test_another_keras_network_is_refused():
    other = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3))
    with pytest.raises(WeightsError, match="another network"):
        kd.weights.load(small(), other)
    with pytest.raises(WeightsError, match="no DenseNet of keras_densenet"):
        kd.weights.load(other, small())
    with pytest.raises(WeightsError, match="is no file of weights"):
        kd.weights.load(small(), __file__)
    with pytest.raises(WeightsError, match=r"must end in .pth"):
        kd.weights.save(small(), "weights.bin")
