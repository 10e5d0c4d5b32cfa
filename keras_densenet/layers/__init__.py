"""What the paper draws: stem, dense layer, dense block, transition."""

from keras_densenet.layers.batch_norm import BatchNorm
from keras_densenet.layers.convolution import he_convolution, of_rank
from keras_densenet.layers.data_format import channel_axis, checked_data_format
from keras_densenet.layers.dense_block import DenseBlock
from keras_densenet.layers.dense_layer import DenseLayer, check_growth_rate
from keras_densenet.layers.skip_connection import ChannelSlice, SkipConnection
from keras_densenet.layers.stem import Stem, StemWithMaps
from keras_densenet.layers.transition import Transition, check_compression, kept_maps

__all__ = [
    "BatchNorm",
    "ChannelSlice",
    "DenseBlock",
    "DenseLayer",
    "SkipConnection",
    "Stem",
    "StemWithMaps",
    "Transition",
    "channel_axis",
    "check_compression",
    "check_growth_rate",
    "checked_data_format",
    "he_convolution",
    "kept_maps",
    "of_rank",
]
