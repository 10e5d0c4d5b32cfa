"""Crops and colours beside references written out in numpy, picture by picture."""

import numpy as np
import pytest
import tensorflow as tf
from augmentation_by_hand import jitter_by_hand, window_by_hand
from PIL import Image, ImageOps

from keras_densenet.data import (
    center_crop,
    color_jitter,
    crops,
    mirror,
    pca_lighting,
    random_resized_crop,
    resize_and_center_crop,
    resize_and_pad,
    resize_short_side,
    resize_to_input,
    ten_crop,
)
from keras_densenet.data.crops import random_window, resize_over

SEED = tf.constant([3, 5], tf.int64)


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype("float32")


@pytest.mark.parametrize("size", [(375, 500), (90, 40), (7, 300)])
def test_windows_are_those_drawn_by_hand(size):
    find = tf.function(random_window)
    for number in range(60):
        seed = tf.constant([1, number], tf.int64)
        found = tuple(find(*map(tf.constant, size), seed).numpy().tolist())
        assert found == window_by_hand(*size, seed)


def test_a_window_of_a_strip_that_none_fits_is_the_square_at_the_centre():
    window = random_window(tf.constant(10), tf.constant(1001), SEED).numpy().tolist()
    assert window == [0, 496, 10, 10]  # (1001 - 10 + 1) / 2


def test_windows_for_a_result_that_is_no_square_keep_its_ratio():
    find = tf.function(lambda h, w, s: random_window(h, w, s, shape=2.0))
    size = tf.constant(400), tf.constant(800)
    windows = [find(*size, tf.constant([1, n], tf.int64)).numpy() for n in range(60)]
    _, _, h, w = np.transpose(windows)
    assert 2 * 0.74 < (w / h).min() < (w / h).max() < 2 * 1.35
    strip = find(tf.constant(10), tf.constant(1001), SEED).numpy().tolist()
    assert strip == [0, 491, 10, 20]  # (1001 - 20 + 1) / 2
    upright = find(tf.constant(1001), tf.constant(10), SEED).numpy().tolist()
    assert upright == [498, 0, 5, 10]  # (1001 - 5 + 1) / 2


def test_views_that_are_no_square_are_cut_where_squares_are():
    image = pictures(300, 500, 3)
    crop = random_resized_crop(image, SEED, (24, 48))
    assert crop.shape == (24, 48, 3)
    np.testing.assert_array_equal(center_crop(image, (10, 20)), image[145:155, 240:260])
    views = ten_crop(image, (10, 20)).numpy()
    np.testing.assert_array_equal(views[4], image[290:, 480:])
    np.testing.assert_array_equal(views[6], image[:10, ::-1][:, :20])
    # 256 / 192 of 192 x 256 is 256 x 341.3, which needs 342; 300 x 500 covers it at
    # 256 / 300: 500 * 256 / 300 = 426.7.
    assert resize_over(image, (192, 256), 256).shape == (256, 427, 3)
    assert resize_over(pictures(500, 300, 3), (192, 256), 256).shape == (570, 342, 3)


def test_windows_have_the_shares_and_ratios_that_they_should():
    find = tf.function(random_window)
    seeds = tf.stack([tf.zeros(800, tf.int64), tf.range(800, dtype=tf.int64)], 1)
    size = tf.constant(400), tf.constant(500)
    windows = tf.map_fn(lambda s: find(*size, s), seeds, fn_output_signature=tf.int32)
    top, left, h, w = windows.numpy().T
    assert (top >= 0).all() & (left >= 0).all()
    assert (top + h <= 400).all() & (left + w <= 500).all()
    share, ratio = h * w / 200_000, w / h
    assert share.min() == pytest.approx(0.08, abs=0.01)
    assert share.max() > 0.9
    assert 0.73 < ratio.min() < ratio.max() < 1.36
    small = ratio[share < 0.5]  # which fit upright, too: at most 365 of 400 rows
    assert np.mean(small < 1) == pytest.approx(0.5, abs=0.1)


def test_a_random_crop_is_its_window_resized():
    image = pictures(60, 80, 3)
    seed = tf.constant([1, 4], tf.int64)
    top, left, h, w = window_by_hand(60, 80, seed)
    cut = image[top : top + h, left : left + w]
    expected = tf.image.resize(cut, [32, 32], "bicubic", antialias=True)
    crop = random_resized_crop(image, seed, 32)
    assert crop.shape == (32, 32, 3)
    np.testing.assert_allclose(crop, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "resized"),
    [((500, 375), (341, 256)), ((256, 256), (256, 256)), ((100, 333), (256, 852))],
)
def test_the_short_side_is_resized(size, resized):
    # 500 * 256 / 375 = 341.3, 333 * 256 / 100 = 852.5, which is 852.48
    image = tf.zeros([*size, 3])
    assert tuple(resize_short_side(image, 256).shape[:2]) == resized
    assert resize_and_center_crop(image).shape == (224, 224, 3)


