"""The arrays of a DenseNet, from wherever weights come: models, files, state dicts."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np

from keras_densenet.weights.errors import WeightsError
from keras_densenet.weights.file_kind import BY_SUFFIX, OF_KERAS, FileKind, kind_of
from keras_densenet.weights.keras_files import KerasLayers, read_keras_file
from keras_densenet.weights.keras_names import (
    APPLICATIONS_EPSILON,
    by_pytorchs_names,
    is_ours,
    layers_of,
)
from keras_densenet.weights.names import from_pytorch
from keras_densenet.weights.pytorch_files import named
from keras_densenet.weights.state_dict import (
    StateDict,
    as_array,
    network_in,
    of_pytorch,
)

Source: TypeAlias = keras.Model | Mapping[str, Any] | str | os.PathLike

IMAGENET = "imagenet"
XRAYS = "torchxrayvision"
# Its baseline models, of other authors, scale pictures otherwise.
XRAYS_CLASS = "torchxrayvision.models.DenseNet"
EPSILON_GUESS = f"{APPLICATIONS_EPSILON} as epsilon, which the file does not say"
THRESHOLDS = "op_threshs"  # which no other library's networks have


class Network(NamedTuple):
    """The arrays of a DenseNet, and whose network it is.

    Attributes:
        arrays: By PyTorch's names, with Keras's axes.
        left_out: Names of what is no layer's: counters, thresholds.
        library: "PyTorch", "torchxrayvision", "Keras" or "keras_densenet".
        found_at: Where it is in the file, and what the names of its features begin
            with, such as "state_dict: module.features."; "" in files of Keras.
        guess: What of the network its source does not say, in words; "" for nothing.
    """

    arrays: dict[str, np.ndarray]
    left_out: list[str]
    library: str
    found_at: str = ""
    guess: str = ""


def network_of(source: Source) -> Network:
    """Return the network of any source but "imagenet", which is downloaded.

    Raises:
        WeightsError: There is none, or the file cannot be read.
        FileNotFoundError: There is no such file.
    """
    if isinstance(source, keras.Model):
        return _of_keras(layers_of(source))
    if isinstance(source, Mapping):
        return _of_state_dict(of_pytorch(source))
    path, kind = checked_path(source)
    with named(path):
        if kind in OF_KERAS:
            return _of_keras(read_keras_file(path, kind))
        return _of_state_dict(network_in(path, kind))


def _of_keras(found: KerasLayers) -> Network:
    arrays = by_pytorchs_names(found)
    if is_ours(found.layers):
        return Network(arrays, [], "keras_densenet")
    guess = "" if found.epsilons else EPSILON_GUESS
    return Network(arrays, [], "Keras", guess=guess)


def _of_state_dict(state: StateDict) -> Network:
    arrays = {name: from_pytorch(as_array(v)) for name, v in state.arrays.items()}
    of_xrays = state.class_name == XRAYS_CLASS or any(
        name.rpartition(".")[2] == THRESHOLDS for name in state.left_out
    )
    places = [part for part in (state.place, state.beginning) if part]
    library = XRAYS if of_xrays else "PyTorch"
    return Network(arrays, state.left_out, library, ": ".join(places))


def checked_path(source: str | os.PathLike) -> tuple[Path, FileKind]:
    """Return the path of a file of weights, and of which kind it is.

    Raises:
        WeightsError: The source is no path, or the file is of another kind.
        FileNotFoundError: There is no such file.
    """
    if not isinstance(source, str | os.PathLike):
        raise WeightsError(
            f'Weights must be "{IMAGENET}", a model, a state dict, or a path. '
            f"Received: an object of type {type(source).__name__}."
        )
    path = Path(source)
    if path.is_dir():
        raise FileNotFoundError(
            f"{path} is a folder: give the file of weights in it, of a run one of its "
            "checkpoints/."
        )
    if not path.is_file():
        raise FileNotFoundError(
            f'There is no file {path}. Weights must be "{IMAGENET}", a model, a state '
            f"dict, or a file that ends in one of {', '.join(BY_SUFFIX)}."
        )
    return path, kind_of(path)


def title(source: Source) -> str:
    """Return what a line of text calls a source."""
    if isinstance(source, keras.Model):
        return source.name
    return "a state dict" if isinstance(source, Mapping) else Path(source).name
