"""Weights in all that training scripts of PyTorch write, and nothing in it is run."""

import argparse
import copyreg
import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pytest
import pytorch_answers as pytorch

import keras_densenet as kd
from keras_densenet.weights import WeightsError, preprocessing
from keras_densenet.weights.loading import read_state_dict
from keras_densenet.weights.names import (
    by_todays_names,
    from_pytorch,
    weights_by_name,
)
from keras_densenet.weights.pytorch_files import read_pth
from keras_densenet.weights.state_dict import state_dicts

SHAPE = (8, 8, 3)


def small(classes=10):
    return kd.DenseNetBC(10, 4, classes=classes, input_shape=SHAPE)


@pytest.fixture(scope="module")
def state():
    """The weights of a network, by torchvision's names."""
    return {
        weight.name: pytorch.weight(weight.name, weight.shape)
        for weight in weights_by_name(small())
    }


def loaded(source, **options):
    model = small()
    done = kd.weights.load(model, source, **options)
    return {weight.name: weight for weight in weights_by_name(model)}, done


def assert_loaded(source, state, left_out=()):
    weights, done = loaded(source)
    model = small()
    kd.weights.load(model, state)
    for weight in weights_by_name(model):
        np.testing.assert_array_equal(weights[weight.name].variable, weight.variable)
    assert done.unused == list(left_out)


# --- names -----------------------------------------------------------------------


def of_monai(name):
    name = name.replace("classifier.", "class_layers.out.")
    for kind in ("norm1", "norm2", "conv1", "conv2"):
        name = name.replace(f"denselayer1.{kind}", f"denselayer1.layers.{kind}")
    return name


@pytest.mark.parametrize(
    "renamed",
    [
        of_monai,
        lambda name: name.replace("norm5", "norm_final"),  # efficient_densenet_pytorch
        lambda name: name.replace("features.", "backbone.0."),  # RadImageNet
        lambda name: name.removeprefix("features."),
        lambda name: name.replace("features.", "0.0.").replace("classifier", "1.8"),
        lambda name: f"model.densenet121.{name}".replace("classifier", "classifier.0"),
        lambda name: f"_orig_mod.module.encoder.{name}".replace("classifier", "fc"),
    ],
    ids=[
        *("MONAI", "efficient_densenet_pytorch", "RadImageNet", "no beginning"),
        *("fastai", "CheXNet", "torch.compile"),
    ],
)
def test_names_of_the_same_network(state, renamed):
    assert_loaded({renamed(name): array for name, array in state.items()}, state)


@pytest.mark.parametrize("beginning", ["", "0.", "module.features."])
def test_features_without_names(state, beginning):
    """`nn.Sequential(*features.children())` of a network for small pictures.

    Its children are conv0, denseblock1, transition1, denseblock2, and so on.
    """
    numbers = {"conv0": 0, "denseblock1": 1, "transition1": 2, "denseblock2": 3}
    numbers |= {"transition2": 4, "denseblock3": 5, "norm5": 6}
    renamed = {}
    for name, array in state.items():
        top, child, rest = [*name.split(".", 2), ""][:3]
        is_head = top == "classifier"
        new = f"9.{child}" if is_head else f"{beginning}{numbers[child]}.{rest}"
        renamed[new] = array
    assert f"{beginning}5.denselayer1.norm1.running_var" in renamed
    assert_loaded(renamed, state)


def test_features_without_names_of_a_network_for_imagenet():
    """The first block is the fifth child, after conv0, norm0, ReLU and pooling."""
    ours = kd.DenseNet(blocks=(1, 1), stem="imagenet", input_shape=(32, 32, 3))
    by_name = {w.name: pytorch.weight(w.name, w.shape) for w in weights_by_name(ours)}
    numbers = {"conv0": 0, "norm0": 1, "denseblock1": 4, "transition1": 5}
    numbers |= {"denseblock2": 6, "norm5": 7}
    numbered = {}
    for name, array in by_name.items():
        _, child, *rest = name.split(".")
        is_head = name.startswith("classifier")
        numbered[name if is_head else ".".join([str(numbers[child]), *rest])] = array
    kd.weights.load(ours, numbered)
    for weight in weights_by_name(ours):
        expected = from_pytorch(by_name[weight.name])
        np.testing.assert_array_equal(weight.variable, expected)


def test_complex_numbers_are_refused(state):
    both = {"classifier.bias": state["classifier.bias"] + 1j}
    with pytest.raises(WeightsError, match="complex numbers"):
        loaded(state | both)


