"""keras_densenet: the DenseNets of Huang et al. 2017 (arXiv 1608.06993) in Keras 3.

Networks and layers need only Keras, on any of its backends. Data, training and export
are TensorFlow's, and are not loaded on another backend until they are asked for.
"""

import os

# TensorFlow leaves oneDNN off on AMD processors, where it more than doubles the speed
# of training. It reads this once, while it is imported; a user's own setting wins.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import importlib
from typing import TYPE_CHECKING, Any

import keras

from keras_densenet import layers
from keras_densenet.models import (
    DenseNet,
    DenseNet121,
    DenseNet161,
    DenseNet169,
    DenseNet201,
    DenseNet232k48,
    DenseNet264,
    DenseNet264k48,
    DenseNetBC,
)

if TYPE_CHECKING:
    from keras_densenet import analysis, data, export, training
    from keras_densenet.training import (
        ImageClassifier,
        Trainer,
        callbacks,
        seed_everything,
    )

if keras.backend.backend() == "tensorflow":
    # Now, not when it is first used: a checkpoint loads only where its optimizer is
    # known to Keras.
    importlib.import_module("keras_densenet.training")

__version__ = "0.1.0"

__all__ = [
    "DenseNet",
    "DenseNet121",
    "DenseNet161",
    "DenseNet169",
    "DenseNet201",
    "DenseNet232k48",
    "DenseNet264",
    "DenseNet264k48",
    "DenseNetBC",
    "ImageClassifier",
    "Trainer",
    "analysis",
    "callbacks",
    "data",
    "export",
    "layers",
    "seed_everything",
    "training",
]

_LAZY_ROOMS = ("analysis", "data", "export", "training")
_LAZY_NAMES = ("ImageClassifier", "Trainer", "seed_everything")


def __getattr__(name: str) -> Any:
    if name in _LAZY_ROOMS:
        return importlib.import_module(f"keras_densenet.{name}")
    if name == "callbacks":  # where users look for them
        return importlib.import_module("keras_densenet.training.callbacks")
    if name in _LAZY_NAMES:
        return getattr(importlib.import_module("keras_densenet.training"), name)
    raise AttributeError(f"module 'keras_densenet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
