"""A run of an earlier version goes on, bit for bit.

`tests/helpers/old_run` was written by keras_densenet 0.1.0, before its rooms had their
names of today: `averaged_training.py` with STOP_AFTER=7 and a batch of 250. `finished`
is what that version made of it with `fit --config config.yaml --ckpt_path last`, on the
processor of `processor.txt`: on another one sums of floats may have another order.
"""

import csv
import os
import shutil
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pytest

from keras_densenet.checkpoint_file import read_state

HELPERS = Path(__file__).parents[1] / "helpers"
OLD = HELPERS / "old_run"


def weights_of(checkpoint):
    """Return all arrays of a checkpoint's model and optimizer, by their names."""
    found = {}

    def note(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with zipfile.ZipFile(checkpoint) as archive:
        file = BytesIO(archive.read("model.weights.h5"))
    with h5py.File(file) as weights:
        weights.visititems(note)
    return found


def rows(path):
    with path.open(newline="") as file:
        return [
            {name: float(row[name]) for name in row if name != "images_per_second"}
            for row in csv.DictReader(file)
        ]


def test_a_checkpoint_within_an_epoch_is_read():
    state = read_state(OLD / "checkpoints" / "last.keras")
    assert (state.step, state.steps_per_epoch) == (7, 5)
    assert state.is_exact
    assert state.callbacks["Counting1"]["batches"] == 7
    assert len(state.callbacks["Counting1"]["losses"]) == 7
    assert list(state.callbacks["ModelCheckpoint1"]["best_k_models"]) == [
        "epoch=001-val_accuracy=0.1000.keras"
    ]
    assert len(state.seeds) == 5  # of 3 dense layers and 2 transitions
    assert len(state.metrics) == 4  # sum and count of loss and accuracy


@pytest.mark.slow
def test_the_run_goes_on_as_it_would_have(tmp_path):
    run = tmp_path / "runs" / "digits-densenet_bc_10_2" / "version_0"
    shutil.copytree(OLD, run, ignore=shutil.ignore_patterns("finished.*"))
    stage = [sys.executable, "-m", "keras_densenet", "fit"]
    options = ["--config", str(run / "config.yaml"), "--ckpt_path", "last"]
    done = subprocess.run(
        [*stage, *options, "--trainer.default_root_dir", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HELPERS), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Resuming after epoch 1 and 2 batches" in done.stdout
    assert (
        "Other than before: model." not in done.stdout
    )  # new options at their default
    assert "Other than before: data." not in done.stdout
    same = is_the_same_processor()
    found = weights_of(run / "checkpoints" / "last.keras")
    with np.load(OLD / "finished.npz") as expected:
        assert found.keys() == set(expected)
        for name in expected:
            compare = np.testing.assert_array_equal if same else assert_close
            compare(found[name], expected[name], err_msg=name)
    for row, before in zip(
        rows(run / "metrics.csv"), rows(OLD / "finished.csv"), strict=True
    ):
        assert row.keys() == before.keys()
        np.testing.assert_allclose(list(row.values()), list(before.values()), 1e-5)
    assert read_state(run / "checkpoints" / "last.keras").step == 15


def assert_close(found, expected, err_msg):
    """Compare where rounding differs, which training makes larger."""
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3, err_msg=err_msg)


def is_the_same_processor():
    lines = set(Path("/proc/cpuinfo").read_text().splitlines())
    return set((OLD / "processor.txt").read_text().splitlines()) <= lines
