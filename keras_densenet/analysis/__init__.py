"""Looking inside a network: what it uses, what it costs, where it errs.

python -m keras_densenet.analysis feature_reuse runs/cifar10-.../version_0 reuse.png
"""

from keras_densenet.analysis.class_activation import (
    class_activation,
    plot_class_activation,
)
from keras_densenet.analysis.curves import plot_curves, read_metrics
from keras_densenet.analysis.deciding import decide
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
from keras_densenet.analysis.intervals import Interval, area_interval, mean_interval
from keras_densenet.analysis.label_curves import (
    plot_label_curves,
    plot_label_reliability,
)
from keras_densenet.analysis.mask_predictions import (
    MaskExample,
    MaskPredictions,
    PixelScore,
)
from keras_densenet.analysis.predictions import (
    ClassScore,
    LabelExample,
    LabelPredictions,
    LabelScore,
    Mistake,
    Predictions,
    Reliability,
    plot_confusion,
    plot_reliability,
)
from keras_densenet.analysis.predictions_file import (
    write_class_maps,
    write_label_answers,
    write_predictions,
    write_probabilities,
)
from keras_densenet.analysis.profile import LayerCost, Profile, profile
from keras_densenet.analysis.report import write_report

__all__ = [
    "ClassScore",
    "GradientFlow",
    "Interval",
    "LabelExample",
    "LabelPredictions",
    "LabelScore",
    "LayerCost",
    "MaskExample",
    "MaskPredictions",
    "Mistake",
    "PixelScore",
    "Predictions",
    "Profile",
    "Reliability",
    "area_interval",
    "class_activation",
    "decide",
    "feature_reuse",
    "gradient_flow",
    "mean_interval",
    "observe_feature_reuse",
    "plot_class_activation",
    "plot_confusion",
    "plot_curves",
    "plot_feature_reuse",
    "plot_gradient_flow",
    "plot_label_curves",
    "plot_label_reliability",
    "plot_reliability",
    "profile",
    "read_metrics",
    "rescaled",
    "write_class_maps",
    "write_label_answers",
    "write_predictions",
    "write_probabilities",
    "write_report",
]
