"""Weights of keras.applications, torchvision and timm, into our networks."""

import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import h5py
import keras
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from keras_densenet.layers import DenseBlock
from keras_densenet.weights.errors import WeightsError
from keras_densenet.weights.names import (
    Weight,
    from_pytorch,
    todays_name,
    weights_by_name,
)
from keras_densenet.weights.pytorch_files import read_pth

Source: TypeAlias = keras.Model | Mapping[str, Any] | str | os.PathLike

OF_PYTORCH = (".pth", ".pt", ".bin", ".safetensors")
SUFFIXES = (*OF_PYTORCH, ".keras", ".h5")
NESTED = ("state_dict", "model", "state_dict_ema")  # of training scripts
IMAGENET = "imagenet"
CLASSIFIER = "classifier."
COUNTER = ".num_batches_tracked"  # of PyTorch's batch norm, which ours does not need
APPLICATIONS: dict[
    tuple[int, ...], str
] = {  # dense layers in each block, of growth rate 32
    (6, 12, 24, 16): "DenseNet121",
    (6, 12, 32, 32): "DenseNet169",
    (6, 12, 48, 32): "DenseNet201",
}
MOST_NAMED = 5  # weights in a message
MOST_SAID = 400  # letters of an error of Keras's
DAMAGED = (OSError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile)


class Loaded(NamedTuple):
    """What `load` has done.

    Attributes:
        weights: How many arrays the network has now.
        unused: Names of the source's classifier, where the network has none or it was
            not to be loaded, and of PyTorch's counters.
    """

    weights: int
    unused: list[str]


def load(model: keras.Model, source: Source, *, include_top: bool = True) -> Loaded:
    """Put weights of another library, or of a file, into a DenseNet.

    All weights are accounted for: where one is missing, unexpected or of another shape
    none is loaded. Files of PyTorch are read without PyTorch, and nothing in them is
    run.

    Args:
        model: A DenseNet of this package.
        source: One of

            - "imagenet": those of keras.applications, which downloads and keeps them
            - a `keras.Model`: of this package or of `keras.applications`
            - `model.state_dict()` of torchvision or timm, or arrays by those names
            - its file, `.pth`, `.pt`, `.bin` or `.safetensors`, also with the names
              of 2017 (`norm.1`), of DataParallel, or within a checkpoint
            - a `.keras` or `.weights.h5` file of this package
            - a `.weights.h5` or `.h5` file of `keras.applications`, with its classifier
              or without (`_notop`)
        include_top: Whether the classifier is loaded, too. False leaves the network's
            own as it is, for classes of your own.

    Returns:
        What was loaded, and what was not.

    Raises:
        WeightsError: The weights are those of another network, or the file cannot be
            read. The model is as it was.
        FileNotFoundError: There is no such file.
    """
    ours = weights_by_name(model)
    if not any(isinstance(layer, DenseBlock) for layer in model.layers):
        raise WeightsError(f"{model.name} is no DenseNet of keras_densenet.")
    if not include_top:
        ours = [weight for weight in ours if not weight.name.startswith(CLASSIFIER)]
    theirs = _arrays(model, source)
    arrays, unused = _matched(ours, theirs)
    for weight, array in zip(ours, arrays, strict=True):
        weight.variable.assign(array)
    return Loaded(len(ours), unused)


def _arrays(model: keras.Model, source: Source) -> dict[str, np.ndarray]:
    """Give a source's arrays by PyTorch's names, with Keras's axes."""
    if isinstance(source, keras.Model):
        return _of_keras(model, source)
    if isinstance(source, Mapping):
        return of_pytorch(source)
    if source == IMAGENET:
        return _of_keras(model, _downloaded(model))
    path = checked_path(source)
    if path.suffix in OF_PYTORCH:
        return read_state_dict(path)
    return _of_keras(model, _read_keras(model, path))


