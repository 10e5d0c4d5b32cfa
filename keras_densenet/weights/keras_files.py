"""The arrays in a file of Keras, by layer, read without building its model.

Keras builds a model by what the file says, which may be code; and where a network is
within another model, its own readers find it only with that model at hand.

    .h5            of Keras 2, or a whole model: layers name their weights
    .weights.h5    of Keras 3: a group for each layer, and in it `vars/0`, `vars/1`, ...
    .keras         an archive of the latter and of `config.json`
"""

import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import h5py
import ml_dtypes
import numpy as np

from keras_densenet.weights.errors import MOST_LETTERS, WeightsError, shown
from keras_densenet.weights.file_kind import FileKind

# What a layer has, by Keras's names, such as "kernel".
Layer: TypeAlias = dict[str, np.ndarray]

DAMAGED = (
    *(OSError, ValueError, KeyError, TypeError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, RecursionError, EOFError),
)
NORM = ("gamma", "beta", "moving_mean", "moving_variance")
KERNEL = ("kernel", "bias")
SEEDS = "seed_generator"  # of dropout
OPTIMIZER = "optimizer"
BATCH_NORM = "BatchNormalization"  # also "SyncBatchNormalization"
RELU = "relu"
# Layers that are an activation themselves, by class.
ACTIVATIONS = {"ReLU": RELU, "ELU": "elu", "LeakyReLU": "leaky_relu"}
MOST_EXPANDED = 20  # times its size in the file that weights may have in memory
MOST_QUOTED = 200  # letters of an error that ours quotes


class KerasLayers(NamedTuple):
    """The arrays of a model of Keras.

    Attributes:
        layers: Those of each layer by its path, such as "densenet121/conv1_conv".
        epsilons: Those of the batch norms by their names, of several layers of one name
            each that they have; empty where the source does not say.
        activations: Those that follow batch norms, by the names of these; likewise.
        are_in_order: Whether the layers are in the model's order.
    """

    layers: dict[str, Layer]
    epsilons: dict[str, set[float]]
    activations: dict[str, set[str]]
    are_in_order: bool


def read_keras_file(path: Path, kind: FileKind) -> KerasLayers:
    """Read all arrays of a file of Keras.

    Raises:
        WeightsError: It is damaged, or declares more than it has.
    """
    try:
        if kind == "h5":
            with h5py.File(path) as file:
                return _read(file, path.stat().st_size, file.attrs.get("model_config"))
        with zipfile.ZipFile(path) as archive:
            weights, config = _unpacked(archive, path.stat().st_size)
            with h5py.File(io.BytesIO(weights)) as file:
                return _read(file, len(weights), config)
    except WeightsError:
        raise
    except DAMAGED as error:
        raise WeightsError(
            f"{path} is damaged and cannot be read: "
            f"{' '.join(str(error).split())[:MOST_QUOTED]}. Copy or download it anew."
        ) from error


def _unpacked(archive: zipfile.ZipFile, size: int) -> tuple[bytes, bytes]:
    """Return weights and config of a `.keras` file, unless they would fill memory."""
    names = ("model.weights.h5", "config.json")
    weights, config = (_member(archive, name, size) for name in names)
    return weights, config


def _member(archive: zipfile.ZipFile, name: str, size: int) -> bytes:
    """Read a member, which Keras does not compress: no more than it is said to have.

    That may be untrue, and of what can be in an archive only deflate stops there.
    """
    info = archive.getinfo(name)
    packed = min(max(info.compress_size, 1), size)
    stops = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    if info.file_size > MOST_EXPANDED * packed or not stops:
        raise WeightsError(
            f"{name} in it would have {info.file_size:,} bytes, from {packed:,}. "
            "Download the file anew, from elsewhere."
        )
    with archive.open(info) as member:
        return member.read(info.file_size)