def test_halving_a_picture_is_the_mean_of_its_neighbours():
    """Antialiased bilinear at half the size weighs 1, 3, 3, 1 eighths."""
    row = np.array([0, 8, 16, 80, 160, 8, 0, 0], "float32")
    image = np.tile(row[:, None, None], [1, 8, 1])
    resized = resize_short_side(image, 4, "bilinear").numpy()[:, 0, 0]
    assert resized[1] == pytest.approx((8 + 3 * 16 + 3 * 80 + 160) / 8)
    assert resized[2] == pytest.approx((80 + 3 * 160 + 3 * 8 + 0) / 8)


def test_the_centre_of_one_picture_and_of_many():
    images = pictures(2, 7, 10, 3)
    np.testing.assert_array_equal(center_crop(images, 4), images[:, 2:6, 3:7])
    np.testing.assert_array_equal(center_crop(images[0], 4), images[0, 2:6, 3:7])


def test_of_a_strip_the_centre_is_resized():
    strip = pictures(2, 8000, 3)  # whole, it would be resized to 256 x 1,024,000
    found = resize_and_center_crop(strip, 224, 256)
    assert found.shape == (224, 224, 3)
    centre = resize_and_center_crop(strip[:, 3992:4008], 224, 256)
    np.testing.assert_array_equal(found, centre)


def test_of_a_strip_the_centre_is_resized_where_it_becomes_no_square():
    strip = pictures(2, 8000, 3)
    # The largest window of 28 x 42 in it has 2 x 3 pixels, and eight times 3 are kept.
    found = resize_and_center_crop(strip, (28, 42), 32)
    centre = resize_and_center_crop(strip[:, 3988:4012], (28, 42), 32)
    np.testing.assert_array_equal(found, centre)


def test_a_centre_that_is_no_square_is_cut_out_of_what_covers_it():
    image = pictures(90, 140, 3)
    # 32 / 28 of 28 x 42 is 32 x 48: 90 x 140 covers it at 32 / 90, with 49.8 columns.
    resized = tf.image.resize(image, [32, 50], "bicubic", antialias=True).numpy()
    found = resize_to_input(image, (28, 42), 32, fit="crop")
    np.testing.assert_allclose(found, resized[2:30, 4:46], atol=1e-3)
    upright = pictures(140, 90, 3)
    # At 48 / 90, with 74.7 rows.
    resized = tf.image.resize(upright, [75, 48], "bicubic", antialias=True).numpy()
    found = resize_to_input(upright, (28, 42), 32, fit="crop")
    np.testing.assert_allclose(found, resized[24:52, 3:45], atol=1e-3)


@pytest.mark.parametrize("size", [(28, 42), (42, 28), (32, 32), (5, 60)])
@pytest.mark.parametrize("there", [(90, 140), (140, 90), (20, 20), (3, 7)])
def test_a_padded_picture_has_the_size_that_pillow_gives_it_and_is_in_the_middle(
    size, there
):
    white = np.full((*there, 3), 255, "uint8")
    width, height = ImageOps.contain(Image.fromarray(white), size[::-1]).size
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    expected = np.zeros((*size, 3))
    expected[top : top + height, left : left + width] = 255
    np.testing.assert_allclose(resize_and_pad(white, size), expected, atol=1e-2)


def test_a_padded_picture_is_whole_and_undistorted():
    image = pictures(2, 4, 3)
    # Nothing is resized: two rows of four are filled up, one of them above.
    expected = np.pad(image, [(1, 1), (0, 0), (0, 0)])
    np.testing.assert_allclose(resize_and_pad(image, 4), expected, atol=1e-4)
    # Of one row three are missing: one above, and two below.
    both = np.stack([image[:1]] * 2)
    expected = np.pad(both, [(0, 0), (1, 2), (0, 0), (0, 0)])
    found = resize_to_input(both, (4, 4), 5, fit="pad")
    np.testing.assert_allclose(found, expected, atol=1e-4)
    strip = resize_and_pad(np.full((2, 8000, 1), 9, "uint8"), (28, 42)).numpy()
    assert strip[13] == pytest.approx(9, abs=1e-3)  # one row, at least
    assert strip.sum() == pytest.approx(9 * 42, abs=1e-2)


def test_a_squashed_picture_has_the_size_and_other_proportions():
    image = pictures(90, 140, 3)
    expected = tf.image.resize(image, [32, 32], "bicubic", antialias=True)
    found = resize_to_input(image, 32, 37, fit="squash")
    np.testing.assert_allclose(found, expected, atol=1e-3)
    with pytest.raises(ValueError, match='fit must be "crop"'):
        resize_to_input(image, 32, 37, fit="stretch")


def test_ten_views_in_the_order_of_fb_resnet_torch():
    images = pictures(2, 8, 11, 3)
    views = ten_crop(images, 6)
    assert views.shape == (2, 10, 6, 6, 3)
    for picture, found in zip(images, views.numpy(), strict=True):
        mirrored = picture[:, ::-1]
        expected = [
            view
            for p in (picture, mirrored)
            for view in (p[1:7, 3:9], p[:6, :6], p[:6, 5:], p[2:, :6], p[2:, 5:])
        ]
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(ten_crop(images[1], 6), views[1])