def checked_path(source: str | os.PathLike) -> Path:
    """Give the path of a file of weights, refusing what is none by its name."""
    if not isinstance(source, str | os.PathLike):
        raise WeightsError(
            f'Weights are "{IMAGENET}", a model, a state dict, or a path. Received: '
            f"{type(source).__name__}"
        )
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f'There is no file {path}. Weights are "{IMAGENET}", a model, a state '
            f"dict, or a file that ends in one of {', '.join(SUFFIXES)}."
        )
    if path.suffix not in SUFFIXES:
        raise WeightsError(
            f"{path}: the name of a file of weights ends in one of "
            f"{', '.join(SUFFIXES)}."
        )
    return path


# --- keras.applications ------------------------------------------------------------


def _application_of(model: keras.Model) -> str:
    """Name the network of keras.applications that a model is."""
    blocks = [layer for layer in model.layers if isinstance(layer, DenseBlock)]
    name = APPLICATIONS.get(tuple(block.num_layers for block in blocks))
    if name is None or blocks[0].growth_rate != 32:
        raise WeightsError(
            f"keras.applications has DenseNet121, 169 and 201, and not {model.name}: "
            "give a file of torchvision's or timm's, or a checkpoint of your own."
        )
    return name


def _downloaded(model: keras.Model) -> keras.Model:
    """Give the network of keras.applications with its weights for ImageNet."""
    name = _application_of(model)
    has_top = any(layer.name == "classifier" for layer in model.layers)
    try:
        return getattr(keras.applications, name)(include_top=has_top)
    except Exception as error:  # Keras raises a bare Exception where it cannot fetch
        top = "" if has_top else "_notop"
        file = f"{name.lower()}_weights_tf_dim_ordering_tf_kernels{top}.h5"
        raise WeightsError(
            f"The weights of {name} for ImageNet could not be downloaded ({error}). "
            f"Put {file}, of Keras's own releases, into ~/.keras/models/; or give a "
            "file of torchvision's or timm's as weights."
        ) from error


# --- files of Keras ----------------------------------------------------------------


def _read_keras(model: keras.Model, path: Path) -> keras.Model:
    """Give a model with the weights of a file of Keras."""
    try:
        if path.suffix == ".keras":
            return keras.saving.load_model(path, compile=False)
        with h5py.File(path) as file:
            network = _network_of(model, layers_in(file))
        network.load_weights(path)
    except DAMAGED as error:
        raise WeightsError(
            f"{path} is damaged, or of another network than {model.name}: "
            f"{' '.join(str(error).split())[:MOST_SAID]}"
        ) from error
    return network


def layers_in(file: h5py.File) -> Mapping[str, Any]:
    """Give the layers in a file of Keras 3, or of Keras 2, by their names."""
    return file.get("layers", file)


def _network_of(model: keras.Model, layers: Mapping[str, Any]) -> keras.Model:
    """Make the network that a file has the weights of: ours, or Keras's.

    Keras 3 names layers by their class, Keras 2 by their name.
    """
    tops = [
        layers[name] for name in layers if name in ("dense", "predictions", "fc1000")
    ]
    classes = _classes_in(tops[0]) if tops else None
    if any(name.startswith("dense_block") for name in layers):
        return _with_classes(model, classes)
    make = getattr(keras.applications, _application_of(model))
    return make(weights=None, include_top=bool(tops), classes=classes or 1000)


def _classes_in(classifier: h5py.Group) -> int | None:
    """Give the classes of a file's classifier: its kernel is its only matrix."""
    found: list[int] = []

    def look(_: str, thing: Any) -> None:
        if isinstance(thing, h5py.Dataset) and thing.ndim == 2:
            found.append(thing.shape[-1])

    classifier.visititems(look)
    return found[0] if found else None


def _with_classes(model: keras.Model, classes: int | None) -> keras.Model:
    """Give a new network like a model, with as many classes."""

    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if layer.name == "classifier" and classes:
            config["units"] = classes
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=copied)


