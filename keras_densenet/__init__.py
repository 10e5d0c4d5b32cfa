"""keras_densenet: the DenseNets of Huang et al. 2017 (arXiv 1608.06993) in Keras 3.

Networks and layers need only Keras, on any of its backends. Data, training and export
are TensorFlow's, and are not loaded until they are asked for.
"""

import os

# TensorFlow leaves oneDNN off on AMD processors, where it more than doubles the speed
# of training. It reads this once, while it is imported; a user's own setting wins.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import importlib
from types import ModuleType

import lazy_loader
import wrapt

__version__ = "0.1.0"

# Names are imported when they are first used: __init__.pyi says from where.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


@wrapt.when_imported("keras")
def _register(keras: ModuleType) -> None:
    """Let Keras know layers and optimizer, to load files that have them.

    It runs as soon as Keras is imported, at once where it is already. To import Keras
    here would take seconds, also from somebody who asks the command line for help.
    """
    for name in ("layers", "losses", "metrics", "training.optimizer"):
        importlib.import_module(f"keras_densenet.{name}")


@wrapt.when_imported("keras_densenet.layers")
def _register_models(layers: ModuleType) -> None:
    """Let Keras know the models that are made of layers.

    Where layers are what a program uses first, it is they who import Keras, and are not
    yet there for others when it calls `_register`.
    """
    importlib.import_module("keras_densenet.feature_maps")
