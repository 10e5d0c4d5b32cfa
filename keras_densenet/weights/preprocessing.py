"""How the pictures were standardized that some weights were trained with."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import h5py
import keras

from keras_densenet.checkpoint_file import read_preprocessing
from keras_densenet.weights.errors import WeightsError
from keras_densenet.weights.file_kind import OF_KERAS
from keras_densenet.weights.loading import (
    IMAGENET,
    Source,
    checked_path,
    layers_in,
)
from keras_densenet.weights.names import layers_within
from keras_densenet.weights.state_dict import network_in, of_pytorch

MANY_LAYERS = 400  # keras.applications' smallest DenseNet has 427, ours have few
IMAGENET_STEM = "features.norm0.weight"  # networks for small pictures lack it


class Preprocessing(NamedTuple):
    """The numbers that pictures are standardized with: `(raw - mean) / std`.

    Attributes:
        mean: The mean of each channel, in 0..255.
        std: The standard deviation of each channel, in 0..255.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


# 255 times (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225)
TORCH = Preprocessing((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def preprocessing(source: Source) -> Preprocessing | None:
    """Return how the pictures were standardized that weights were trained with.

    A network answers nonsense to pictures that are standardized otherwise. Pass the
    result to the data: `ImageFolder(root, **preprocessing(source)._asdict())`.

    Args:
        source: The weights, as `load` takes them.

    Returns:
        Torch's numbers for "imagenet" and for networks of keras.applications,
        torchvision and timm; the numbers of the training for a checkpoint of
        `keras_densenet.Trainer`; None where the source does not say.

    Raises:
        WeightsError: The file cannot be read.
        FileNotFoundError: There is no such file.
    """
    if isinstance(source, keras.Model):
        return TORCH if len([*layers_within(source)]) > MANY_LAYERS else None
    if isinstance(source, Mapping):
        return TORCH if IMAGENET_STEM in of_pytorch(source).arrays else None
    if source == IMAGENET:
        return TORCH
    path, kind = checked_path(source)
    if kind not in OF_KERAS:
        return TORCH if IMAGENET_STEM in network_in(path, kind).arrays else None
    try:
        return _of_checkpoint(path) if kind == "keras" else _of_h5(path)
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, RuntimeError) as error:
        raise WeightsError(
            f"{path} is damaged and cannot be read ({error}). Copy or download it anew."
        ) from error


def _of_checkpoint(path: Path) -> Preprocessing | None:
    known = read_preprocessing(path)
    return Preprocessing(tuple(known["mean"]), tuple(known["std"])) if known else None


def _of_h5(path: Path) -> Preprocessing | None:
    """Return Torch's numbers for a file of keras.applications, None for others."""
    with h5py.File(path) as file:
        return TORCH if len(layers_in(file)) > MANY_LAYERS else None
