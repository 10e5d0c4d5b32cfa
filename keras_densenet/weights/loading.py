"""Loading weights of keras.applications, torchvision and timm into our networks."""

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
NESTED = ("state_dict", "model", "state_dict_ema")  # keys in files of training scripts
IMAGENET = "imagenet"
CLASSIFIER = "classifier."
COUNTER = ".num_batches_tracked"  # which PyTorch's batch norm has, and ours has not
APPLICATIONS: dict[
    tuple[int, ...], str
] = {  # dense layers in each block, of growth rate 32
    (6, 12, 24, 16): "DenseNet121",
    (6, 12, 32, 32): "DenseNet169",
    (6, 12, 48, 32): "DenseNet201",
}
MOST_NAMED = 5  # weights that an error text lists
MOST_QUOTED = 400  # letters of Keras's error that ours quotes
DAMAGED = (OSError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile)


class Loaded(NamedTuple):
    """What `load` has done.

    Attributes:
        weights: How many arrays were loaded.
        unused: Names of the source's arrays that were not loaded: PyTorch's counters,
            and the classifier where the network has none or `include_top` is False.
    """

    weights: int
    unused: list[str]


def load(model: keras.Model, source: Source, *, include_top: bool = True) -> Loaded:
    """Load weights of another library, or of a file, into a DenseNet.

    All weights are accounted for: where one is missing, unexpected or of another shape,
    none is loaded. PyTorch's files are read without PyTorch, and no code in them is
    run.

    Args:
        model: A DenseNet of this package.
        source: One of

            - "imagenet": keras.applications downloads its weights, and keeps them
            - a `keras.Model` of this package or of `keras.applications`
            - `model.state_dict()` of torchvision or timm, or arrays by those names
            - a file of these, `.pth`, `.pt`, `.bin` or `.safetensors`, also with the
              names of 2017 (`norm.1`) or of DataParallel, or within a checkpoint
            - a `.keras` or `.weights.h5` file of this package
            - a `.weights.h5` or `.h5` file of `keras.applications`, with its classifier
              or without (`_notop`)
        include_top: Whether the classifier is loaded, too. False leaves the network's
            own classifier as it is, which may have other classes.

    Returns:
        What was loaded, and what was not.

    Raises:
        WeightsError: The weights are those of another network, or the file cannot be
            read. The model is unchanged.
        FileNotFoundError: There is no such file.
    """
    ours = weights_by_name(model)
    if not any(isinstance(layer, DenseBlock) for layer in model.layers):
        raise WeightsError(
            f"{model.name} is no DenseNet of keras_densenet. Give a network that has a "
            "DenseBlock among its own layers."
        )
    if not include_top:
        ours = [weight for weight in ours if not weight.name.startswith(CLASSIFIER)]
    theirs = _arrays_of(model, source)
    arrays, unused = _matched(ours, theirs)
    for weight, array in zip(ours, arrays, strict=True):
        weight.variable.assign(array)
    return Loaded(len(ours), unused)


def _arrays_of(model: keras.Model, source: Source) -> dict[str, np.ndarray]:
    """Return the arrays of a source by PyTorch's names, with Keras's axes."""
    if isinstance(source, keras.Model):
        return _arrays_of_keras(model, source)
    if isinstance(source, Mapping):
        return of_pytorch(source)
    if source == IMAGENET:
        return _arrays_of_keras(model, _downloaded(model))
    path = checked_path(source)
    if path.suffix in OF_PYTORCH:
        return read_state_dict(path)
    return _arrays_of_keras(model, _read_keras(model, path))


def checked_path(source: str | os.PathLike) -> Path:
    """Return the path of a file of weights.

    Raises:
        WeightsError: The source is no path, or the file's name has another ending.
        FileNotFoundError: There is no such file.
    """
    if not isinstance(source, str | os.PathLike):
        raise WeightsError(
            f'Weights must be "{IMAGENET}", a model, a state dict, or a path. '
            f"Received: an object of type {type(source).__name__}."
        )
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f'There is no file {path}. Weights must be "{IMAGENET}", a model, a state '
            f"dict, or a file that ends in one of {', '.join(SUFFIXES)}."
        )
    if path.suffix not in SUFFIXES:
        raise WeightsError(
            f"{path} is no file of weights by its name, which ends in one of "
            f"{', '.join(SUFFIXES)}. Rename it, or give another file."
        )
    return path


# --- keras.applications ------------------------------------------------------------


def _application_of(model: keras.Model) -> str:
    """Return the name that keras.applications has for a model's network."""
    blocks = [layer for layer in model.layers if isinstance(layer, DenseBlock)]
    name = APPLICATIONS.get(tuple(block.num_layers for block in blocks))
    if name is None or blocks[0].growth_rate != 32:
        raise WeightsError(
            "keras.applications has weights for DenseNet121, 169 and 201, but not for "
            f"{model.name}. Give a file of torchvision's or timm's, or a checkpoint of "
            "your own."
        )
    return name


def _downloaded(model: keras.Model) -> keras.Model:
    """Download the network of keras.applications with its weights for ImageNet."""
    name = _application_of(model)
    has_top = any(layer.name == "classifier" for layer in model.layers)
    try:
        return getattr(keras.applications, name)(include_top=has_top)
    except Exception as error:  # Keras raises a bare Exception if a download fails
        top = "" if has_top else "_notop"
        file = f"{name.lower()}_weights_tf_dim_ordering_tf_kernels{top}.h5"
        raise WeightsError(
            f"The weights of {name} for ImageNet could not be downloaded ({error}). "
            f"Put {file} of Keras's own releases into ~/.keras/models/, or give a file "
            "of torchvision's or timm's as weights."
        ) from error


