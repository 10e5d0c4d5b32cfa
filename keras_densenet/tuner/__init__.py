"""Finding a learning rate and a batch size."""

from keras_densenet.tuner.lr_finder import LRFinder
from keras_densenet.tuner.tuner import Tuner

__all__ = ["LRFinder", "Tuner"]
