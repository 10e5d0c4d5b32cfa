"""Mixup, cutmix, cutout and RandAugment: Keras's layers, seeded by number."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_densenet as kd
from keras_densenet.data import StrongAugmentation, strong_augmentation

SEED = tf.constant([3, 4], tf.int64)
N = 6


def telling(size=16):
    """Give pictures `(N, H, W, N)` whose every pixel is their class, one-hot."""
    labels = np.arange(N)
    pixels = np.eye(N, dtype="float32")[labels]
    return np.tile(pixels[:, None, None], [1, size, size, 1]), labels


def test_mixup_mixes_labels_as_it_mixes_pictures():
    images, labels = telling()
    mixed, shares = StrongAugmentation(N, {"mixup": 1.0}).batch(images, labels, SEED)
    np.testing.assert_allclose(mixed[:, 5, 7], shares, atol=1e-6)
    np.testing.assert_allclose(mixed[:, 0, 0], mixed[:, 15, 15], atol=1e-6)
    np.testing.assert_allclose(shares.numpy().sum(axis=1), 1, atol=1e-6)
    assert (shares.numpy().max(axis=1) < 0.99).sum() >= 3


def test_cutmix_mixes_labels_by_area():
    images, labels = telling(64)
    mixed, shares = StrongAugmentation(N, {"cutmix": 1.0}).batch(images, labels, SEED)
    assert set(np.unique(mixed)) == {0.0, 1.0}  # every pixel is of one picture
    areas = mixed.numpy().mean(axis=(1, 2))
    np.testing.assert_allclose(areas, shares, atol=2 * 64 / 64**2)  # an edge each way
    assert (areas.max(axis=1) < 0.99).sum() >= 3


def test_with_both_each_batch_has_one_of_them():
    images, labels = telling()
    both = StrongAugmentation(N, {"mixup": 1.0, "cutmix": 1.0})
    kinds = []
    for number in range(24):
        seed = tf.constant([1, number], tf.int64)
        mixed, _ = both.batch(images, labels, seed)
        kinds.append(set(np.unique(mixed)) == {0.0, 1.0})
    assert 5 <= sum(kinds) <= 19  # of 24, half: three standard deviations


def test_cutout_paints_a_square_in_mean_colour():
    images = np.random.default_rng(0).normal(-1, 1, (40, 32, 32, 3)).astype("float32")
    cut = StrongAugmentation(2, {"cutout": 0.5})
    found, labels = cut.batch(images, np.zeros(40, "int64"), SEED)
    assert labels.shape == (40,)  # class numbers, as they were
    corners = set()
    for image, result in zip(images, found.numpy(), strict=True):
        painted = (result != image).all(axis=-1)
        assert (result[painted] == 0).all()
        np.testing.assert_array_equal(result[~painted], image[~painted])
        rows, columns = (np.flatnonzero(painted.any(axis=axis)) for axis in (1, 0))
        assert painted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert (len(rows), len(columns)) == (16, 16)
        corners.add((rows[0], columns[0]))
    assert len(corners) > 20


def picture(size=24):
    few = np.random.default_rng(1).integers(30, 200, (4, 4, 3)).astype("uint8")
    image = Image.fromarray(few).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image, "float32")


def test_each_operation_of_rand_augment_is_keras_own(monkeypatch):
    """Operation by operation what `keras.layers.RandAugment` does of strength 0.5.

    But eight of them in both directions, or the more the stronger.
    """
    monkeypatch.setattr(strong_augmentation, "OPERATIONS", 1)
    rand = StrongAugmentation(2, {"rand_augment": 0.5})
    peer = keras.layers.RandAugment(factor=0.5, dtype="float32")
    peer.random_shear = keras.layers.RandomShear(0.5, 0.5)
    peer.random_translation = keras.layers.RandomTranslation(0.5, 0.5)
    peer.random_rotation = keras.layers.RandomRotation(0.5)
    peer.random_brightness = keras.layers.RandomBrightness(0.5)
    peer.random_color_degeneration = keras.layers.RandomColorDegeneration(0.5)
    peer.random_contrast = keras.layers.RandomContrast((0.5, 0.5))  # 0.5..1.5
    peer.random_sharpness = keras.layers.RandomSharpness((0.25, 0.75))
    peer.random_posterization = keras.layers.RandomPosterization((4, 8))
    peer.solarization.threshold_factor = (127.5, 1.0)  # 127.5..255
    image = tf.constant(picture()[None], tf.float32)
    change = tf.function(rand.picture)
    seen = set()
    for number in range(80):
        seed = tf.constant([0, number], tf.int64)
        drawn = tf.random.fold_in(tf.random.fold_in(seed, 0), 0)
        kind = int(tf.random.stateless_uniform([], drawn, maxval=11, dtype=tf.int32))
        if kind in seen:
            continue
        seen.add(kind)
        found = change(picture(), seed).numpy()
        layer = getattr(peer, peer._AUGMENT_LAYERS[kind])
        how = layer.get_random_transformation(
            image,
            training=True,
            seed=strong_augmentation.Drawn(tf.random.fold_in(drawn, 1)),
        )
        expected = layer.transform_images(image, how, True)
        np.testing.assert_allclose(found, np.clip(expected[0], 0, 255), atol=1e-2)
        assert not np.array_equal(found, picture())
    assert seen == set(range(11))


ALWAYS_THE_SAME = (keras.layers.AutoContrast, keras.layers.Equalization)


@pytest.mark.slow
def test_the_stronger_the_more_is_changed():
    """At 0.02 they are hardly to be seen, below 5 of 255; at 0.9 it is much more."""
    image = tf.constant(picture()[None], tf.float32)

    def change(layer):
        changes = [
            strong_augmentation._changed(layer, image, tf.constant([number, 7]))
            for number in range(30)
        ]
        return np.mean([np.abs(np.clip(c, 0, 255) - image) for c in changes])

    weak, strong = (strong_augmentation._operations(m) for m in (0.02, 0.9))
    for little, much in zip(weak, strong, strict=True):
        if not isinstance(little, ALWAYS_THE_SAME):
            few = change(little)
            assert few < 5, type(little).__name__
            assert 3 * few < change(much), type(little).__name__


@pytest.mark.parametrize("name", ["mixup", "cutmix", "cutout"])
def test_a_batch_depends_on_its_seed_alone(name):
    images, labels = telling()
    strong = StrongAugmentation(N, {name: 0.9})
    first, _ = strong.batch(images, labels, SEED)
    keras.utils.set_random_seed(7)
    again, _ = strong.batch(images, labels, SEED)
    other, _ = strong.batch(images, labels, SEED + 1)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_nothing_is_done_that_is_not_asked_for():
    images, labels = telling()
    nothing = StrongAugmentation(N, None)
    assert nothing.batch(images, labels, SEED) == (images, labels)
    assert nothing.picture(labels, SEED) is labels
    assert not nothing.mixes


@pytest.mark.parametrize("options", [{"mix": 0.1}, {"mixup": 1.5}, {"cutout": -0.1}])
def test_other_options_are_refused(options):
    with pytest.raises(
        ValueError, match=r"mixup, cutmix, cutout, rand_augment.*0\.\.1"
    ):
        StrongAugmentation(N, options)


EVERYTHING = {"mixup": 0.4, "cutmix": 1.0, "cutout": 0.5, "rand_augment": 0.5}


def small_folder(root, seed):
    for label in ("a", "b"):
        for number in range(4):
            path = root / label / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(picture(20 + number).astype("uint8")).save(path)
    return kd.data.ImageFolder(
        root, 3, 16, validation_fraction=0.25, seed=seed, strong=EVERYTHING
    )


def small_digits(root, seed):
    return kd.data.Digits(4, seed=seed, strong=EVERYTHING)


@pytest.mark.slow
@pytest.mark.parametrize("made", [small_folder, small_digits])
def test_a_resumed_run_sees_the_same_batches(tmp_path, made):
    batches = []
    for first in (0, 2):
        data = made(tmp_path, 5)
        data.setup("fit")
        batches.append(list(data.train_batches(first).take(4 - first)))
    for (x, y), (resumed_x, resumed_y) in zip(batches[0][2:], batches[1], strict=True):
        np.testing.assert_array_equal(x, resumed_x)
        np.testing.assert_array_equal(y, resumed_y)
        assert x.shape[1:] == data.input_shape
        assert y.shape == (data.batch_size, data.num_classes)
        np.testing.assert_allclose(y.numpy().sum(axis=1), 1, atol=1e-6)
    _, labels = next(iter(data.val_dataset()))  # of the same form, and not mixed
    assert set(np.unique(labels)) == {0.0, 1.0}
    assert labels.shape[1] == data.num_classes


def test_a_grey_picture_is_changed_as_one_of_three_equal_channels():
    grey = np.random.default_rng(0).integers(0, 256, (1, 12, 10, 1)).astype("float32")
    rgb = np.repeat(grey, 3, axis=-1)
    for layer in strong_augmentation._operations(0.5):
        one, three = (
            strong_augmentation._changed(layer, tf.constant(images), SEED).numpy()
            for images in (grey, rgb)
        )
        assert one.shape == grey.shape
        close = {"atol": 0.1, "err_msg": layer.name}  # Keras's weights of gray
        np.testing.assert_allclose(np.repeat(one, 3, axis=-1), three, **close)
