"""The README's code, run in its order in one process, with small networks and data."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import keras_densenet as kd

README = Path(__file__).parent.parent / "README.md"
SHORTER = {  # what is shown, and what is run instead
    "max_epochs=12": "max_epochs=1",
    "max_epochs=300": "max_epochs=2",
    "depth=22, growth_rate=12": "depth=10, growth_rate=4",
    "depth=(16, 40)": "depth=(10, 16)",
    "75_000": "75_000, max_epochs=1",
    "00:00:10:00": "00:00:00:01",
    '"runs/b/best.keras"': "module",
    'mode="binsearch"': "init_val=4, max_val=4",
}


@pytest.mark.slow
def test_the_code_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 17
    for name in ("flowers/rose", "films/normal"):
        (tmp_path / name).mkdir(parents=True)
    volumes = {"train_images": np.zeros((2, 28, 28, 28)), "train_labels": [[0], [1]]}
    np.savez(tmp_path / "organmnist3d.npz", **volumes)
    names = {"tf": tf, "model": kd.DenseNetBC(10, 4), "source": kd.DenseNetBC(10, 4)}
    names |= {"images": np.zeros((20, 8, 8, 3)), "labels": np.arange(20) % 2}
    for block in blocks:
        shorter = re.sub('weights="(imagenet|.*pth)"', "weights=None", block)
        for shown, instead in SHORTER.items():
            shorter = shorter.replace(shown, instead)
        exec(compile(shorter, "README.md", "exec"), names)
    assert (tmp_path / "feature_reuse.png").is_file()
    assert (tmp_path / "densenet.pth").is_file()
    assert (tmp_path / "lr_find.png").is_file()
    assert (tmp_path / "gradient_flow.png").is_file()
    assert (tmp_path / "cross_validation/folds.csv").is_file()
    assert (tmp_path / "tuning/densenet/trials.csv").is_file()
    assert len(list(tmp_path.rglob("report.html"))) == 1
    assert (tmp_path / "saved_models/digits/1/saved_model.pb").is_file()
    answer = names["predict"](image_bytes=names["picture"][tf.newaxis])
    assert answer["classes"].shape == (1, 5)