# --- files of Keras ----------------------------------------------------------------


def _read_keras(model: keras.Model, path: Path) -> keras.Model:
    """Build the network of a file of Keras, and load its weights."""
    try:
        if path.suffix == ".keras":
            return keras.saving.load_model(path, compile=False)
        with h5py.File(path) as file:
            network = _network_of(model, layers_in(file))
        network.load_weights(path)
    except DAMAGED as error:
        raise WeightsError(
            f"{path} is damaged, or of another network than {model.name}. Keras says: "
            f"{' '.join(str(error).split())[:MOST_QUOTED]}"
        ) from error
    return network


def layers_in(file: h5py.File) -> Mapping[str, Any]:
    """Return the groups of a file's layers by name, for Keras 3 and Keras 2 alike."""
    return file.get("layers", file)


def _network_of(model: keras.Model, layers: Mapping[str, Any]) -> keras.Model:
    """Build the network that a file has the weights of: ours, or Keras's.

    A file of Keras 3 names layers by their class, one of Keras 2 by their name.
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
    """Return the number of classes: the kernel is a classifier's only matrix."""
    found: list[int] = []

    def look_for_kernel(_: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim == 2:
            found.append(item.shape[-1])

    classifier.visititems(look_for_kernel)
    return found[0] if found else None


def _with_classes(model: keras.Model, classes: int | None) -> keras.Model:
    """Build a network like a model, with so many classes in its classifier."""

    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if layer.name == "classifier" and classes:
            config["units"] = classes
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=copied)


def _arrays_of_keras(model: keras.Model, theirs: keras.Model) -> dict[str, np.ndarray]:
    """Return the arrays of a model of Keras by name: their order is that of ours."""
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
            f"{theirs.name} has {len(theirs.weights)} weights and {model.name} has "
            f"{len(names)}, so that it is another network. Give weights of the same "
            "network."
        )
    arrays = dict(zip(names, theirs.get_weights(), strict=False))
    return _with_our_epsilon(arrays, theirs)


def _with_our_epsilon(
    arrays: dict[str, np.ndarray], theirs: keras.Model
) -> dict[str, np.ndarray]:
    """Add what Keras's epsilon, 1.001e-5, is above the paper's 1e-5 to variances."""
    norms = (
        layer
        for layer in theirs.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    )
    norm = next(norms, None)
    if norm is None:
        raise WeightsError(
            f"{theirs.name} has no batch norms, so that it is another network than "
            "DenseNet. Give a DenseNet of keras.applications."
        )
    difference = norm.epsilon - 1e-5
    return {
        name: array + difference if name.endswith("running_var") else array
        for name, array in arrays.items()
    }


# --- PyTorch -----------------------------------------------------------------------


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file of PyTorch by today's names, with Keras's axes."""
    is_safe = path.suffix == ".safetensors"
    return of_pytorch(_read_safetensors(path) if is_safe else read_pth(path))


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError(
            f"{path} is damaged, or no file of safetensors ({error}). Copy or download "
            "it anew."
        ) from error


def of_pytorch(saved: Any) -> dict[str, np.ndarray]:
    """Return a state dict's arrays by today's names, with Keras's axes.

    Args:
        saved: A state dict, or a checkpoint with one in it.
    """
    for name in NESTED:
        if isinstance(saved, Mapping) and isinstance(saved.get(name), Mapping):
            saved = saved[name]
    if not isinstance(saved, Mapping) or not saved:
        raise WeightsError(
            "The file has no weights by name. Save a state dict: "
            "torch.save(model.state_dict(), path)."
        )
    arrays = {}
    for name, value in saved.items():
        if hasattr(value, "detach"):  # a tensor of PyTorch
            value = value.detach().cpu().float().numpy()
        if not isinstance(value, np.ndarray):
            raise WeightsError(
                f"{name} is no array but a {type(value).__name__}. Weights are arrays "
                "or tensors by name, as model.state_dict() returns them."
            )
        arrays[todays_name(str(name))] = from_pytorch(value)
    _refuse_other_kinds(arrays)
    return arrays


def _refuse_other_kinds(arrays: Mapping[str, np.ndarray]) -> None:
    """Raise a `WeightsError` that names which relative of DenseNet it is of timm's."""
    if "features.conv1.weight" in arrays:
        raise WeightsError(
            "These weights are of a network with a deep stem (three 3x3 convolutions), "
            "such as timm's densenet264d: another network than the paper's. Give "
            "weights of torchvision's or timm's densenet121, 161, 169 or 201."
        )
    if any(name.endswith(".filt") for name in arrays):
        raise WeightsError(
            "These weights are of a network with blur pooling, such as timm's "
            "densenetblur121d: another network than the paper's. Give weights of "
            "torchvision's or timm's densenet121, 161, 169 or 201."
        )


# --- every weight is accounted for -------------------------------------------------


def _matched(
    ours: Sequence[Weight], theirs: Mapping[str, np.ndarray]
) -> tuple[list[np.ndarray], list[str]]:
    """Find an array for each of our weights.

    Returns:
        The arrays in the order of `ours`, and the names of those that are left over.

    Raises:
        WeightsError: A weight is missing, unexpected or of another shape.
    """
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
        hint = (
            "Leave the classifier out with include_top=False"
            if is_top
            else "Give weights of the same network"
        )
        raise WeightsError(f"These are weights of another network. {found}. {hint}.")
    return [theirs[weight.name] for weight in ours], unused


def _few(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
