"""What Keras lacks: callbacks, and the run that calls them and can go on."""

from keras_densenet.callbacks.limits import (
    Limit,
    MaxSteps,
    MinEpochs,
    StopAfterEpoch,
    StopOnNaN,
    Timer,
)
from keras_densenet.callbacks.loggers import CSVLogger, TensorBoard
from keras_densenet.callbacks.model_checkpoint import ModelCheckpoint
from keras_densenet.callbacks.monitored import MonitoredMetrics
from keras_densenet.callbacks.monitors import (
    LearningRateMonitor,
    ThroughputMonitor,
)
from keras_densenet.callbacks.moving_statistics import (
    AverageMovingStatistics,
)
from keras_densenet.callbacks.progress_bar import ProgressBar

__all__ = [
    "AverageMovingStatistics",
    "CSVLogger",
    "LearningRateMonitor",
    "Limit",
    "MaxSteps",
    "MinEpochs",
    "ModelCheckpoint",
    "MonitoredMetrics",
    "ProgressBar",
    "StopAfterEpoch",
    "StopOnNaN",
    "TensorBoard",
    "ThroughputMonitor",
    "Timer",
]
