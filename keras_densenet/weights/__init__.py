"""Weights in from other libraries, and out to PyTorch."""

from keras_densenet.weights.describing import describe
from keras_densenet.weights.errors import WeightsError
from keras_densenet.weights.loading import load
from keras_densenet.weights.preprocessing import (
    GuessedPreprocessing,
    Preprocessing,
    preprocessing,
)
from keras_densenet.weights.saving import save

__all__ = [
    "GuessedPreprocessing",
    "Preprocessing",
    "WeightsError",
    "describe",
    "load",
    "preprocessing",
    "save",
]
