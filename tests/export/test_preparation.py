"""Files of any channels and shape are answered as the trainer predicts them."""

import base64
import json

import numpy as np
import pytest
import tensorflow as tf
from linear_network import linear
from PIL import Image

import keras_densenet as kd


def noise(width, height, seed):
    """Give a coarse picture, RGBA, whose every part is other."""
    few = np.random.default_rng(seed).integers(0, 256, (5, 7, 4)).astype("uint8")
    return Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC)


def write_pictures(root):
    for label in ("left", "right"):
        for number in range(6):
            path = root / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise(40 + number, 33, seed=number + len(label)).save(path)
    return root


def write_files(root):
    """Write files of all kinds that a server takes, none of them a square."""
    root.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    noise(60, 31, 20).convert("L").save(root / "gray.jpg")
    noise(60, 31, 21).convert("RGB").save(root / "turned.jpg", exif=turned)
    noise(21, 50, 22).save(root / "transparent.png")
    noise(50, 40, 23).convert("RGB").quantize(16).save(root / "palette.gif")
    noise(43, 20, 24).convert("RGB").save(root / "color.bmp")
    wide = np.random.default_rng(25).integers(0, 65_536, (30, 50)).astype("uint16")
    Image.fromarray(wide).save(root / "sixteen.png")
    return sorted(root.iterdir())


@pytest.mark.parametrize(
    ("channels", "fit", "colors"),
    [
        pytest.param(1, "pad", "gray", marks=pytest.mark.slow),
        pytest.param(4, "crop", "RGBA", marks=pytest.mark.slow),
    ],
)
def test_files_are_answered_as_the_trainer_predicts_them(
    tmp_path, channels, fit, colors
):
    data = kd.data.ImageFolder(
        write_pictures(tmp_path / "pictures"),
        4,
        (16, 24),
        channels=channels,
        fit=fit,
        mirror=False,
        seed=1,
    )
    module = kd.ImageClassifier(linear, learning_rate=1e-3, milestones=())
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = kd.Trainer(1, default_root_dir=tmp_path, **quiet)
    trainer.fit(module, data)
    version = trainer.export(module, tmp_path / "served")
    files = write_files(tmp_path / "files")
    expected = trainer.predict(module, kd.data.Pictures(files, like=data))
    assert np.ptp(expected[:, 0]) > 0.05  # they are told apart,
    assert np.median(expected.max(axis=1)) < 0.99  # and not all of them surely
    predict = tf.saved_model.load(str(version)).signatures["predict_bytes"]
    found = predict(image_bytes=tf.constant([path.read_bytes() for path in files]))
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)

    said = json.loads((version / "assets.extra" / "export.json").read_text())
    prepared = said["preprocessing"]
    assert (prepared["channels"], prepared["fit"]) == (colors, fit)
    assert prepared["input_shape"] == [16, 24, channels]
    assert len(prepared["mean"]) == len(prepared["std"]) == channels
    golden = version / "assets.extra" / "golden" / "predict_bytes.request.json"
    rows = json.loads(golden.read_text())["instances"]
    kinds = [base64.b64decode(row["b64"])[1:4] for row in rows]
    assert kinds == [b"PNG", b"PNG" if channels == 4 else b"\xd8\xff\xe0"]
