"""Intervals of the bootstrap, beside formulas and scikit-learn."""

import math

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.metrics import roc_auc_score

from keras_densenet.analysis import area_interval, mean_interval


def sample(seed, n, rounded=False):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.3).astype(float)
    shares = 1 / (1 + np.exp(-rng.normal(2 * labels - 1, 1.5)))
    labels[rng.random(n) < 0.2] = np.nan
    return labels, np.round(shares, 1) if rounded else shares


@pytest.mark.parametrize("rounded", [False, True])
def test_the_area_is_scikit_learns(rounded):
    labels, shares = sample(3, 200, rounded)
    known = ~np.isnan(labels)
    expected = roc_auc_score(labels[known], shares[known])
    found = area_interval(labels, shares, draws=50)
    assert found.value == pytest.approx(expected, abs=1e-12)


def test_the_samples_areas_are_scikit_learns():
    """Two draws of the same numbers: 2.5 and 97.5 % are between them."""
    labels, shares = sample(3, 60, rounded=True)
    known = ~np.isnan(labels)
    labels, shares = labels[known], shares[known]
    rng = np.random.default_rng(7)
    areas = []
    for _ in range(2):
        numbers = rng.integers(len(labels), size=len(labels))
        areas.append(roc_auc_score(labels[numbers], shares[numbers]))
    found = area_interval(labels, shares, draws=2, seed=7)
    low, high = sorted(areas)
    assert found.low == pytest.approx(low + 0.025 * (high - low))
    assert found.high == pytest.approx(high - 0.025 * (high - low))


def test_the_interval_of_single_pictures_is_hanleys():
    """Hanley and McNeil 1982: the error of an area of 0.76, of 300 and 700 pictures."""
    rng = np.random.default_rng(0)
    labels = np.repeat([1.0, 0.0], [300, 700])
    answers = rng.normal(labels, 1)
    shares = 1 / (1 + np.exp(-answers))
    area, low, high = area_interval(labels, shares, draws=200)
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + 299 * (q1 - area**2) + 699 * (q2 - area**2)
    error = math.sqrt(variance / (300 * 700))
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.2)
    assert low < area < high


def test_pictures_that_are_alike_make_the_interval_wider():
    """Each picture nine times is no more than once: three times as narrow else."""
    labels, shares = sample(1, 200)
    nine = np.repeat(labels, 9), np.repeat(shares, 9)
    patients = np.repeat(np.arange(len(labels)), 9)
    once = area_interval(labels, shares, draws=200)
    together = area_interval(*nine, patients, draws=200)
    apart = area_interval(*nine, draws=200)
    width = once.high - once.low
    assert together.high - together.low == pytest.approx(width, rel=0.2)
    assert apart.high - apart.low == pytest.approx(width / 3, rel=0.2)
    assert math.isnan(area_interval(np.ones(3), np.ones(3)).value)


def test_an_area_that_samples_say_nothing_of_has_no_interval():
    shares = np.array([0.9, 0.8, 0.7, 0.4, 0.3, 0.2])
    labels = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    assert area_interval(labels, shares)[0] == 1.0  # all are told apart
    assert np.isnan(area_interval(labels, shares)[1:]).all()
    single = np.array([0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    assert area_interval(single, shares).value == pytest.approx(0.6)
    assert np.isnan(area_interval(single, shares)[1:]).all()
    two = np.array([0.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    patients = np.array(["a", "b", "b", "c", "d", "e"], object)
    assert np.isnan(area_interval(two, shares, patients)[1:]).all()
    assert area_interval(two, shares).low < 0.75  # of two patients it has one


def test_the_interval_of_a_share_is_the_binomials():
    """Of 400 answers 80 are wrong: 0.2, with an error of sqrt(0.2 0.8 / 400) = 0.02."""
    wrong = np.repeat([1.0, 0.0], [80, 320])
    found = mean_interval(wrong)
    assert found.value == 0.2
    assert found.low == pytest.approx(0.2 - 1.96 * 0.02, abs=0.006)
    assert found.high == pytest.approx(0.2 + 1.96 * 0.02, abs=0.006)
    # Clopper and Pearson: 0 of 20 is below x where (1 - x)^20 is 0.025.
    none, every = mean_interval(np.zeros(20)), mean_interval(np.ones(20))
    assert none == pytest.approx((0, 0, beta.ppf(0.975, 1, 20)))
    assert every == pytest.approx((1, beta.ppf(0.025, 20, 1), 1))
    of_five = mean_interval(np.zeros(20), np.arange(20) // 4)
    assert of_five.high == pytest.approx(1 - 0.025 ** (1 / 5))
    patients = np.arange(400) // 4  # of four pictures, all wrong or all right
    together = mean_interval(wrong, patients)
    width = found.high - found.low
    assert together.high - together.low == pytest.approx(2 * width, rel=0.15)
