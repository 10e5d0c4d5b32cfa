"""What the trainer adds to `model.fit`: callbacks that Keras lacks."""

from keras_densenet.training.callbacks.limits import (
    MaxSteps,
    NotANumberError,
    StopOnNaN,
    Timer,
)
from keras_densenet.training.callbacks.model_checkpoint import ModelCheckpoint
from keras_densenet.training.callbacks.monitors import LearningRateMonitor
from keras_densenet.training.callbacks.moving_statistics import (
    AverageMovingStatistics,
)
from keras_densenet.training.callbacks.progress_bar import ProgressBar

__all__ = [
    "AverageMovingStatistics",
    "LearningRateMonitor",
    "MaxSteps",
    "ModelCheckpoint",
    "NotANumberError",
    "ProgressBar",
    "StopOnNaN",
    "Timer",
]