def _read(file: h5py.File, size: int, config: str | bytes | None) -> KerasLayers:
    named = file.get("model_weights", file)
    is_of_keras_2 = "layer_names" in named.attrs
    datasets = collected(_of_names(named) if is_of_keras_2 else _of_groups(file))
    _refuse_more_than_there_is(datasets, size)
    layers = {
        path: {name: _numbers(dataset) for name, dataset in _named(layer).items()}
        for path, layer in datasets.items()
    }
    known = json.loads(config) if config else None
    of_norms = epsilons_in(known), activations_in(known)
    if is_of_keras_2:
        return KerasLayers(layers, *of_norms, are_in_order=True)
    names = (str(options.get("name")) for _, options in _layers_in(known))
    order = {name: number for number, name in enumerate(names)}
    if not all(name in order for path in layers for name in path.split("/")[:1]):
        return KerasLayers(layers, *of_norms, are_in_order=False)
    by_order = sorted(layers, key=lambda path: _place(path, order))
    return KerasLayers({path: layers[path] for path in by_order}, *of_norms, True)


def collected(weights: Iterable[tuple[str, str, Any]]) -> dict[str, dict[str, Any]]:
    """Return arrays by layer and name.

    Args:
        weights: The layer's path, the name and the array of each.

    Raises:
        WeightsError: Two have the same names.
    """
    layers: dict[str, dict[str, Any]] = {}
    for whole_path, whole_name, array in weights:
        path, name = (shown(text, MOST_LETTERS) for text in (whole_path, whole_name))
        layer = layers.setdefault(path, {})
        if name in layer:
            raise WeightsError(
                f"there are two layers of the name {path}. Load the model in Keras, "
                "and pass the network of them that is meant: model.get_layer(name)."
            )
        layer[name] = array
    return layers


def _named(layer: dict[str, Any]) -> dict[str, Any]:
    """Return what a layer of a convolution, a batch norm or a dense one has by name.

    Keras 3 writes numbers instead. Those of other layers stay: a quantized kernel, of
    whole numbers, and its scale are no kernel and bias.
    """
    arrays = list(layer.values())
    if [*layer] != [str(number) for number in range(len(arrays))]:
        return layer
    if len(arrays) == len(NORM) and all(array.ndim == 1 for array in arrays):
        return dict(zip(NORM, arrays, strict=True))
    is_kernel = arrays[0].ndim > 1 and arrays[0].dtype.kind not in "iu"
    if len(arrays) > len(KERNEL) or not is_kernel:
        return layer
    return dict(zip(KERNEL, arrays, strict=False))


def _numbers(dataset: h5py.Dataset) -> np.ndarray:
    """Read an array. HDF5 has no bfloat16: it has two bytes of no kind instead."""
    array = np.asarray(dataset)
    if array.dtype == np.dtype("V2"):
        return array.view(ml_dtypes.bfloat16).astype("float32")
    return array


def _place(path: str, order: Mapping[str, int]) -> list[int]:
    return [order.get(name, len(order)) for name in path.split("/")]


def _of_names(group: h5py.Group) -> Iterator[tuple[str, str, h5py.Dataset]]:
    """Iterate over the weights of a file of Keras 2, as "conv1/conv/kernel:0".

    Weights that are not trained come last in each layer, also where that is a model.
    """
    for layer in group.attrs["layer_names"]:
        within = group[_text(layer)]
        for weight in map(_text, within.attrs["weight_names"]):
            path, _, name = weight.removesuffix(":0").rpartition("/")
            if SEEDS not in weight:
                yield path, name, _dataset(within, weight)


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _of_groups(
    group: h5py.Group, path: tuple[str, ...] = (), seen: set[h5py.Group] | None = None
) -> Iterator[tuple[str, str, h5py.Dataset]]:
    """Iterate over the weights of a file of Keras 3, by the names of their layers.

    Groups have the names of classes: "layers/conv2d_3/vars/0". Where the layer's own
    name is beside its weights, the path has that. A group may be in a file twice, and
    others within it, so that there are far more ways through it than it has groups.
    """
    seen = set() if seen is None else seen
    seen.add(group)
    own = group.get("vars")
    for name in sorted(own or (), key=_numbered):
        yield "/".join(path), name, _dataset(own, name)
    inner_groups = ["layers"] if not path and "layers" in group else group
    for name in sorted(inner_groups, key=_numbered):
        is_link = not isinstance(group.get(name, getlink=True), h5py.HardLink)
        if name in ("vars", OPTIMIZER) or name.startswith(SEEDS):
            continue
        if is_link or not isinstance(group[name], h5py.Group) or group[name] in seen:
            raise WeightsError(
                f"{shown(f'{group.name}/{name}')} is no group of a layer, or is in the "
                "file twice. Save the weights anew, with model.save_weights."
            )
        inner = group[name]
        has_name = "vars" in inner and "name" in inner["vars"].attrs
        called = _text(inner["vars"].attrs["name"]) if has_name else name
        here = (*path, called) if "vars" in inner else path
        yield from _of_groups(inner, here, seen)