def test_about_half_of_the_pictures_are_mirrored():
    images = pictures(400, 2, 3, 1)
    coins = tf.random.stateless_uniform([400, 1], SEED).numpy()
    expected = [
        image[:, ::-1] if coin < 0.5 else image
        for image, (coin,) in zip(images, coins, strict=True)
    ]
    np.testing.assert_array_equal(mirror(images, SEED), expected)
    assert 150 < (coins < 0.5).sum() < 250


def test_colours_are_those_changed_by_hand():
    images = pictures(24, 5, 7, 3)
    found = tf.function(color_jitter)(images, SEED, 0.4, 0.3, 0.2).numpy()
    drawn = tf.random.stateless_uniform([2, 24, 3], SEED).numpy()
    orders = set()
    for number, image in enumerate(images):
        factors = 1 + np.array([0.4, 0.3, 0.2]) * (2 * drawn[0, number] - 1)
        order = np.argsort(drawn[1, number])
        orders.add(tuple(order))
        expected = jitter_by_hand(image.astype("float64"), factors, order)
        np.testing.assert_allclose(found[number], expected, atol=1e-3)
    assert len(orders) == 6  # every order occurs


def test_brightness_is_within_its_range():
    grey = np.full((500, 1, 1, 3), 100.0, "float32")
    found = color_jitter(grey, SEED, 0.4, 0.0, 0.0).numpy()[:, 0, 0, 0]
    assert 60 <= found.min() < 62
    assert 138 < found.max() <= 140


def test_contrast_and_saturation_leave_grey_pictures_grey():
    grey = np.repeat(pictures(8, 4, 4, 1), 3, axis=-1)
    found = color_jitter(grey, SEED, 0.0, 0.0, 0.4).numpy()
    np.testing.assert_allclose(found, grey, atol=1e-3)
    found = color_jitter(grey, SEED, 0.0, 0.4, 0.0).numpy()
    np.testing.assert_allclose(
        found.mean(axis=(1, 2, 3)), grey.mean(axis=(1, 2, 3)), atol=1e-3
    )


def test_grey_changes_as_a_grey_rgb_picture_does_by_hand():
    images = pictures(6, 5, 7, 1)
    found = color_jitter(images, SEED, 0.4, 0.3, 0.2).numpy()
    drawn = tf.random.stateless_uniform([2, 6, 3], SEED).numpy()
    for number, image in enumerate(images):
        factors = 1 + np.array([0.4, 0.3, 0.2]) * (2 * drawn[0, number] - 1)
        rgb = np.repeat(image.astype("float64"), 3, axis=-1)
        expected = jitter_by_hand(rgb, factors, np.argsort(drawn[1, number]))
        np.testing.assert_allclose(found[number], expected[..., :1], atol=1e-3)


@pytest.mark.parametrize("change", [color_jitter, pca_lighting])
def test_alpha_is_no_color(change):
    rgba = pictures(6, 5, 7, 4)
    found = change(rgba, SEED).numpy()
    np.testing.assert_array_equal(found[..., 3], rgba[..., 3])
    np.testing.assert_allclose(found[..., :3], change(rgba[..., :3], SEED), atol=1e-4)


def test_lighting_by_hand():
    images = pictures(6, 2, 2, 3)
    alphas = tf.random.stateless_normal([6, 3], SEED, stddev=0.1).numpy()
    values = (0.2175, 0.0188, 0.0045)
    vectors = np.array(
        [
            [-0.5675, 0.7192, 0.4009],
            [-0.5808, -0.0045, -0.8140],
            [-0.5836, -0.6948, 0.4203],
        ]
    )
    found = pca_lighting(images, SEED, 0.1).numpy()
    for image, alpha, result in zip(images, alphas, found, strict=True):
        added = [
            255 * sum(vectors[c, k] * alpha[k] * values[k] for k in range(3))
            for c in range(3)
        ]
        np.testing.assert_allclose(result, image + added, atol=1e-3)


@pytest.mark.parametrize("method", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    ("shape", "size"),
    [((37, 53, 3), (20, 20)), ((2, 12, 9, 3), (30, 24)), ((1, 40, 3), (7, 7))],
)
def test_a_picture_is_resized_as_tensorflow_does(method, shape, size):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype("uint8")
    expected = tf.image.resize(pixels, size, method, antialias=True)
    found = crops._resize(tf.constant(pixels), size, method)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-4)
    unknown = tf.TensorSpec([None] * (len(shape) - 1) + [3], tf.uint8)
    graph = tf.function(
        lambda image: crops._resize(image, tf.constant(size), method),
        input_signature=[unknown],
    )
    np.testing.assert_allclose(graph(pixels), expected, atol=1e-4)
