"""Training on files that are removed, added or damaged meanwhile."""

import os
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import keras_densenet as kd


def made(root, batch_size=5):
    return kd.data.ImageFolder(
        root, batch_size, 8, validation_fraction=0.25, test_fraction=0.25, seed=1
    )


def files_of(data):
    return {
        split: {os.path.relpath(path, data.root) for path in data._files(split).paths}
        for split in ("train", "val", "test")
    }


def compiled(trainer):
    with trainer.scope():
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.layers.Flatten(),
                keras.layers.Dense(2, "softmax"),
            ],
            name="flat",
        )
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def trainer_of(root, epochs):
    return kd.Trainer(epochs, default_root_dir=root, enable_progress_bar=False)


@pytest.mark.slow
def test_a_resumed_and_a_tested_run_keep_the_split(tmp_path):
    root = tmp_path / "data"
    for label, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for number in range(20):
            color = (100 * label, 10 * number, 0)
            Image.new("RGB", (9, 9), color).save(root / name / f"{number}.png")
    trainer = trainer_of(tmp_path, 1)
    data = made(root)
    trainer.fit(compiled(trainer), data)
    last = trainer.checkpoint_callback.last_model_path
    before = files_of(data)  # ten of each class to train on: four steps of five
    for split in ("val", "test"):
        for gone in sorted(before[split])[:3]:
            (root / gone).unlink()
    kept = {s: {n for n in before[s] if Path(root, n).exists()} for s in before}
    assert files_of(made(root)) != kept  # as the shares alone would have it

    for stage in ("test", "predict", "report", "fit"):
        trainer, data = trainer_of(tmp_path, 2), made(root)
        answer = getattr(trainer, stage)(compiled(trainer), data, ckpt_path=last)
        assert files_of(data) == kept, stage
        if stage == "predict":
            assert len(answer) == len(kept["test"]) == 7
    # As many steps as before, though the shares would have made them fewer.
    assert trainer.global_step == 8
    assert np.isfinite(answer.history["val_loss"]).all()


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_a_file_that_is_damaged_after_the_check_is_named(tmp_path, ending):
    for name in ("cat", "dog"):
        for number in range(4):
            path = tmp_path / "data" / name / f"{number}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(number).integers(0, 256, (40, 40, 3), "uint8")
            Image.fromarray(noise).save(path)
    trainer = trainer_of(tmp_path, 1)
    data = made(tmp_path / "data", batch_size=2)
    data.setup("fit")
    data.setup("test")
    for split, stage in (("train", "fit"), ("val", "validate"), ("test", "predict")):
        path = Path(data._files(split).paths[0])
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        words = rf"{re.escape(str(path))}.*"
        with pytest.raises(kd.data.BrokenPictureError, match=words):
            getattr(trainer, stage)(compiled(trainer), data)
        path.write_bytes(whole)


def test_data_of_before_splits_were_kept_are_as_they_are(tmp_path):
    data = kd.data.Digits(8)
    assert not data.keep_split({"seed": 1})