def _numbered(name: str) -> tuple[str, int]:
    """Return the key that sorts "conv2d", "conv2d_2", "conv2d_10"."""
    beginning = name.rstrip("0123456789")
    number = name.removeprefix(beginning)
    return beginning.removesuffix("_"), int(number or 0)


def _dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    """Return an array of the file, refusing what would be read from other files."""
    dataset = group[name]
    is_own = isinstance(dataset, h5py.Dataset) and dataset.file == group.file
    if not is_own or dataset.external or dataset.is_virtual or dataset.dtype.hasobject:
        raise WeightsError(
            f"{shown(name)} is no array of this file. Save the weights anew, with "
            "model.save_weights."
        )
    return dataset


def _refuse_more_than_there_is(
    layers: Mapping[str, Mapping[str, h5py.Dataset]], size: int
) -> None:
    """Refuse arrays that would fill memory with numbers that the file has not."""
    declared = sum(a.nbytes for layer in layers.values() for a in layer.values())
    if declared > MOST_EXPANDED * size:
        raise WeightsError(
            f"its arrays would have {declared:,} bytes, and the file has {size:,}. "
            "Download it anew, from elsewhere."
        )


def epsilons_in(config: Any) -> dict[str, set[float]]:
    """Return the epsilons of the batch norms in a model's config, by their names."""
    return _by_name(
        (str(options.get("name")), float(options["epsilon"]))
        for kind, options in _layers_in(config)
        if BATCH_NORM in kind and "epsilon" in options
    )


def activations_in(config: Any) -> dict[str, set[str]]:
    """Return the activations that follow batch norms, by the names of these."""
    return _by_name(_activations_after_norms(config))


def _activations_after_norms(config: Any) -> Iterator[tuple[str, str]]:
    norm = None
    for kind, options in _layers_in(config):
        if BATCH_NORM in kind:
            norm = str(options.get("name"))
        elif norm and (kind in ACTIVATIONS or kind == "Activation"):
            yield norm, _activation(kind, options)
            norm = None


def _activation(kind: str, options: Mapping[str, Any]) -> str:
    """Return what an activation's layer is.

    >>> _activation("Activation", {"activation": "elu"})
    'elu'
    >>> _activation("ReLU", {"max_value": 6.0})
    "ReLU of {'max_value': 6.0}"
    """
    if kind == "Activation":
        return str(options.get("activation"))
    limits = {
        name: options[name]
        for name in ("max_value", "negative_slope", "threshold")
        if kind == "ReLU" and options.get(name)
    }
    return f"{kind} of {limits}" if limits else ACTIVATIONS[kind]


def _by_name(values: Iterable[tuple[str, Any]]) -> dict[str, set[Any]]:
    """Return values by the name of their layer, of which there may be several.

    >>> _by_name([("bn", 0.1), ("bn", 0.1), ("conv1_bn", 0.2)])
    {'bn': {0.1}, 'conv1_bn': {0.2}}
    """
    found: dict[str, set[Any]] = {}
    for name, value in values:
        found.setdefault(name, set()).add(value)
    return found


def _layers_in(config: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Iterate over the classes and options of a config's layers, in their order."""
    if isinstance(config, Mapping) and isinstance(config.get("config"), Mapping):
        yield str(config.get("class_name")), config["config"]
    for inner in _within(config):
        yield from _layers_in(inner)


def _within(config: Any) -> list[Any]:
    if isinstance(config, Mapping):
        return list(config.values())
    return config if isinstance(config, list) else []
