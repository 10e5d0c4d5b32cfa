"""A classifier of several labels a picture: what it makes of what the data say."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from linear_network import linear

import keras_densenet as kd
from keras_densenet.callbacks import ModelCheckpoint
from keras_densenet.losses import MaskedBinaryCrossentropy, SmoothedCrossentropy
from keras_densenet.training import MisconfigurationError

QUIET = {"enable_progress_bar": False, "enable_model_summary": False}
FEW = {"limit_train_batches": 2, "limit_val_batches": 2}


class Mosaics(kd.data.DigitMosaics):
    positive_weight = np.arange(1.0, 11.0)


def module(**options):
    made = kd.ImageClassifier(linear, learning_rate=0.01, **options)
    made.data = Mosaics(batch_size=8, seed=0)
    return made


def fitted(tmp_path, epochs=1, **options):
    trainer = kd.Trainer(
        max_epochs=epochs,
        default_root_dir=tmp_path,
        num_sanity_val_steps=0,
        **QUIET,
        **FEW,
    )
    return trainer, kd.ImageClassifier(linear, learning_rate=0.01, **options)


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_the_network_ends_in_what_the_labels_ask_for(activation):
    chosen = {} if activation == "sigmoid" else {"classifier_activation": activation}
    made = module(**chosen)
    network = made.configure_model(made.data)
    expected = activation or "linear"
    assert network.layers[-1].activation.__name__ == expected
    made.output = kd.model_output.output_of(network)
    loss = made.configure_loss()
    assert isinstance(loss, MaskedBinaryCrossentropy)
    assert loss.from_logits == (activation is None)
    assert [metric.name for metric in made.configure_metrics()] == ["auroc", "f1"]
    assert made.gives_several_labels


def test_a_softmax_is_refused():
    made = module(classifier_activation="softmax")
    with pytest.raises(MisconfigurationError, match="a softmax gives one class"):
        made.configure_model(made.data)
    of_your_own = kd.ImageClassifier(lambda: linear(10, (32, 32, 1)))
    of_your_own.data = made.data
    of_your_own.output = kd.model_output.output_of(of_your_own.network())
    with pytest.raises(MisconfigurationError, match="a softmax gives one class"):
        of_your_own.configure_loss()


@pytest.mark.parametrize(
    ("weight", "expected"),
    [("balanced", np.arange(1.0, 11.0)), (2, [2.0]), (np.ones(10), np.ones(10))],
)
def test_weights_of_labels(weight, expected):
    made = module(positive_weight=weight)
    made.output = kd.model_output.output_of(made.configure_model(made.data))
    assert made.configure_loss().positive_weight == pytest.approx(expected)


@pytest.mark.parametrize("weight", [0, -1.0, [1.0, 2.0], np.inf, "rare"])
def test_weights_that_are_none(weight):
    made = module(positive_weight=weight)
    made.output = kd.model_output.output_of(made.configure_model(made.data))
    with pytest.raises(MisconfigurationError, match="positive_weight is"):
        made.configure_loss()


def test_class_weight_is_for_one_class():
    with pytest.raises(MisconfigurationError, match="positive_weight="):
        module(class_weight="balanced").configure_class_weight()
    assert module().configure_class_weight() is None


@pytest.mark.parametrize("weight", ["balanced", 2.0, [1.0] * 9 + [3.0]])
def test_weights_of_labels_are_not_for_one_class(weight):
    made = module(positive_weight=weight)
    made.data = kd.data.Digits(seed=0)
    with pytest.raises(MisconfigurationError, match="give class_weight="):
        made.configure_loss()


def test_one_label_that_pictures_have_or_not():
    class Fives(Mosaics):
        num_classes, class_names = 1, ("5",)

    made = kd.ImageClassifier(linear)
    made.data = Fives(batch_size=8, seed=0)
    network = made.configure_model(made.data)
    made.output = kd.model_output.output_of(network)
    loss = made.configure_loss()
    # By hand: of answers 0.5 and 0.8, of which the latter is wrong.
    expected = -(np.log(0.5) + np.log(0.2)) / 2
    labels = np.array([[1.0], [0.0], [np.nan]])
    assert float(loss(labels, np.array([[0.5], [0.8], [0.9]]))) == pytest.approx(
        expected
    )


def test_mixed_labels_are_refused():
    with pytest.raises(ValueError, match="mixup and cutmix mix the labels"):
        kd.data.DigitMosaics(strong={"cutmix": 1.0})
    assert kd.data.DigitMosaics(strong={"cutout": 1.0}).soft_labels is False


def test_smoothing_of_one_class():
    made = kd.ImageClassifier(linear, label_smoothing=0.1)
    made.data = kd.data.Digits(seed=0)
    made.output = kd.model_output.output_of(made.configure_model(made.data))
    assert isinstance(made.configure_loss(), SmoothedCrossentropy)
    made.data = kd.data.Digits(seed=0, strong={"mixup": 0.2})
    assert made.configure_loss().get_config()["label_smoothing"] == 0.1
    with pytest.raises(MisconfigurationError, match=r"in \[0, 1\)"):
        kd.ImageClassifier(linear, label_smoothing=1.0)


def test_the_best_checkpoint_is_that_of_the_largest_area(tmp_path):
    data = kd.data.DigitMosaics(batch_size=64, seed=0, unknown=0.5)
    trainer, made = fitted(tmp_path, epochs=2)
    history = trainer.fit(made, datamodule=data).history
    checkpoint = trainer.checkpoint_callback
    assert checkpoint.monitor == "val_auroc"
    best = max(history["val_auroc"])
    assert checkpoint.best_model_score == pytest.approx(best)
    assert f"val_auroc={best:.4f}" in checkpoint.best_model_path
    assert all(np.isfinite(history["loss"]))

    trainer, made = fitted(tmp_path, epochs=3)
    trainer.fit(made, datamodule=data, ckpt_path="last")
    checkpoint = trainer.checkpoint_callback
    assert checkpoint.monitor == "val_auroc"
    assert checkpoint.best_model_score >= best  # of before, too


def test_a_monitor_that_was_asked_for_stays():
    asked = ModelCheckpoint(monitor="val_f1")
    asked.load_state_dict({"monitor": "val_auroc", "best_k_models": {}})
    assert asked.monitor == "val_f1"


def test_answers_about_several_labels_leave_out_what_is_not_known():
    """By hand: of label 1, pictures 0 and 1 are known; AUROC 1. Of label 0, 3 of 4."""
    labels = np.array([[1, 1], [0, 0], [1, np.nan], [np.nan, np.nan]])
    shares = np.array([[0.9, 0.8], [0.7, 0.2], [0.6, 0.9], [0.1, 0.1]])
    answers = kd.analysis.LabelPredictions(labels, shares, ("a", "b"))
    assert answers.label_accuracy == 4 / 5  # wrong: picture 1 is said to have a
    assert answers.areas() == [0.5, 1.0]  # of a, 0.9 is above 0.7, and 0.6 is not
    assert answers.mean_area == 0.75
    a, b = answers.class_scores()
    assert (a.precision, a.recall, a.pictures) == (2 / 3, 1, 2)
    assert (b.precision, b.recall, b.pictures) == (1, 1, 1)


def test_a_dataset_to_test_on_has_several_labels_as_the_training_had(tmp_path):
    data = kd.data.DigitMosaics(batch_size=64, seed=0)
    trainer, made = fitted(tmp_path)
    trainer.fit(made, datamodule=data)
    data.setup("test")
    plain = data.test_dataset().map(lambda x, y: (x, tf.cast(y, tf.int32)))
    expected = trainer.test(made, datamodule=data)
    found = trainer.test(made, dataloaders=plain)
    assert found.keys() == {"loss", "auroc", "f1"}
    assert found == pytest.approx(expected)


@pytest.mark.slow
def test_one_label_alone_and_no_test_pictures_are_reported_on(tmp_path):
    """A column of 0 and 1, and a report of what is validated on."""
    names = [f"{number}.png" for number in range(24)]
    for number, name in enumerate(names):
        pixels = np.full((8, 8, 3), 10 * number, "uint8")
        keras.utils.save_img(tmp_path / name, pixels, scale=False)
    frame = pd.DataFrame({"file": names, "ill": [0, 1] * 12, "who": np.arange(24) // 2})
    data = kd.data.ImageTable(
        frame,
        images=tmp_path,
        labels=["ill"],
        group="who",
        image_size=8,
        batch_size=8,
        validation_fraction=0.25,
        mean=(0.0,) * 3,
        std=(255.0,) * 3,
    )
    trainer, made = fitted(tmp_path / "runs")
    trainer.fit(made, datamodule=data)
    page = trainer.report(made, datamodule=data).read_text()
    assert "Measured on 6 validation pictures" in page
    assert "samples of\n     3 groups" in page
