"""Looking inside a network: what it uses, what it costs.

python -m keras_densenet.analysis feature_reuse runs/cifar10-.../version_0 reuse.png
"""

from keras_densenet.analysis.feature_reuse import (
    feature_reuse,
    observe_feature_reuse,
    plot_feature_reuse,
    rescaled,
)
from keras_densenet.analysis.profile import LayerCost, Profile, profile

__all__ = [
    "LayerCost",
    "Profile",
    "feature_reuse",
    "observe_feature_reuse",
    "plot_feature_reuse",
    "profile",
    "rescaled",
]
