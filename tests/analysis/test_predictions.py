"""Scores of a network's answers, against numbers worked out by hand."""

import math

import numpy as np
import pytest

from keras_densenet.analysis import Predictions, plot_confusion, plot_reliability

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
