import datetime
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import wheel_smoke
import yaml

import keras_densenet as kd

ROOT = Path(__file__).parents[1]


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


ROOMS = [name for name in kd.__all__ if isinstance(getattr(kd, name), ModuleType)]


@pytest.mark.parametrize(
    "room",
    [
        pytest.param(name, marks=[] if name == "layers" else pytest.mark.slow)
        for name in ROOMS
    ],
)
def test_a_program_may_begin_with_any_room(room):
    """Before Keras is there, and without the others, which it may need."""
    code = f"import keras_densenet as kd; print(kd.{room}.__name__)"
    assert python(code) == f"keras_densenet.{room}"


def test_the_version_is_the_distributions():
    from importlib.metadata import version

    assert kd.__version__ == version("keras-densenet")


def test_citation_and_changelog_are_of_this_version():
    released = re.search(
        r"^## \[(\d\S+)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert released[1] == citation["version"] == kd.__version__
    assert datetime.date.fromisoformat(released[2]) == citation["date-released"]


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_environment(tmp_path):
    wheel_smoke.main([str(tmp_path)])


def test_what_a_distribution_lacks_or_has_too_much_is_named():
    wrong = r"x\.whl lacks \['a'\], and should not have \['c'\]\."
    with pytest.raises(SystemExit, match=wrong):
        wheel_smoke.refuse_difference("x.whl", {"b", "c"}, {"a", "b"})


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
