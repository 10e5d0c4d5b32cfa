"""Run folders, and checkpoints read back."""

import os
import warnings
import zipfile
from pathlib import Path

import keras

from keras_densenet.training.errors import MisconfigurationError


def next_version(runs: Path) -> Path:
    """Make and give the next `version_N` folder of a network's runs."""
    runs.mkdir(parents=True, exist_ok=True)
    numbers = [
        int(name[len("version_") :])
        for name in os.listdir(runs)
        if name.startswith("version_") and name[len("version_") :].isdigit()
    ]
    version = runs / f"version_{max(numbers, default=-1) + 1}"
    version.mkdir()
    return version


def load_checkpoint(model: keras.Model, path: Path) -> None:
    """Load weights, moving statistics, and the optimizer if the model has it built.

    Raises:
        MisconfigurationError: No such file, not a checkpoint, or of another network.
    """
    if not path.is_file():
        raise MisconfigurationError(f"There is no checkpoint {path}.")
    if not zipfile.is_zipfile(path):
        raise MisconfigurationError(
            f"{path} is not a whole .keras file: it is damaged, or something else. Use "
            "another checkpoint of that run."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Keras warns, and goes on half loaded
            model.load_weights(path)
    except (ValueError, UserWarning) as error:
        raise MisconfigurationError(
            f"{path} does not fit the network {model.name}: make the network with the "
            "arguments that it was trained with."
        ) from error
