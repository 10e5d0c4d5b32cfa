"""Scores of a network's answers, against numbers worked out by hand."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_densenet.analysis import (
    LabelPredictions,
    Predictions,
    plot_confusion,
    plot_reliability,
)
from keras_densenet.analysis.answers import Examples, predictions_of
from keras_densenet.analysis.label_curves import plot_label_curves
from keras_densenet.decisions import Decisions
from keras_densenet.errors import MisconfigurationError

NAMES = ["cat", "dog", "owl"]
# Six pictures: three cats, of which one is taken for a dog; a dog, taken for an owl;
# two owls, of which one is taken for a dog.
LABELS = np.array([0, 0, 0, 1, 2, 2])
PROBABILITIES = np.array(
    [
        [0.7, 0.2, 0.1],
        [0.9, 0.05, 0.05],
        [0.25, 0.5, 0.25],
        [0.05, 0.35, 0.6],
        [0.1, 0.1, 0.8],
        [0.0, 0.6, 0.4],
    ]
)


@pytest.fixture
def predictions():
    return Predictions(LABELS, PROBABILITIES, NAMES)


def test_confusion_by_hand(predictions):
    np.testing.assert_array_equal(
        predictions.confusion_matrix(), [[2, 1, 0], [0, 0, 1], [0, 1, 1]]
    )
    assert predictions.accuracy == 0.5
    assert predictions.most_confused(2) == [("cat", "dog", 1), ("dog", "owl", 1)]
    assert (
        len(predictions.most_confused()) == 3
    )  # mistakes that never happen are left out


def test_scores_of_each_class_by_hand(predictions):
    cat, dog, owl = predictions.class_scores()
    assert (cat.precision, cat.pictures) == (1, 3)
    assert cat.recall == pytest.approx(2 / 3)
    assert cat.f1 == pytest.approx(2 * 1 * (2 / 3) / (1 + 2 / 3))
    assert (dog.precision, dog.recall, dog.f1, dog.pictures) == (0, 0, 0, 1)
    assert (owl.precision, owl.recall, owl.f1, owl.pictures) == (0.5, 0.5, 0.5, 2)


def test_losses_and_the_most_probable_by_hand(predictions):
    of_labels = [0.7, 0.9, 0.25, 0.35, 0.8, 0.4]
    mean = -sum(map(math.log, of_labels)) / 6
    assert predictions.cross_entropy == pytest.approx(mean)
    # Among the two most probable: all but the dog's 0.35 (second), so all; the cat of
    # 0.25 comes second with an owl, and the first of equals counts.
    assert predictions.top_k_accuracy(2) == 1
    assert predictions.top_k_accuracy(1) == predictions.accuracy


def test_a_probability_of_0_has_a_finite_loss():
    wrong = Predictions(np.array([1]), np.array([[1.0, 0.0]]), ["no", "yes"])
    assert wrong.cross_entropy == pytest.approx(-math.log(np.finfo("float32").tiny))


def test_reliability_by_hand(predictions):
    found = predictions.reliability(bins=2)
    # Up to 0.5: the cat that is taken for a dog. Above: 0.7, 0.9, 0.6, 0.8, 0.6, of
    # which the first, second and fourth are right.
    np.testing.assert_array_equal(found.pictures, [1, 5])
    np.testing.assert_allclose(found.confidence, [0.5, 0.72])
    np.testing.assert_allclose(found.accuracy, [0, 0.6])
    expected = (1 * 0.5 + 5 * 0.12) / 6
    assert found.expected_calibration_error == pytest.approx(expected)


def test_empty_bins_count_nothing(predictions):
    found = predictions.reliability(bins=10)
    assert np.isnan(found.accuracy[:4]).all()
    assert found.pictures.sum() == 6
    assert np.isfinite(found.expected_calibration_error)


def test_the_figures(predictions):
    confusion = plot_confusion(predictions)
    axis = confusion.axes[0]
    written = {tuple(map(int, t.get_position())): t.get_text() for t in axis.texts}
    # Column, row: two of three cats are right; for zeros nothing is written.
    assert written[0, 0] == "67"
    assert written[1, 0] == "33"
    assert written[2, 0] == ""
    assert [label.get_text() for label in axis.get_yticklabels()] == NAMES
    above, _ = plot_reliability(predictions.reliability(bins=2)).axes
    assert [bar.get_height() for bar in above.patches] == pytest.approx([0, 0.6])


@pytest.mark.parametrize(
    ("labels", "probabilities", "names"),
    [
        (LABELS, PROBABILITIES[:5], NAMES),
        (LABELS, PROBABILITIES, NAMES[:2]),
        (LABELS[:0], PROBABILITIES[:0], NAMES),
    ],
)
def test_what_does_not_belong_together_is_refused(labels, probabilities, names):
    with pytest.raises(ValueError, match="Predictions need"):
        Predictions(labels, probabilities, names)


# --- what a network gives, and what labels are --------------------------------------


class Data:
    """What `predictions_of` asks of a data module."""

    class_names, mean, std = ("a", "b", "c"), (0.0,), (1.0,)
    labels = "one"


def asked(labels, *top, classes=3, decisions=None):
    """Ask a network that gives its pictures' 3 pixels to its last layers."""
    pixels = np.log([[1.0, 1, 2], [3.0, 1, 4]]).reshape(2, 1, 3, 1).astype("float32")
    picture = keras.Input((1, 3, 1))
    x = keras.layers.Dense(classes, kernel_initializer="identity")(
        keras.layers.Flatten()(picture)
    )
    for layer in top:
        x = layer(x)
    dataset = tf.data.Dataset.from_tensor_slices((pixels, labels)).batch(2)
    return predictions_of(keras.Model(picture, x), dataset, Data(), decisions)


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        ((), [[1 / 4, 1 / 4, 2 / 4], [3 / 8, 1 / 8, 4 / 8]]),
        ((keras.layers.Softmax(),), [[1 / 4, 1 / 4, 2 / 4], [3 / 8, 1 / 8, 4 / 8]]),
        # Sigmoids: 1/2, 1/2, 2/3 and 3/4, 1/2, 4/5, by their sums 5/3 and 41/20.
        (
            (keras.layers.Activation("sigmoid"),),
            [[3 / 10, 3 / 10, 4 / 10], [15 / 41, 10 / 41, 16 / 41]],
        ),
    ],
)
@pytest.mark.parametrize(
    "labels", [[2, 0], [[2], [0]], [[0.0, 0.25, 0.75], [1.0, 0.0, 0.0]]]
)
def test_one_class_a_picture_whatever_the_network_gives(top, expected, labels):
    predictions = asked(np.array(labels), *top)
    np.testing.assert_allclose(predictions.probabilities, expected, atol=1e-6)
    np.testing.assert_array_equal(predictions.labels, [2, 0])
    assert predictions.accuracy == 0.5
    (mistake,) = predictions.mistakes
    assert mistake.probability == pytest.approx(expected[1][2])