def test_what_is_no_layers_is_named(state):
    """torchxrayvision has thresholds, and a Lightning module the loss's weights."""
    more = {
        "op_threshs": np.full(10, 0.5),
        "loss.weight": np.ones(10),
        "features.norm5.num_batches_tracked": np.array(7),
    }
    left_out = ["op_threshs", "loss.weight", "features.norm5.num_batches_tracked"]
    assert_loaded(state | more, state, left_out)


def test_a_head_of_several_layers_is_the_classifier(state):
    """Of fastai: a batch norm and two matrices."""
    backbone = {n: a for n, a in state.items() if not n.startswith("classifier")}
    head = {
        "1.2.running_mean": np.zeros(9),
        "1.2.weight": np.ones(9),
        "1.4.weight": np.eye(9),
        "1.8.weight": np.zeros((10, 9)),
    }
    with pytest.raises(WeightsError, match="include_top=False"):
        loaded(backbone | head)
    _, done = loaded(backbone | head, include_top=False)
    assert sorted(done.unused) == sorted(f"classifier.{name}" for name in head)


def test_a_convolution_before_the_network_is_not_dropped(state):
    stem = {"features.conv0.weight": state["features.conv0.weight"]}
    channels = next(iter(stem.values())).shape[1]
    before = {"to_rgb.weight": np.zeros((channels, 1, 1, 1))}
    decoder = {"decoder.weight": np.zeros((channels + 1, 8, 3, 3))}
    with pytest.raises(WeightsError, match=r"to_rgb\.weight, that makes as many maps"):
        kd.weights.load(small(), state | before, include_top=False)
    kd.weights.load(small(), state | decoder, include_top=False)


def test_two_networks_are_not_mixed(state):
    two = {f"student.{name}": array for name, array in state.items()}
    two |= {f"teacher.{name}": array for name, array in state.items()}
    with pytest.raises(WeightsError, match=r"'student\.features\.', 'teacher"):
        loaded(two)


@pytest.mark.parametrize(
    "checkpoint",
    [
        lambda state: {"net": state, "acc": 90.5, "epoch": 3},
        lambda state: {"state_dict_ema": {}, "model": {"state_dict": state}},
        lambda state: {"ema": state},
        lambda state: {"optimizer": {"state": {0: {"step": np.ones(1)}}}, "x": state},
    ],
)
def test_where_the_weights_are_is_found(state, checkpoint):
    assert_loaded(checkpoint(state), state)


def test_the_weights_come_before_their_averages(state):
    averages = {name: 0 * array for name, array in state.items()}
    assert_loaded({"ema": averages, "state_dict": state}, state)
    assert_loaded({"ema": averages, **state}, state, left_out=["ema"])
    assert list(state_dicts({"ema": averages, "state_dict": state})) == [
        *("ema", "state_dict")
    ]


def test_which_of_two_networks_is_not_guessed(state):
    with pytest.raises(WeightsError, match=r"has 2 DenseNets.*student, teacher"):
        loaded({"student": state, "teacher": dict(state)})


def test_names_are_of_arrays_in_any_rank():
    arrays = {"conv0.weight": np.zeros((8, 1, 7, 7, 7)), "out.weight": np.eye(8)}
    assert list(by_todays_names(arrays)[0]) == [
        *("features.conv0.weight", "classifier.weight")
    ]


# --- pickles that are no state dicts ------------------------------------------------


@dataclass
class Global:
    """A class or a function by its name."""

    module: str
    name: str


@dataclass
class Pickled:
    """An object of a class of which only the name is known."""

    kind: Global
    attributes: dict


@dataclass
class Rebuilt:
    """An array, as PyTorch's pickle has it: its numbers lie beside, under a key."""

    key: str
    array: np.ndarray


class Storage(Rebuilt):
    """The numbers of an array."""