def _of_keras(model: keras.Model, theirs: keras.Model) -> dict[str, np.ndarray]:
    """Name the weights of a model of Keras, which are in the order of ours."""
    if any(isinstance(layer, DenseBlock) for layer in theirs.layers):
        return {
            weight.name: keras.ops.convert_to_numpy(weight.variable)
            for weight in weights_by_name(theirs)
        }
    names = [weight.name for weight in weights_by_name(model)]
    if len(theirs.weights) == len(names) + 2:  # theirs has a classifier
        names += [f"{CLASSIFIER}weight", f"{CLASSIFIER}bias"]
    if len(theirs.weights) not in (len(names), len(names) - 2):
        raise WeightsError(
            f"{theirs.name} has {len(theirs.weights)} weights, {model.name} has "
            f"{len(names)}: it is another network."
        )
    arrays = dict(zip(names, theirs.get_weights(), strict=False))
    return _with_our_epsilon(arrays, theirs)


def _with_our_epsilon(
    arrays: dict[str, np.ndarray], theirs: keras.Model
) -> dict[str, np.ndarray]:
    """Let variances carry what Keras's epsilon, 1.001e-5, is above the paper's 1e-5."""
    norms = (
        layer
        for layer in theirs.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    )
    norm = next(norms, None)
    if norm is None:
        raise WeightsError(f"{theirs.name} has no batch norms: it is another network.")
    difference = norm.epsilon - 1e-5
    return {
        name: array + difference if name.endswith("running_var") else array
        for name, array in arrays.items()
    }


# --- PyTorch -----------------------------------------------------------------------


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Read a file of PyTorch: arrays by today's names, with Keras's axes."""
    is_safe = path.suffix == ".safetensors"
    return of_pytorch(_read_safetensors(path) if is_safe else read_pth(path))


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged, or no safetensors: {error}") from error


def of_pytorch(found: Any) -> dict[str, np.ndarray]:
    """Give a state dict's arrays by today's names, with Keras's axes."""
    for name in NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not found:
        raise WeightsError("There are no weights by name in it: save a state_dict.")
    arrays = {}
    for name, value in found.items():
        if hasattr(value, "detach"):  # a tensor of PyTorch
            value = value.detach().cpu().float().numpy()
        if not isinstance(value, np.ndarray):
            raise WeightsError(f"{name} is no array but a {type(value).__name__}.")
        arrays[todays_name(str(name))] = from_pytorch(value)
    _refuse_other_kinds(arrays)
    return arrays


def _refuse_other_kinds(arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse timm's relatives by what they are."""
    if "features.conv1.weight" in arrays:
        raise WeightsError(
            "These are of a network with a deep stem (three 3x3 convolutions), such as "
            "timm's densenet264d: another network than the paper's."
        )
    if any(name.endswith(".filt") for name in arrays):
        raise WeightsError(
            "These are of a network with blur pooling, such as timm's "
            "densenetblur121d: another network than the paper's."
        )


# --- every weight is accounted for -------------------------------------------------


def _matched(
    ours: Sequence[Weight], theirs: Mapping[str, np.ndarray]
) -> tuple[list[np.ndarray], list[str]]:
    """Give an array for each weight, and the names of those that none needs."""
    names = {weight.name for weight in ours}
    unused = [name for name in theirs if name not in names]
    problems = {
        "missing": [weight.name for weight in ours if weight.name not in theirs],
        "unexpected": [
            name
            for name in unused
            if not (name.startswith(CLASSIFIER) or name.endswith(COUNTER))
        ],
        "of another shape": [
            f"{weight.name} is {theirs[weight.name].shape}, not "
            f"{tuple(weight.variable.shape)}"
            for weight in ours
            if weight.name in theirs
            and theirs[weight.name].shape != tuple(weight.variable.shape)
        ],
    }
    found = "; ".join(
        f"{what}: {_few(which)}" for what, which in problems.items() if which
    )
    if found:
        all_of_them = [name for which in problems.values() for name in which]
        is_top = all(name.startswith(CLASSIFIER) for name in all_of_them)
        hint = " Leave the classifier out: include_top=False." if is_top else ""
        raise WeightsError(f"Weights of another network. {found}.{hint}")
    return [theirs[weight.name] for weight in ours], unused


def _few(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
