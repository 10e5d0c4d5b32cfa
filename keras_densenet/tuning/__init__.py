"""Searching for a network with keras-tuner."""

from keras_densenet.tuning.results import (
    Record,
    pareto_front,
    plot_coordinates,
    plot_front,
    write_table,
)
from keras_densenet.tuning.search import Search, search
from keras_densenet.tuning.search_space import DenseNetHyperModel

__all__ = [
    "DenseNetHyperModel",
    "Record",
    "Search",
    "pareto_front",
    "plot_coordinates",
    "plot_front",
    "search",
    "write_table",
]