class Pickler(pickle._Pickler):
    """Writes what PyTorch writes, without it."""

    def save(self, thing, save_persistent_id=True):
        if isinstance(thing, Global):
            self.write(f"c{thing.module}\n{thing.name}\n".encode())
        elif isinstance(thing, Pickled):
            self.save(thing.kind)
            self.write(pickle.EMPTY_TUPLE + pickle.NEWOBJ)
            self.save(thing.attributes)
            self.write(pickle.BUILD)
        elif isinstance(thing, Storage):
            kind = Global("torch", "FloatStorage")
            self.save(("storage", kind, thing.key, "cpu", thing.array.size))
            self.write(pickle.BINPERSID)
        elif isinstance(thing, Rebuilt):
            array = thing.array
            strides = tuple(stride // array.itemsize for stride in array.strides)
            self.save(Global("torch._utils", "_rebuild_tensor_v2"))
            storage = Storage(thing.key, array)
            self.save((storage, 0, array.shape, strides, False, OrderedDict()))
            self.write(pickle.REDUCE)
        else:
            super().save(thing, save_persistent_id)


def as_tensors(state):
    arrays = {n: np.ascontiguousarray(a, "float32") for n, a in state.items()}
    tensors = {n: Rebuilt(str(i), a) for i, (n, a) in enumerate(arrays.items())}
    return tensors, [tensor.array for tensor in tensors.values()]


def pickled(thing, protocol=2):
    file = io.BytesIO()
    Pickler(file, protocol).dump(thing)
    return file.getvalue()


def write_archive(path, thing, arrays=(), compression=zipfile.ZIP_STORED):
    content = thing if isinstance(thing, bytes) else pickled(thing)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", content)
        for number, array in enumerate(arrays):
            archive.writestr(f"archive/data/{number}", array.tobytes())
    return path


def write_before_1_6(path, thing, arrays):
    with path.open("wb") as file:
        for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, thing):
            file.write(pickled(part))
        file.write(pickled([str(number) for number in range(len(arrays))]))
        for array in arrays:
            file.write(struct.pack("<q", array.size) + array.tobytes())
    return path


SEQUENTIAL = Global("torch.nn.modules.container", "Sequential")


def module(state, kind=SEQUENTIAL):
    """Put arrays into modules within modules, as their names say."""
    own = {n: a for n, a in state.items() if "." not in n}
    buffers = OrderedDict((n, a) for n, a in own.items() if n.startswith("running"))
    parameters = OrderedDict((n, a) for n, a in own.items() if n not in buffers)
    inner: dict[str, dict] = {}
    for full, array in state.items():
        first, dot, rest = full.partition(".")
        if dot:
            inner.setdefault(first, {})[rest] = array
    return Pickled(
        kind,
        {
            "training": True,
            "_parameters": parameters,
            "_buffers": buffers,
            "_modules": OrderedDict((n, module(s)) for n, s in inner.items()),
        },
    )


@pytest.mark.parametrize("write", [write_archive, write_before_1_6])
@pytest.mark.parametrize("is_within", [False, True])
def test_a_whole_model_is_read_by_its_modules(tmp_path, state, write, is_within):
    tensors, arrays = as_tensors(state)
    whole = module(tensors, Global("torchxrayvision.models", "DenseNet"))
    saved = {"model": whole, "epoch": 7} if is_within else whole
    path = write(tmp_path / "model.pt", saved, arrays)
    assert_loaded(path, state)
    assert preprocessing(path) == ((127.5,) * 3, (127.5 / 1024,) * 3)  # -1024..1024


def test_the_epsilon_of_a_whole_models_batch_norms_is_theirs(tmp_path, state):
    """It stands beside the variance, to which what is above 1e-5 is added."""
    tensors, arrays = as_tensors(state)
    whole = module(tensors)
    norm = whole
    for name in ("features", "norm5"):
        norm = norm.attributes["_modules"][name]
    norm.attributes["eps"] = 1e-3
    path = write_archive(tmp_path / "model.pt", whole, arrays)
    found = read_state_dict(path)
    for name, array in state.items():
        if name.endswith("running_var"):
            added = 0.00099 if name == "features.norm5.running_var" else 0
            np.testing.assert_allclose(found[name] - array, added, atol=1e-7)


def test_a_whole_model_with_another_activation_is_another_network(tmp_path, state):
    """MONAI's DenseNet of `act="elu"` has it by the name of the ReLU."""
    tensors, arrays = as_tensors(state)
    whole = module(tensors)
    layer = whole
    for name in ("features", "denseblock1", "denselayer1"):
        layer = layer.attributes["_modules"][name]
    for kind in ("ReLU", "ELU"):
        activation = Global("torch.nn.modules.activation", kind)
        layer.attributes["_modules"]["relu1"] = module({}, activation)
        path = write_archive(tmp_path / f"{kind}.pt", whole, arrays)
        if kind == "ReLU":
            assert_loaded(path, state)
        else:
            with pytest.raises(WeightsError, match=r"relu1 is no ReLU, but .*\.ELU"):
                loaded(path)


def test_a_state_dict_of_an_unknown_kind_of_dictionary_is_read(tmp_path, state):
    tensors, arrays = as_tensors(state)

    class Entries(Pickler):
        def save(self, thing, save_persistent_id=True):
            if thing == "here":
                self.write(b"cyacs.config\nCfgNode\n)\x81(")
                for name, tensor in tensors.items():
                    self.save(name)
                    self.save(tensor)
                self.write(pickle.SETITEMS)
            else:
                super().save(thing, save_persistent_id)

    file = io.BytesIO()
    Entries(file, 2).dump({"state_dict": "here"})
    assert_loaded(write_archive(tmp_path / "x.ckpt", file.getvalue(), arrays), state)


