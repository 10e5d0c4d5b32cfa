"""Pictures without labels, prepared as those that a network was tested on."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_densenet as kd
from keras_densenet.data.picture_files import gray


@pytest.fixture
def like(tmp_path):
    """A folder whose test pictures are those that the tests ask about."""
    for name, seed in (("cat", 0), ("dog", 1)):
        for split in ("train", "test"):
            picture(tmp_path / "data" / split / name / "0.png", 60, 40, seed)
    return kd.data.ImageFolder(
        tmp_path / "data", 2, 28, mean=(1, 2, 3), std=(4, 5, 6), method="bilinear"
    )


def picture(path, width, height, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), "uint8")
    Image.fromarray(noise).save(path)
    return path


def test_pictures_are_to_the_bit_what_the_test_sees(tmp_path, like):
    like.setup("test")
    ((expected, _),) = like.test_dataset()
    new = kd.data.Pictures(tmp_path / "data" / "test", like=like)
    new.setup("predict")
    (images,) = new.predict_dataset()
    np.testing.assert_array_equal(images, expected)
    assert (new.class_names, new.num_classes) == (("cat", "dog"), 2)
    assert (new.short_side, new.input_shape) == (32, (28, 28, 3))
    files = [str(tmp_path / "data" / "test" / n / "0.png") for n in ("cat", "dog")]
    assert new.predict_files() == dict(enumerate(files))


def test_pictures_for_a_network_that_sees_gray_ones(tmp_path):
    class Gray(kd.data.Digits):
        input_shape, mean, std = (8, 8, 1), (0.0,), (1.0,)

    path = picture(tmp_path / "a.png", 8, 8)
    new = kd.data.Pictures(path, like=Gray(4))
    new.setup("predict")
    (images,) = new.predict_dataset()
    by_pillow = np.asarray(Image.open(path).convert("L"))
    np.testing.assert_array_equal(images[0, ..., 0], by_pillow)
    ramp = tf.repeat(tf.range(256)[:, tf.newaxis, tf.newaxis], 3, axis=-1)
    assert gray(tf.cast(ramp, tf.uint8))[:, 0, 0].numpy().tolist() == list(range(256))


def test_files_and_folders_in_the_order_given_and_their_numbers(tmp_path, like):
    folder = tmp_path / "new"
    for name in ("b.png", "a.png", "deep/c.png"):
        picture(folder / name, 20, 30)
    (folder / "a.png").write_bytes(b"broken")
    (folder / "notes.txt").write_text("no picture")
    alone = picture(tmp_path / "alone.png", 9, 9)
    new = kd.data.Pictures([alone, folder], like, batch_size=3, on_error="skip")
    with (
        pytest.warns(UserWarning, match=r"1 file was left out .*: 1 \.txt"),
        pytest.warns(UserWarning, match=r"1 pictures cannot be read .*\n.*a\.png"),
    ):
        new.setup("predict")
    paths = {0: alone, 2: folder / "b.png", 3: folder / "deep" / "c.png"}
    assert new.predict_files() == {n: str(path) for n, path in paths.items()}
    assert [len(images) for images in new.predict_dataset()] == [3]


def test_what_cannot_be_predicted_is_named(tmp_path, like):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"")
    with pytest.raises(kd.data.BrokenPictureError, match=r"a\.jpg: the file is empty"):
        kd.data.Pictures(path, like).setup("predict")
    (tmp_path / "empty").mkdir()
    for paths, words in (
        (tmp_path / "b.jpg", "no file or folder .*b.jpg"),
        (tmp_path / "empty", "no pictures in the folder .*empty"),
        ([], "name files or folders"),
    ):
        with pytest.raises(ValueError, match=words):
            kd.data.Pictures(paths, like).setup("predict")
    with pytest.raises(ValueError, match=r"input_shape=\(10, 28, 28, 3\)"):
        kd.data.Pictures(path, kd.data.TenCrops(like))
    new = kd.data.Pictures(path, like)
    with pytest.raises(NotImplementedError, match="without labels"):
        new.test_dataset()
    with pytest.raises(ValueError, match=r"call setup\(\"predict\"\) first"):
        new.predict_dataset()
