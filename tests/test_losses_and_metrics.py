"""The loss and the metrics of several labels, beside PyTorch's and scikit-learn's."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import f1_score, roc_auc_score

from keras_densenet.losses import MaskedBinaryCrossentropy, SmoothedCrossentropy
from keras_densenet.metrics import MacroAUROC, MacroF1


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
