"""Decisions: thresholds and temperatures of predictions, and what a model keeps."""

import json
import math

import keras
import numpy as np
import pytest

from keras_densenet.analysis import LabelPredictions, Predictions, decide
from keras_densenet.decisions import (
    Decisions,
    are_outdated,
    decisions_of,
    keep_decisions,
)

NAMES = ["mass", "hernia"]


def label_predictions(labels, logits):
    labels, logits = np.array(labels, float), np.array(logits, float)
    names = NAMES[: labels.shape[1]]
    return LabelPredictions(labels, 1 / (1 + np.exp(-logits)), names, logits=logits)


def test_thresholds_are_halfway_to_the_next_lower_probability():
    """Logits are log(p / (1 - p)) of 0.9, 0.6, 0.4 and 0.2."""
    shares = np.array([0.9, 0.6, 0.4, 0.2])
    logits = np.log(shares / (1 - shares))
    given = label_predictions([[1], [1], [0], [0]], logits[:, np.newaxis])
    chosen = decide(given, "youden", with_temperature=False)
    assert chosen.thresholds == (pytest.approx(0.5),)  # between 0.6 and 0.4
    assert chosen.temperatures == (1.0,)
    assert (chosen.rule, chosen.pictures, chosen.of_each_label) == ("youden", 4, True)
    every = decide(label_predictions([[0], [0], [0], [1]], logits[:, np.newaxis]), "f1")
    assert every.thresholds[0] < every.probabilities(logits[3:, np.newaxis])[0, 0]


def test_what_is_the_same_as_served_is_not_told_apart():
    """In float32 a sigmoid is 1 from a logit of 17 on, and 1 - 3.1e-7 at 15."""
    logits = np.array([30.0, 25.0, 22.0, 20.0, 15.0, -5.0])
    given = label_predictions([[1], [1], [1], [0], [0], [0]], logits[:, np.newaxis])
    for rule in ("youden", "f1", "sensitivity=1"):
        chosen = decide(given, rule, with_temperature=False)
        served = 1 / (1 + np.exp(-logits.astype("float32")))
        says = served >= np.float32(chosen.thresholds[0])
        assert says.tolist() == [True, True, True, True, False, False]
        np.testing.assert_array_equal(
            chosen.given(chosen.probabilities(logits[:, np.newaxis]))[:, 0], says
        )
    near = np.nextafter(np.float32(1), np.float32(0))  # nothing is between it and 1
    closest = np.array([np.inf, np.log(near) - np.log1p(-near.astype("float64"))])
    pair = label_predictions([[1], [0]], closest[:, np.newaxis])
    chosen = decide(pair, with_temperature=False)
    assert chosen.thresholds == (1.0,)
    assert chosen.given(np.array([[1.0], [near]])).tolist() == [[True], [False]]


def test_each_label_is_chosen_at_its_own_temperature():
    """Their logits are drawn, and then multiplied by 2 and by 1/2."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 2))
    labels = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)
    labels[rng.random(labels.shape) < 0.3] = np.nan
    given = label_predictions(labels, logits * [2, 0.5])
    chosen = decide(given, "sensitivity=0.8")
    assert chosen.temperatures == pytest.approx((2, 0.5), rel=0.05)
    decided = chosen.given(chosen.probabilities(logits * [2, 0.5]))
    for has, says in zip(labels.T, decided.T, strict=True):
        assert says[has == 1].mean() == pytest.approx(0.8, abs=1e-3)


def test_one_class_a_picture_has_one_temperature_and_each_class_a_threshold():
    logits = np.log(
        [[0.7, 0.2, 0.1], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8], [0.4, 0.5, 0.1]]
    )
    given = Predictions(np.array([0, 1, 2, 0]), np.exp(logits), "abc", logits=logits)
    chosen = decide(given, "youden", with_temperature=False)
    # a: 0.7 and 0.4 against 0.2 and 0.1; b: 0.6 against 0.5; c: 0.8 against 0.2.
    assert chosen.thresholds == pytest.approx((0.3, 0.55, 0.5))
    assert not chosen.of_each_label
    hot = decide(given, "youden").temperatures
    assert len(set(hot)) == 1


def test_labels_that_pictures_say_nothing_of_are_named():
    given = label_predictions([[1, 0], [0, 0], [1, np.nan]], [[1, 1], [2, 0], [3, 5]])
    with pytest.warns(UserWarning, match="for hernia, .* it is 1/2 there"):
        chosen = decide(given)
    assert chosen.not_chosen == ("hernia",)
    assert chosen.thresholds[1] == 0.5
    assert chosen.temperatures[1] == 1.0


def test_temperatures_that_pictures_do_not_bound_are_said():
    """The colder the better: all are told apart, or all are said to have it not."""
    apart = label_predictions([[1], [1], [0], [0]], [[2], [1], [-1], [-2]])
    with pytest.warns(UserWarning, match="of mass is 0.05, the lowest .*told apart"):
        decide(apart)
    far = label_predictions([[1], [1], [0], [0]], [[20], [10], [-10], [-20]])
    with pytest.warns(UserWarning, match="of mass is 0.05, the lowest"):
        decide(far)
    unlearnt = label_predictions([[1]] + [[0]] * 19, [[-0.1]] * 20)  # 47.5 %, and 5 %
    with pytest.warns(UserWarning, match="the network has hardly learned it"):
        decide(unlearnt)


def test_a_rule_that_no_threshold_fulfills_is_said_and_kept():
    given = label_predictions([[0], [1], [0]], [[2], [1], [0]])
    with pytest.warns(UserWarning, match="reaches ppv=0.9 for mass: .* never give"):
        chosen = decide(given, "ppv=0.9")
    assert chosen.thresholds == (math.inf,)
    assert not chosen.given(np.ones((1, 1))).any()
    assert Decisions.from_json(json.loads(json.dumps(chosen.to_json()))) == chosen


def test_what_is_no_rule_or_has_no_logits_is_refused():
    given = label_predictions([[1], [0]], [[1], [0]])
    with pytest.raises(ValueError, match="rule must be"):
        decide(given, "best")
    without = LabelPredictions(given.labels, given.probabilities, ["mass"])
    with pytest.raises(ValueError, match="by logits"):
        decide(without)


def test_a_model_keeps_decisions_as_long_as_its_weights_are_the_same():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    chosen = Decisions.undecided(["mass"], of_each_label=True)
    assert decisions_of(model) is None
    assert not are_outdated(model)
    keep_decisions(model, chosen)
    assert decisions_of(model) == chosen
    model.weights[0].assign_add([[1e-6], [0.0]])
    assert decisions_of(model) is None
    assert are_outdated(model)
    keep_decisions(model, None)
    assert not are_outdated(model)