def test_several_labels_are_looked_at_by_themselves():
    # Given are labels of probability 1/2 or more: all but none; see above.
    labels = np.array([[1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    top = keras.layers.Dense(3, "sigmoid", bias_initializer=by_hand, **IDENTITY)
    predictions = asked(labels, top)
    assert isinstance(predictions, LabelPredictions)
    # The bias takes log 2 off: odds 1/2, 1/2, 1 and 3/2, 1/2, 2.
    np.testing.assert_allclose(
        predictions.probabilities,
        [[1 / 3, 1 / 3, 1 / 2], [3 / 5, 1 / 3, 2 / 3]],
        atol=1e-6,
    )
    np.testing.assert_array_equal(
        predictions.answers, [[False, False, True], [True, False, True]]
    )
    assert predictions.label_accuracy == pytest.approx(1 / 6)
    a, b, c = predictions.class_scores()
    assert (a.precision, a.recall, a.pictures) == (0, 0, 1)
    assert (b.precision, b.recall, b.pictures) == (0, 0, 2)
    assert (c.precision, c.recall, c.f1) == (1 / 2, 1, pytest.approx(2 / 3))
    assert predictions.mean_f1 == pytest.approx(2 / 9)


def test_scores_of_a_label_by_hand():
    """Of five pictures one is not known. At 0.5 two of three are found, one wrongly."""
    labels = np.array([[1], [1], [0], [1], [np.nan]])
    shares = np.array([[0.9], [0.6], [0.7], [0.2], [0.95]])
    groups = np.array(["a", "a", "b", "b", "c"])
    given = LabelPredictions(labels, shares, ["mass"], groups=groups)
    (score,) = given.label_scores()
    assert (score.name, score.pictures, score.threshold) == ("mass", 4, 0.5)
    assert score.prevalence == 0.75
    assert score.area.value == pytest.approx(1 / 3)  # 0.7 is above two of three
    # Of 0.9 the precision is 1, of 0.6 it is 2/3, of 0.2 it is 3/4.
    assert score.average_precision == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert (score.sensitivity, score.specificity) == (pytest.approx(2 / 3), 0)
    # Each is in a bin of its own: 0.1, 0.4, 0.7 and 0.8 off.
    assert score.calibration_error == pytest.approx(2 / 4)
    higher = LabelPredictions(labels, shares, ["mass"], thresholds=[0.8])
    (score,) = higher.label_scores()
    assert (score.sensitivity, score.specificity) == (pytest.approx(1 / 3), 1)
    assert higher.label_accuracy == 0.5


def test_a_label_that_nobody_has_or_nobody_knows_has_no_scores():
    labels = np.array([[0, np.nan], [0, np.nan]])
    none, unknown = LabelPredictions(labels, np.full((2, 2), 0.4), "ab").label_scores()
    assert (none.prevalence, none.specificity, none.pictures) == (0, 1, 2)
    for score in (none, unknown):
        numbers = (score.area.value, score.average_precision, score.sensitivity)
        assert np.isnan(numbers).all()
    assert unknown.pictures == 0
    assert np.isnan([unknown.prevalence, unknown.specificity]).all()
    assert np.isnan(unknown.calibration_error)


def test_the_worst_mistakes_of_a_label_are_kept():
    """Five have it: 0.9 is found, and of the missed ones the lowest three stay."""
    shares = np.array([[0.9, 0.4, 0.1, 0.3, 0.2, 0.8, 0.6]]).T
    has = np.array([[1, 1, 1, 1, 1, 0, np.nan]]).T
    examples = Examples(Data(), None)
    images = np.arange(7.0).reshape(7, 1, 1, 1)
    for rows in (slice(0, 4), slice(4, 7)):
        examples.look_at(images[rows], has[rows], shares[rows])
    wrong = examples.of("missed", "given wrongly")
    assert [example.probability for example in wrong] == [0.1, 0.2, 0.3, 0.8]
    assert [example.has_it for example in wrong] == [True, True, True, False]
    assert [float(example.standardized.sum()) for example in wrong] == [2, 4, 3, 5]
    (found,) = examples.of("found")
    assert found.probability == 0.9
    # From 0.95 on the first label is given, from 0.5 on the second.
    two = Examples(Data(), [0.95, 0.5])
    two.look_at(images, np.repeat(has, 2, axis=1), np.repeat(shares, 2, axis=1))
    assert {e.label for e in two.of("found")} == {1}
    assert {e.label for e in two.of("given wrongly")} == {1}


def test_logits_are_kept_where_decisions_are_asked_for():
    """They are 100 times those of the pixels, and probabilities of most are 1."""
    hundred = {"kernel_initializer": lambda shape, dtype: 100 * np.eye(3)}
    top = keras.layers.Dense(3, "sigmoid", **hundred)
    chosen = Decisions(("a", "b", "c"), (0.5,) * 3, (200.0,) * 3, "f1", True, 9)
    labels = np.array([[1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    predictions = asked(labels, top, decisions=chosen)
    logits = np.log([[1, 1, 2], [3, 1, 4]])
    np.testing.assert_allclose(predictions.logits, 100 * logits, rtol=1e-5, atol=1e-4)
    expected = 1 / (1 + np.exp(-logits / 2))
    np.testing.assert_allclose(predictions.probabilities, expected, rtol=1e-5)
    assert asked(labels, top).logits is None
    np.testing.assert_array_equal(asked(labels, top).probabilities[:, 2], 1)


IDENTITY = {"kernel_initializer": "identity"}


def by_hand(shape, dtype=None):
    return np.full(shape, -np.log(2) + 1e-6, "float32")


@pytest.mark.parametrize(
    ("labels", "top", "says"),
    [
        ([[1.0, 1, 0], [0, 0, 0]], (), "Rows of labels of Data do not sum to 1"),
        ([[1.0, 1, 0], [0, 0, 0]], (keras.layers.Softmax(),), "do not sum to 1"),
        ([0, 1], (keras.layers.Rescaling(-1.0),), "end it in keras.layers.Softmax"),
    ],
)
def test_what_cannot_be_told_is_refused(labels, top, says):
    with pytest.raises(MisconfigurationError, match=says):
        asked(np.array(labels), *top)


def test_label_predictions_refuse_what_does_not_fit():
    for labels in (np.zeros((0, 2)), np.zeros(2), np.zeros((2, 3))):
        with pytest.raises(ValueError, match="LabelPredictions need labels"):
            LabelPredictions(labels, np.zeros((2, 2)), ["a", "b"])
    with pytest.raises(ValueError, match=r"each of the 2 pictures, \(N,\). Received"):
        LabelPredictions(np.zeros((2, 1)), np.zeros((2, 1)), "a", groups=np.zeros(3))


def test_one_sigmoid_is_of_two_classes(monkeypatch):
    monkeypatch.setattr(Data, "class_names", ("no", "yes"))
    top = keras.layers.Dense(1, "sigmoid", kernel_initializer="ones")
    # Odds of the products 2 and 12: 2/3 and 12/13 of "yes".
    predictions = asked(np.array([1, 0]), top)
    np.testing.assert_allclose(
        predictions.probabilities, [[1 / 3, 2 / 3], [1 / 13, 12 / 13]], atol=1e-6
    )
    assert predictions.accuracy == 0.5


def test_each_label_has_its_own_threshold_and_groups():
    """At 0.8 one of two is found, at 0.2 both; one patient has no interval."""
    labels = np.array([[1, 1], [1, 1], [0, 0], [0, 0]])
    shares = np.array([[0.9, 0.9], [0.5, 0.5], [0.4, 0.6], [0.1, 0.1]])
    who = np.array(["ann", "ann", "bob", "cyd"])
    given = LabelPredictions(labels, shares, ["a", "b"], [0.8, 0.2], who)
    first, second = given.label_scores()
    assert (first.threshold, first.sensitivity, first.specificity) == (0.8, 0.5, 1.0)
    assert (second.threshold, second.sensitivity, second.specificity) == (0.2, 1.0, 0.5)
    assert second.area.value == 0.75
    assert math.isnan(second.area.low)
    alone = LabelPredictions(labels, shares, ["a", "b"]).label_scores()[1]
    assert alone.area.low < 0.75
    lines = plot_label_curves(given).axes[0].lines
    dots = [line.get_xydata().tolist() for line in lines if line.get_marker() == "o"]
    assert dots == [[[0, 0.5]], [[0.5, 1]]]
