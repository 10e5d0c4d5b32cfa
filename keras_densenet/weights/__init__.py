"""Weights in from other libraries, and out to PyTorch."""

from keras_densenet.weights.errors import WeightsError
from keras_densenet.weights.loading import load
from keras_densenet.weights.preprocessing import Preprocessing, preprocessing
from keras_densenet.weights.saving import save

__all__ = ["Preprocessing", "WeightsError", "load", "preprocessing", "save"]
