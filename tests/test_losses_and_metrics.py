"""Losses and metrics of labels and of pixels, beside PyTorch's and scikit-learn's."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import f1_score, roc_auc_score

from keras_densenet.losses import (
    MaskedBinaryCrossentropy,
    PixelCrossentropy,
    SmoothedCrossentropy,
)
from keras_densenet.metrics import MacroAUROC, MacroF1, PixelAccuracy, mean_iou


def random_labels():
    """Logits and labels, of which two in five are not known, and of one label none."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=3, size=(64, 5)).astype("float32")
    labels = (rng.random((64, 5)) < 0.3).astype("float32")
    labels[rng.random((64, 5)) < 0.4] = np.nan
    labels[:, 4] = np.nan
    return logits, labels


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits.astype("float64")))


# What torchxrayvision's training adds up for each label, over the pictures of which it
# is known: torch.nn.BCEWithLogitsLoss, and with pos_weight 1, 2, 0.5, 3, 1.
OF_TORCH = {1.0: 5.891607284545898, (1.0, 2.0, 0.5, 3.0, 1.0): 8.28559684753418}


@pytest.mark.parametrize("weight", OF_TORCH)
def test_the_masked_loss_is_that_of_torchxrayvision(weight):
    logits, labels = random_labels()
    loss = MaskedBinaryCrossentropy(from_logits=True, positive_weight=weight)
    assert float(loss(labels, logits)) == pytest.approx(OF_TORCH[weight], rel=1e-6)
    of_shares = MaskedBinaryCrossentropy(positive_weight=weight)
    shares = sigmoid(logits).astype("float32")
    assert float(of_shares(labels, shares)) == pytest.approx(OF_TORCH[weight], rel=1e-4)


def test_what_is_not_known_has_no_gradient():
    logits, labels = map(tf.constant, random_labels())
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = MaskedBinaryCrossentropy(from_logits=True)(labels, logits)
    gradient = tape.gradient(loss, logits).numpy()
    unknown = np.isnan(labels.numpy())
    assert (gradient[unknown] == 0).all()
    assert np.abs(gradient).sum() == pytest.approx(2.0344130992889404, rel=1e-5)


def test_large_logits_of_sigmoids_are_not_cut_off():
    """log(sigmoid(-40)) is -40; a probability of 4e-18 cut off at 1e-7 gives 16.1."""
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, "sigmoid", kernel_initializer="ones")]
    )
    model.compile("sgd", MaskedBinaryCrossentropy())
    loss = model.evaluate(np.array([[-40.0]]), np.array([[1.0]]), verbose=0)
    assert loss == pytest.approx(40)


def test_smoothing_by_hand():
    """Of 0.2: labels of 1 are 0.9 and 0.1; of four classes 0.85 and 0.05."""
    share = np.array([[0.8, 0.3]])
    loss = MaskedBinaryCrossentropy(label_smoothing=0.2)
    expected = -(0.9 * np.log(0.8) + 0.1 * np.log(0.2))
    expected -= 0.1 * np.log(0.3) + 0.9 * np.log(0.7)
    assert float(loss(np.array([[1.0, 0.0]]), share)) == pytest.approx(expected)
    shares = np.array([[0.1, 0.2, 0.3, 0.4]])
    one = SmoothedCrossentropy(label_smoothing=0.2)
    expected = -0.85 * np.log(0.3) - 0.05 * np.log([0.1, 0.2, 0.4]).sum()
    assert float(one(np.array([2]), shares)) == pytest.approx(expected, rel=1e-6)
    logits = SmoothedCrossentropy(from_logits=True, label_smoothing=0.2)
    assert float(logits(np.array([[2]]), np.log(shares))) == pytest.approx(expected)


def of_sklearn(labels, answers, score):
    scores = []
    for n in range(labels.shape[1]):
        known = ~np.isnan(labels[:, n])
        if len(np.unique(labels[known, n])) == 2:
            scores.append(score(labels[known, n], answers[known, n]))
    return np.mean(scores)


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("rounded", [False, True])
def test_auroc_and_f1_are_scikit_learns(from_logits, rounded):
    logits, labels = random_labels()
    logits = np.round(logits) if rounded else logits  # equal answers count 1/2
    answers = logits if from_logits else sigmoid(logits).astype("float32")
    auroc, f1 = (kind(5, from_logits) for kind in (MacroAUROC, MacroF1))
    for first in range(0, 64, 10):  # by batches
        batch = slice(first, first + 10)
        auroc.update_state(labels[batch], answers[batch])
        f1.update_state(labels[batch], answers[batch])
    expected = of_sklearn(labels, logits, roc_auc_score)
    exact = 1e-6 if rounded else 2e-4  # of 64, a pair may be within one bin
    assert float(auroc.result()) == pytest.approx(expected, abs=exact)
    four = of_sklearn(labels, logits >= 0, f1_score)
    assert float(f1.result()) == pytest.approx(four * 4 / 5)  # 0 of the unknown one


