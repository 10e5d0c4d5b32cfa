"""Two logical CPU devices for every test, as MirroredStrategy needs them."""

import gc
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "agg")

import pytest

import keras_densenet  # noqa: F401, before TensorFlow: it turns oneDNN on

try:
    import tensorflow as tf
except ModuleNotFoundError:  # Keras's other backends: test_backends.py alone runs
    tf = None
else:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )
gc.freeze()  # TensorFlow's half a million objects stay: do not look at each again


@pytest.fixture(autouse=True)
def _seeded():
    import keras

    keras.utils.clear_session(free_memory=False)  # which takes a quarter of a second
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def _no_curves_are_drawn(monkeypatch):
    """Spare each fit the drawing, which takes as long as a small training.

    `test_run_folder.py` and the recipes draw them: their fits are not within a test.
    """
    if tf is not None:
        monkeypatch.setattr(
            "keras_densenet.training.trainer.plot_curves",
            lambda metrics, picture: Path(picture).touch(),
        )


@pytest.fixture(autouse=True, scope="session")
def _versions_are_replayed_in_one_process():
    """Replay golden requests in one process for all tests: TensorFlow loads slowly."""
    if tf is None:
        yield
        return
    from replaying import Replaying

    from keras_densenet.export import verification

    one_process = Replaying(verification.REPLAY)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(verification, "replay", one_process)
        yield
    one_process.close()
