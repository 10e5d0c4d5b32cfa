"""Looking inside a network: what it uses, what it costs, where it errs.

python -m keras_densenet.analysis feature_reuse runs/cifar10-.../version_0 reuse.png
"""

from keras_densenet.analysis.class_activation import (
    class_activation,
    plot_class_activation,
)
from keras_densenet.analysis.curves import plot_curves, read_metrics
from keras_densenet.analysis.feature_reuse import (
    feature_reuse,
    observe_feature_reuse,
    plot_feature_reuse,
    rescaled,
)
from keras_densenet.analysis.gradient_flow import (
    GradientFlow,
    gradient_flow,
    plot_gradient_flow,
)
from keras_densenet.analysis.predictions import (
    ClassScore,
    LabelPredictions,
    Mistake,
    Predictions,
    Reliability,
    plot_confusion,
    plot_reliability,
)
from keras_densenet.analysis.predictions_file import write_predictions
from keras_densenet.analysis.profile import LayerCost, Profile, profile
from keras_densenet.analysis.report import write_report

__all__ = [
    "ClassScore",
    "GradientFlow",
    "LabelPredictions",
    "LayerCost",
    "Mistake",
    "Predictions",
    "Profile",
    "Reliability",
    "class_activation",
    "feature_reuse",
    "gradient_flow",
    "observe_feature_reuse",
    "plot_class_activation",
    "plot_confusion",
    "plot_curves",
    "plot_feature_reuse",
    "plot_gradient_flow",
    "plot_reliability",
    "profile",
    "read_metrics",
    "rescaled",
    "write_predictions",
    "write_report",
]
