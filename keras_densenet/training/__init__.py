"""Trainer, ImageClassifier and what they train with."""

import lazy_loader

from keras_densenet.errors import (
    MisconfigurationError as MisconfigurationError,
    MisconfigurationException as MisconfigurationException,
    NotANumberError as NotANumberError,
    WorkerLostError as WorkerLostError,
)

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
