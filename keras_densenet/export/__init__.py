"""SavedModels for TensorFlow Serving."""

from keras_densenet.export.publish import savedmodel

__all__ = ["savedmodel"]
