"""Writing our weights as files that torchvision and timm load."""

import os
from pathlib import Path

import keras
import numpy as np
from safetensors.numpy import save_file

from keras_densenet.weights.errors import WeightsError
from keras_densenet.weights.names import (
    COUNTER,
    to_pytorch,
    unnamed_weights,
    weights_by_name,
)
from keras_densenet.weights.pytorch_files import write_pth
from keras_densenet.whole_file import whole_file


def save(model: keras.Model, path: str | os.PathLike) -> Path:
    """Write a network's weights as a state dict of torchvision's DenseNet.

    `torchvision.models.densenet121().load_state_dict(torch.load(path))` loads it; so do
    the deeper networks and those of timm.

    Args:
        model: A DenseNet of this package.
        path: Path of the file, which ends in `.pth`, `.pt` or `.safetensors`.

    Returns:
        The path.

    Raises:
        WeightsError: The path has another ending or is a folder, or the model has no
            dense block, or other weights than a DenseNet's.
    """
    path = Path(path)
    arrays = {}
    for weight in weights_by_name(model):
        array = keras.ops.convert_to_numpy(weight.variable).astype("float32")
        arrays[weight.name] = np.ascontiguousarray(to_pytorch(array))
        if weight.name.endswith("running_var"):
            counter = weight.name.removesuffix(".running_var") + COUNTER
            arrays[counter] = np.zeros((), "int64")
    if not any("denseblock" in name for name in arrays):
        raise WeightsError(
            f"{model.name} is no DenseNet of keras_densenet. Only networks with a "
            "DenseBlock can be saved for PyTorch."
        )
    extra = [weight.path for weight in unnamed_weights(model)]
    if extra:
        raise WeightsError(
            f"{model.name} has weights that torchvision's DenseNet has no place for: "
            f"{', '.join(extra)}. Save the DenseNet without these layers."
        )
    if path.suffix not in (".pth", ".pt", ".safetensors"):
        raise WeightsError(
            f"The path of a file of weights must end in .pth, .pt or .safetensors. "
            f"Received: {path}."
        )
    if path.is_dir():
        raise WeightsError(f"{path} is a folder. Give the path of a file in it.")
    write = save_file if path.suffix == ".safetensors" else _write_pth
    with whole_file(path) as beside:
        write(arrays, beside)
    return path


def _write_pth(arrays: dict[str, np.ndarray], path: Path) -> None:
    write_pth(path, arrays)
