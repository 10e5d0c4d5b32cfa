"""keras_densenet: the DenseNets of Huang et al. 2017 (arXiv 1608.06993) in Keras 3.

Networks and layers need only Keras, on any of its backends. Data, training and export
are TensorFlow's, and are not loaded until they are asked for.
"""

import os

# TensorFlow leaves oneDNN off on AMD processors, where it more than doubles the speed
# of training. It reads this once, while it is imported; a user's own setting wins.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import importlib
import sys

import lazy_loader

__version__ = "0.1.0"

# Names are imported when they are first used: __init__.pyi says from where.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# But Keras must know layers and optimizer before it can load a file that has them.
# Not where help is asked for, which must not take the seconds that Keras takes.
if not {"-h", "--help"} & set(getattr(sys, "argv", ())):
    importlib.import_module("keras_densenet.layers")
    importlib.import_module("keras_densenet.training.optimizer")