def test_auroc_of_no_label_is_not_a_number():
    """Of two labels, all have one, and of the other nothing is known."""
    auroc = MacroAUROC(2)
    auroc.update_state(np.array([[1, np.nan], [1, np.nan]]), np.array([[0.2, 0.3]] * 2))
    assert np.isnan(auroc.result())
    auroc.update_state(np.array([[0, np.nan]]), np.array([[0.1, 0.5]]))
    assert float(auroc.result()) == 1


def test_auroc_of_a_large_set_is_exact_but_for_the_bins():
    rng = np.random.default_rng(1)
    labels = (rng.random((20_000, 2)) < (0.02, 0.4)).astype("float32")
    logits = rng.normal(labels - 4, 1).astype("float32")  # rare and unsure
    auroc = MacroAUROC(2, from_logits=True)
    auroc.update_state(labels, logits)
    expected = roc_auc_score(labels, logits)  # 0.76 by the normal distribution
    assert float(auroc.result()) == pytest.approx(expected, abs=1e-4)
    assert expected == pytest.approx(0.76, abs=0.01)


@pytest.mark.parametrize(
    "thing",
    [
        MaskedBinaryCrossentropy(True, [1.0, 2.0], 0.1),
        SmoothedCrossentropy(True, 0.1),
        MacroAUROC(3, True),
        MacroF1(3),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_what_keras_saves_it_makes_again(thing):
    again = type(thing).from_config(thing.get_config())
    assert again.get_config() == thing.get_config()


# --- pixels -------------------------------------------------------------------------


def random_pixels():
    """Logits `(2, 3, 4, 5)`, and class numbers of which one in three is void."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=(2, 3, 4, 5)).astype("float32")
    labels = rng.integers(0, 5, (2, 3, 4))
    labels[rng.random(labels.shape) < 1 / 3] = 255
    return logits, labels


# torch.nn.functional.cross_entropy(logits, labels, ignore_index=255), PyTorch 2.14, and
# the sum of the absolute values of its gradient.
LOSS_OF_TORCH, GRADIENT_OF_TORCH = 3.122143507, 1.770761132


def test_the_loss_of_pixels_is_torchs():
    logits, labels = random_pixels()
    x = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = PixelCrossentropy(from_logits=True)(labels, x)
    assert float(loss) == pytest.approx(LOSS_OF_TORCH, rel=1e-5)
    gradient = tape.gradient(loss, x).numpy()
    assert np.abs(gradient).sum() == pytest.approx(GRADIENT_OF_TORCH, rel=1e-5)
    assert (gradient[labels == 255] == 0).all()
    of_shares = PixelCrossentropy()(labels, tf.nn.softmax(x))
    assert float(of_shares) == pytest.approx(LOSS_OF_TORCH, rel=1e-5)


def test_pixels_that_are_surely_wrong_are_still_learnt_from():
    """A probability of exp(-40) is 0 in float32, and its logarithm is -40."""
    inputs = keras.Input((1, 1, 1))
    answers = keras.layers.Conv2D(2, 1, activation="softmax", use_bias=False)(inputs)
    model = keras.Model(inputs, answers)
    model.set_weights([np.array([20.0, -20.0]).reshape(1, 1, 1, 2)])
    model.compile(keras.optimizers.SGD(1.0), PixelCrossentropy())
    loss = model.train_on_batch(np.ones((1, 1, 1, 1)), np.ones((1, 1, 1), int))
    assert float(loss) == pytest.approx(40)
    np.testing.assert_allclose(np.ravel(model.get_weights()[0]), [19, -19])


def test_a_batch_without_a_known_pixel_has_no_loss():
    logits, _ = random_pixels()
    loss = PixelCrossentropy(from_logits=True)(np.full((2, 3, 4), 255), logits)
    assert float(loss) == 0


def test_metrics_of_pixels_by_hand():
    """Of six pixels one is void: 0 is right twice and taken for 1 once; 1 is right."""
    labels = np.array([[[0, 0, 0], [1, 2, 255]]])
    answers = np.eye(3, dtype="float32")[[[[0, 0, 1], [1, 1, 2]]]]
    iou = mean_iou(3)
    iou.update_state(labels, answers)
    # 0: 2 of 3; 1: 1 of 3 (itself, and two that are taken for it); 2: 0 of 1.
    assert float(iou.result()) == pytest.approx((2 / 3 + 1 / 3 + 0) / 3)
    accuracy = PixelAccuracy()
    accuracy.update_state(labels, answers)
    assert float(accuracy.result()) == pytest.approx(3 / 5)
    again = type(accuracy).from_config(accuracy.get_config())
    assert again.name == "pixel_accuracy"
