"""Trainer, ImageClassifier and what they train with."""

from keras_densenet.training.callbacks import (
    ModelCheckpoint,
    NotANumberError,
    ProgressBar,
)
from keras_densenet.training.errors import (
    MisconfigurationError,
    MisconfigurationException,
)
from keras_densenet.training.image_classifier import ImageClassifier
from keras_densenet.training.optimizer import TorchSGD, step_schedule
from keras_densenet.training.seed import seed_everything
from keras_densenet.training.trainer import Trainer

__all__ = [
    "ImageClassifier",
    "MisconfigurationError",
    "MisconfigurationException",
    "ModelCheckpoint",
    "NotANumberError",
    "ProgressBar",
    "TorchSGD",
    "Trainer",
    "seed_everything",
    "step_schedule",
]
