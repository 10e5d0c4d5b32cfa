"""Gray and RGBA pictures, and how whole ones become the network's size."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_densenet as kd
from keras_densenet.data import picture_files
from keras_densenet.data.picture_files import decode
from keras_densenet.export.signatures import Preprocessing

RED = (200, 30, 40)
# 0.299 * 200 + 0.587 * 30 + 0.114 * 40 = 81.97
GRAY_OF_RED = 82


def smooth(width=60, height=40, seed=0):
    """Give a picture without noise, which JPEG hardly changes."""
    few = np.random.default_rng(seed).integers(0, 256, (3, 4, 3)).astype("uint8")
    return Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC)


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return {"exif": exif}


# --- one file of every kind ------------------------------------------------------

SIXTEEN = Image.fromarray(np.array([[0, 257, 32_896, 65_535]], "uint16"))
CLEAR = Image.fromarray(np.array([[[*RED, 255], [*RED, 0], [0, 0, 0, 51]]], "uint8"))
PALETTE = Image.new("P", (3, 1))
PALETTE.putpalette([*RED, 255, 255, 255, 0, 0, 0])
PALETTE.putdata([0, 1, 2])

FILES = {  # a picture, its format and options; its gray and its RGBA, by hand
    "gray PNG": (
        (Image.fromarray(np.array([[0, 99, 255]], "uint8")), "PNG", {}),
        [0, 99, 255],
        [(0, 0, 0, 255), (99, 99, 99, 255), (255, 255, 255, 255)],
    ),
    "color PNG": (
        (Image.new("RGB", (1, 1), RED), "PNG", {}),
        [GRAY_OF_RED],
        [(*RED, 255)],
    ),
    "gray PNG of 16 bits": (
        (SIXTEEN, "PNG", {}),
        [0, 1, 128, 255],
        [(n, n, n, 255) for n in (0, 1, 128, 255)],
    ),
    "gray TIFF of 16 bits": (
        (SIXTEEN, "TIFF", {}),
        [0, 1, 128, 255],
        [(n, n, n, 255) for n in (0, 1, 128, 255)],
    ),
    # On white where there is no alpha: 51 is a fifth, and 0.8 * 255 = 204 shines
    # through black.
    "transparent PNG": (
        (CLEAR, "PNG", {}),
        [GRAY_OF_RED, 255, 204],
        [(*RED, 255), (*RED, 0), (0, 0, 0, 51)],
    ),
    "transparent TIFF": (
        (CLEAR, "TIFF", {}),
        [GRAY_OF_RED, 255, 204],
        [(*RED, 255), (*RED, 0), (0, 0, 0, 51)],
    ),
    "gray transparent PNG": (
        (Image.fromarray(np.array([[[7, 255], [7, 0]]], "uint8"), "LA"), "PNG", {}),
        [7, 255],
        [(7, 7, 7, 255), (7, 7, 7, 0)],
    ),
    "PNG with a palette, one clear": (
        (PALETTE, "PNG", {"transparency": 2}),
        [GRAY_OF_RED, 255, 255],
        [(*RED, 255), (255, 255, 255, 255), (0, 0, 0, 0)],
    ),
    "BMP": ((Image.new("RGB", (1, 1), RED), "BMP", {}), [GRAY_OF_RED], [(*RED, 255)]),
    "one bit": (
        (Image.new("1", (1, 1), 1), "PNG", {}),
        [255],
        [(255, 255, 255, 255)],
    ),
    # A half turn: left is right.
    "turned PNG": (
        (Image.fromarray(np.array([[3, 4]], "uint8")), "PNG", turned(3)),
        [4, 3],
        [(4, 4, 4, 255), (3, 3, 3, 255)],
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_gray_and_rgba_of_a_file_by_hand(tmp_path, name):
    (image, kind, options), gray, rgba = FILES[name]
    path = tmp_path / "picture"
    image.save(path, kind, **options)
    assert decode(path, 1).tolist() == [[[number] for number in gray]]
    assert decode(path, 4)[0].tolist() == list(map(list, rgba))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("channels", [1, 4])
def test_a_jpeg_has_the_same_pixels_from_either_decoder(tmp_path, mode, channels):
    path = save(tmp_path / "a.jpg", smooth().convert(mode))
    read = tf.function(lambda *file: picture_files.read_picture(*file, channels))
    by_tensorflow, by_pillow = (
        read(tf.constant(str(path)), tf.constant(plain)) for plain in (True, False)
    )
    np.testing.assert_array_equal(by_tensorflow, by_pillow)
    with Image.open(path) as image:
        expected = image.convert("RGB").convert({1: "L", 4: "RGBA"}[channels])
    np.testing.assert_array_equal(by_pillow, np.atleast_3d(np.array(expected)))


def test_a_turned_jpeg_is_upright_in_gray(tmp_path):
    upright = decode(save(tmp_path / "a.jpg", smooth()), 1)
    path = save(tmp_path / "b.jpg", smooth(), **turned(6))  # a quarter turn clockwise
    np.testing.assert_array_equal(decode(path, 1), upright.transpose(1, 0, 2)[:, ::-1])


# --- batches ---------------------------------------------------------------------


def files_of_every_kind(root):
    """Make a folder whose pictures are gray, of 16 bits, turned, and transparent."""
    rgba = smooth().convert("RGBA")
    rgba.putalpha(smooth(seed=1).convert("L"))
    for split in ("train", "test"):
        save(root / split / "a" / "0.jpg", smooth().convert("L"))
        save(root / split / "a" / "1.jpg", smooth(), **turned(6))
        wide = np.asarray(smooth(seed=2).convert("L")).astype("uint16") * 257
        save(root / split / "b" / "2.tif", Image.fromarray(wide))
        save(root / split / "b" / "3.png", rgba)
    return root


@pytest.mark.parametrize(("channels", "fit"), [(1, "crop"), (4, "pad")])
def test_each_channel_is_that_of_the_file_in_training_test_and_prediction(
    tmp_path, channels, fit
):
    root = files_of_every_kind(tmp_path)
    options = {"channels": channels, "fit": fit, "augment": False, "seed": 3}
    data = kd.data.ImageFolder(root, 4, (28, 42), validation_fraction=0, **options)
    assert data.input_shape == (28, 42, channels)
    data.setup("fit")
    data.setup("test")
    paths = sorted((root / "test").rglob("*.*"))
    prepared = Preprocessing(
        data.input_shape, data.mean, data.std, data.short_side, data.method, fit
    )
    mean, std = np.float32(data.mean), np.float32(data.std)
    expected = np.stack(
        [(prepared.resized(decode(path, channels)) - mean) / std for path in paths]
    )
    ((tested, _),) = data.test_dataset()
    np.testing.assert_allclose(tested, expected, atol=1e-5)
    new = kd.data.Pictures(root / "test", like=data)
    new.setup("predict")
    (predicted,) = new.predict_dataset()
    np.testing.assert_array_equal(predicted, tested)
    ((trained, _),) = data.train_dataset()
    means = [np.sort(np.mean(images, axis=(1, 2, 3))) for images in (trained, tested)]
    np.testing.assert_allclose(*means, atol=1e-5)


@pytest.mark.parametrize("channels", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_training_pictures_of_any_channels_are_augmented(tmp_path, channels):
    root = files_of_every_kind(tmp_path)
    strong = {"mixup": 0.2, "cutmix": 1.0, "cutout": 0.5}
    options = {"channels": channels, "jitter": 0.4, "strong": strong, "seed": 1}
    data = kd.data.ImageFolder(root, 4, (16, 24), validation_fraction=0, **options)
    data.setup("fit")
    ((images, labels),) = data.train_dataset()
    assert images.shape == (4, 16, 24, channels)
    assert labels.shape == (4, 2)
    assert np.isfinite(images).all()


def test_mean_and_std_have_a_number_for_each_channel(tmp_path):
    save(tmp_path / "a" / "0.png", smooth())

    def numbers(**options):
        data = kd.data.ImageFolder(tmp_path, **options)
        return data.mean, data.std

    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    average = sum(mean) / 3, sum(std) / 3
    assert numbers() == (mean, std)
    gray = numbers(channels=1)
    assert gray == ((pytest.approx(average[0]),), (pytest.approx(average[1]),))
    with_alpha = numbers(channels=4)
    assert with_alpha == (
        (*mean, pytest.approx(average[0])),
        (*std, pytest.approx(average[1])),
    )
    assert numbers(channels=1, mean=[9]) == ((9,), gray[1])


def test_ones_own_pictures_may_be_gray(tmp_path):
    class Gray(kd.data.ImageFolder):
        """Decodes to one channel, whatever is asked for."""

        def __post_init__(self):
            self.channels = 1
            super().__post_init__()

    save(tmp_path / "a" / "0.png", smooth())
    assert Gray(tmp_path).input_shape == (224, 224, 1)
    assert Gray(tmp_path).mean == (114.495,)


# --- left and right --------------------------------------------------------------


def brighter_to_the_right(height=20, width=30):
    row = np.linspace(0, 255, width).astype("uint8")
    return np.tile(row[:, None], (height, 1, 1))  # (H, W, 1)


def mirrored(images):
    """Return of which pictures the left half is the brighter one."""
    left, right = np.split(np.asarray(images), 2, axis=2)
    return left.mean(axis=(1, 2, 3)) > right.mean(axis=(1, 2, 3))


@pytest.mark.parametrize("mirror", [True, False])
def test_sides_are_changed_where_they_may_be(tmp_path, mirror):
    for number in range(16):
        image = Image.fromarray(brighter_to_the_right()[..., 0])
        save(tmp_path / "a" / f"{number}.png", image)
    options = {"mirror": mirror, "jitter": 0.4, "seed": 1}
    folder = kd.data.ImageFolder(tmp_path, 16, 8, validation_fraction=0, **options)
    pictures = np.stack([brighter_to_the_right()] * 16)
    labels = np.arange(16) % 2
    options = {"augment": True, "mirror": mirror, "seed": 1}
    for data in (folder, kd.data.Arrays(pictures, labels, 16, **options)):
        data.setup("fit")
        first, second = (images for images, _ in data.train_batches(0).take(2))
        assert not np.array_equal(first, second)  # crops, or shifts
        many = mirrored(np.concatenate([first, second])).sum()
        assert 6 <= many <= 26 if mirror else many == 0  # of 32


def test_ten_views_are_not_mirrored_where_sides_must_stay(tmp_path):
    save(tmp_path / "train" / "a" / "0.png", smooth())
    save(tmp_path / "test" / "a" / "0.png", smooth())
    data = kd.data.ImageFolder(tmp_path, mirror=False)
    with pytest.raises(ValueError, match=r"which mirror=False rules out: test on the"):
        kd.data.TenCrops(data)
    with pytest.raises(ValueError, match="Five of ten views"):
        data.ten_crop_dataset()


def test_ten_views_are_undistorted_whatever_the_fit(tmp_path):
    save(tmp_path / "train" / "a" / "0.png", smooth())
    save(tmp_path / "test" / "a" / "0.png", smooth(140, 90))

    def views(fit):
        data = kd.data.ImageFolder(tmp_path, 1, 28, fit=fit, channels=1)
        data.setup("test")
        ((images, _),) = kd.data.TenCrops(data).test_dataset()
        return images

    assert views("pad").shape == (1, 10, 28, 28, 1)
    np.testing.assert_array_equal(views("pad"), views("crop"))