class Calling:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce_ex__(self, protocol):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "dress",
    [
        lambda evil: {"args": argparse.Namespace(path=evil)},
        lambda evil: {"names": [evil, {"deeper": (evil,)}]},
        lambda evil: OrderedDict(evil=evil),
    ],
    ids=["a Namespace", "a list", "an entry"],
)
def test_nothing_is_run(tmp_path, state, dress, protocol):
    mark = tmp_path / "canary"
    evil = [
        Calling(os.system, f"touch {mark}"),
        Calling(eval, f"open({str(mark)!r}, 'w')"),
        Calling(os.makedirs, str(mark)),
        Calling(getattr, "text", "upper"),
    ]
    tensors, arrays = as_tensors(state)
    saved = {"state_dict": tensors} | dress(evil)
    path = write_archive(tmp_path / "x.pt", pickled(saved, protocol), arrays)
    assert_loaded(path, state)
    assert not mark.exists()


def test_the_extension_registry_is_not_asked(tmp_path):
    """A number stands for a function there, which `find_class` would never see."""
    copyreg.add_extension("os", "mkdir", 240)
    try:
        mark = tmp_path / "canary"
        evil = b"\x80\x02\x82\xf0" + pickled((str(mark),))[2:-1] + b"R."
        path = write_archive(tmp_path / "x.pt", evil)
        with pytest.raises(WeightsError, match="extension registry"):
            read_pth(path)
        assert not mark.exists()
    finally:
        copyreg.remove_extension("os", "mkdir", 240)


def test_functions_of_the_reader_keep_their_attributes(tmp_path):
    """A pickle may set attributes of what it gets: here the defaults of a function."""
    evil = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + pickle.NONE
    evil += b"}U\x0c__defaults__K\x01\x85s\x86b."
    path = write_archive(tmp_path / "x.pt", evil)
    with pytest.raises(WeightsError):
        kd.weights.load(small(), path)
    from keras_densenet.weights.pytorch_files import _Unpickler

    assert _Unpickler._rebuilt.__defaults__ is None


# --- files that claim more than they have -------------------------------------------


def test_a_compressed_archive_is_refused(tmp_path):
    path = write_archive(
        tmp_path / "bomb.pt", {"a": 1}, [np.zeros(10**7)], zipfile.ZIP_DEFLATED
    )
    assert path.stat().st_size < 10**6
    with pytest.raises(WeightsError, match=r"unpacked it has 80,000,0\d\d bytes"):
        kd.weights.load(small(), path)


def test_numbers_that_the_file_has_not(tmp_path, state):
    tensors, arrays = as_tensors(state)
    name = "features.conv0.weight"
    path = tmp_path / "x.pt"
    tensors[name].array = np.lib.stride_tricks.as_strided(  # 4 TB
        tensors[name].array, (10**6, 10**6), (0, 0)
    )
    write_archive(path, tensors, arrays)
    with pytest.raises(WeightsError, match="beyond its numbers") as error:
        kd.weights.load(small(), path)
    assert str(error.value).count(str(path)) == 1
    write_before_1_6(path, {"a": Rebuilt("0", arrays[0])}, arrays[:1])
    whole = path.read_bytes()
    size = struct.pack("<q", arrays[0].size)
    path.write_bytes(whole.replace(size, struct.pack("<q", 2**60)))
    with pytest.raises(WeightsError, match="cut off"):
        read_pth(path)


def test_lists_that_hold_each_other_many_times(tmp_path, state):
    """30 lists, each of which has the one before it twice: 2^30 ways to walk."""
    nested = []
    for _ in range(30):
        nested = {"a": nested, "b": nested}
    tensors, arrays = as_tensors(state)
    saved = {"rest": nested, "state_dict": tensors}
    assert_loaded(write_archive(tmp_path / "x.pt", saved, arrays), state)


def test_arrays_of_a_file_by_name(tmp_path, state):
    """They have Keras's axes: kernels are `(H, W, in, out)`."""
    model = small()
    kd.weights.load(model, state)
    arrays = read_state_dict(kd.weights.save(model, tmp_path / "x.pth"))
    assert set(arrays) == set(state)
    assert arrays["features.conv0.weight"].shape == (3, 3, 3, 8)
    for weight in weights_by_name(model):
        np.testing.assert_array_equal(arrays[weight.name], weight.variable)
