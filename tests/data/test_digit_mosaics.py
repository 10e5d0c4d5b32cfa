"""Mosaics of digits: labels are what is in them, and no digit is in two splits."""

import numpy as np
import pytest

import keras_densenet as kd
from keras_densenet.data.digits import split_digits


@pytest.fixture(scope="module")
def splits():
    return kd.data.DigitMosaics(seed=0).load_splits("fit")


def parts_of(images):
    """Return the four digits of each mosaic, (N, 4, 64), as they were read."""
    small = images[:, ::2, ::2, 0].reshape(-1, 2, 8, 2, 8)
    return small.transpose(0, 1, 3, 2, 4).reshape(-1, 4, 64)


def test_labels_are_the_digits_that_are_seen(splits):
    for name, (pixels, digits) in split_digits().items():
        which = {tuple(p.ravel()): d for p, d in zip(pixels, digits, strict=True)}
        images, labels = splits[name]
        for parts, row in zip(parts_of(images)[:200], labels[:200], strict=True):
            seen = {which[tuple(part)] for part in parts if part.any()}
            assert seen == set(np.flatnonzero(row))  # KeyError: of another split


def test_mean_and_deviation_are_those_of_the_training(splits):
    pixels = splits["train"].images.astype("float64")
    assert kd.data.DigitMosaics.mean == pytest.approx((pixels.mean(),), abs=0.05)
    assert kd.data.DigitMosaics.std == pytest.approx((pixels.std(),), abs=0.05)


def test_each_digit_is_in_about_a_quarter_of_them(splits):
    """A place has it with 0.75 / 10, and one of four must: 1 - 0.925 ** 4."""
    expected = 1 - (1 - 0.75 / 10) ** 4
    for _, labels in splits.values():
        assert labels.mean() == pytest.approx(expected, abs=0.02)


def test_some_labels_of_the_training_are_not_known():
    splits = kd.data.DigitMosaics(seed=0, unknown=0.3).load_splits("fit")
    assert np.isnan(splits["train"].labels).mean() == pytest.approx(0.3, abs=0.01)
    assert not np.isnan(splits["val"].labels).any()
    with pytest.raises(ValueError, match="0 <= unknown < 1"):
        kd.data.DigitMosaics(unknown=1.0)
