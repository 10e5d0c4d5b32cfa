"""A version that several files look at: to make one takes seconds."""

import pytest

import keras_densenet as kd


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """Return a version of a network of three classes; nobody may change it."""
    model = kd.DenseNetBC(10, 4, classes=3, input_shape=(16, 16, 3))
    path = tmp_path_factory.mktemp("served") / "net"
    how = {"mean": [0, 0, 0], "std": [255, 255, 255]}
    return kd.export.savedmodel(model, path, class_names=["a", "ü", "車"], **how)
