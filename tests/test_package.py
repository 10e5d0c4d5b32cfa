import os
import subprocess
import sys

import pytest

import keras_densenet as kd


def python(code, **environment):
    clean = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"}
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout.strip()


# The value that TensorFlow would see: a finder notes it when TensorFlow is looked for.
WATCH = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow" and not hasattr(Watch, "seen"):
            Watch.seen = os.environ.get("TF_ENABLE_ONEDNN_OPTS")
sys.meta_path.insert(0, Watch())
import keras_densenet
import keras
print(Watch.seen)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("own", "seen"),
    [({}, "1"), pytest.param({"own": "0"}, "0", marks=pytest.mark.slow)],
)
def test_onednn_is_on_before_tensorflow_loads_and_a_users_setting_wins(own, seen):
    environment = {"TF_ENABLE_ONEDNN_OPTS": own["own"]} if own else {}
    assert python(WATCH, **environment) == seen


def test_every_public_name_is_there():
    for name in kd.__all__:
        assert getattr(kd, name) is not None
    assert set(kd.__all__) <= set(dir(kd))
    with pytest.raises(AttributeError, match="DenseNet122"):
        kd.DenseNet122  # noqa: B018


def test_the_version_is_the_distributions():
    from importlib.metadata import version

    assert kd.__version__ == version("keras-densenet")


@pytest.mark.slow
@pytest.mark.parametrize("first", ["keras", "keras_densenet"])
def test_keras_loads_files_of_a_script_that_is_asked_for_help(tmp_path, first):
    """Layers and optimizer are registered, whatever the script's own arguments are."""
    save = f"""
import keras_densenet as kd
model = kd.DenseNetBC(10, 4, classes=2, input_shape=(8, 8, 1))
model.compile(kd.training.TorchSGD(), "mse")
model.save(r"{tmp_path / "model.keras"}")
"""
    load = f"""
import sys
sys.argv = ["mine.py", "-h"]
import {first}
import keras, keras_densenet
model = keras.models.load_model(r"{tmp_path / "model.keras"}")
print(type(model.optimizer).__name__, type(model.get_layer("dense_block1")).__name__)
"""
    python(save)
    assert python(load) == "TorchSGD DenseBlock"
