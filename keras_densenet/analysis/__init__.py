"""Looking inside a trained network."""

from keras_densenet.analysis.feature_reuse import feature_reuse, plot_feature_reuse

__all__ = ["feature_reuse", "plot_feature_reuse"]
