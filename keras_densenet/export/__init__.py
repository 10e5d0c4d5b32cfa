"""SavedModels for TensorFlow Serving, and what checks and serves them.

python -m keras_densenet.export verify saved_models/cifar10/1
python -m keras_densenet.export configure saved_models --base_path /models
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
