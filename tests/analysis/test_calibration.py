"""Thresholds, temperatures and intervals, beside a search and formulas by hand."""

import math

import numpy as np
import pytest

from keras_densenet.analysis.calibration import (
    calibration_error,
    temperature,
    temperature_of_classes,
    threshold,
)

LABELS = np.array([1, 1, 0, 1, 0, 0, np.nan])
SHARES = np.array([0.9, 0.8, 0.7, 0.6, 0.2, 0.1, 0.95])


def sample(seed, n=80, rounded=False):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.3).astype(float)
    shares = 1 / (1 + np.exp(-rng.normal(2 * labels - 1, 1.5)))
    labels[rng.random(n) < 0.2] = np.nan
    return labels, np.round(shares, 1) if rounded else shares


def searched(labels, shares, rule):
    """Try every probability, and take the lowest of the best."""
    known = ~np.isnan(labels)
    labels, shares = labels[known], shares[known]
    kind, _, wanted = rule.partition("=")
    tried = []
    for t in np.unique(shares):
        says, has = shares >= t, labels == 1
        right, wrong, missed = (sum(says & has), sum(says & ~has), sum(~says & has))
        specificity = sum(~says & ~has) / sum(~has)
        f1 = 2 * right / (2 * right + wrong + missed)
        sensitivity = right / (right + missed)
        tried.append((t, sensitivity, specificity, right / (right + wrong), f1))
    if kind in ("youden", "f1"):
        score = {"youden": lambda r: r[1] + r[2], "f1": lambda r: r[4]}[kind]
        best = max(round(score(row), 9) for row in tried)
        return min(row[0] for row in tried if round(score(row), 9) == best)
    if kind == "sensitivity":
        return max(row[0] for row in tried if row[1] >= float(wanted))
    return min((r[0] for r in tried if r[3] >= float(wanted)), default=math.inf)


@pytest.mark.parametrize(
    "rule", ["youden", "f1", "sensitivity=0.9", "sensitivity=1", "ppv=0.8", "ppv=1"]
)
@pytest.mark.parametrize("rounded", [False, True])
def test_thresholds_are_those_of_a_search(rule, rounded):
    for seed in range(2):
        labels, shares = sample(seed, rounded=rounded)
        assert threshold(labels, shares, rule) == searched(labels, shares, rule)


def test_thresholds_by_hand():
    """At 0.6 all three are found, and one of three others: 1 + 2/3; F1 6/7."""
    assert threshold(LABELS, SHARES, "youden") == 0.6
    assert threshold(LABELS, SHARES, "f1") == 0.6
    assert threshold(LABELS, SHARES, "sensitivity=0.6") == 0.8
    assert threshold(LABELS, SHARES, "ppv=0.9") == 0.8
    assert threshold(1 - LABELS, SHARES, "ppv=0.9") == math.inf  # 3 of 6 at the most


@pytest.mark.parametrize("rule", ["best", "ppv", "ppv=2", "ppv=x", "f1=0.5", ""])
def test_rules_that_are_none(rule):
    with pytest.raises(ValueError, match="rule must be"):
        threshold(LABELS, SHARES, rule)


def test_one_kind_has_no_threshold():
    with pytest.raises(ValueError, match="Received: 0 with the label, 2 without"):
        threshold(np.array([0, 0, np.nan]), np.array([0.1, 0.2, 0.3]), "f1")


@pytest.mark.parametrize("hot", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_them_too_sure_is_found(hot):
    """Labels are drawn from the shares; then logits are multiplied."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 50_000)
    labels = (rng.random(50_000) < 1 / (1 + np.exp(-logits))).astype(float)
    too_sure = 1 / (1 + np.exp(-hot * logits))
    found = temperature(labels, hot * logits)
    assert found == pytest.approx(hot, rel=0.03)
    mended = 1 / (1 + np.exp(-hot * logits / found))
    assert calibration_error(labels, mended) < 0.01
    if hot == 3.0:
        assert calibration_error(labels, too_sure) > 0.05


@pytest.mark.parametrize("hot", [0.5, 3.0])
def test_the_temperature_of_a_softmax_is_found(hot):
    """Classes are drawn from the shares; then all logits are multiplied."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (20_000, 3))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    drawn = (rng.random((20_000, 1)) > shares.cumsum(axis=1)).sum(axis=1)
    assert temperature_of_classes(drawn, hot * logits) == pytest.approx(hot, rel=0.03)


def test_the_calibration_error_by_hand():
    """0.95, 0.95 and 0.1 are in two bins of 15: (|1.9 - 1| + |0.1 - 0|) / 3."""
    labels = np.array([1, 0, 0, np.nan])
    shares = np.array([0.95, 0.95, 0.1, 0.5])
    assert calibration_error(labels, shares) == pytest.approx(1 / 3)
