"""What the trainer adds to `model.fit`: callbacks that Keras lacks."""

from keras_densenet.training.callbacks.limits import (
    MaxSteps,
    NotANumberError,
    StopOnNaN,
    Timer,
)
from keras_densenet.training.callbacks.loggers import CSVLogger, TensorBoard
from keras_densenet.training.callbacks.model_checkpoint import ModelCheckpoint
from keras_densenet.training.callbacks.monitors import (
    LearningRateMonitor,
    ThroughputMonitor,
)
from keras_densenet.training.callbacks.moving_statistics import (
    AverageMovingStatistics,
)
from keras_densenet.training.callbacks.progress_bar import ProgressBar

__all__ = [
    "AverageMovingStatistics",
    "CSVLogger",
    "LearningRateMonitor",
    "MaxSteps",
    "ModelCheckpoint",
    "NotANumberError",
    "ProgressBar",
    "StopOnNaN",
    "TensorBoard",
    "ThroughputMonitor",
    "Timer",
]
