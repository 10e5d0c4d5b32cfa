"""Folds are ordinary runs, go on where they were, and answer about every picture."""

import csv
import statistics
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from crash import CrashError, StopAt
from linear_network import linear, with_state
from PIL import Image

import keras_densenet as kd
from keras_densenet.callbacks import ModelCheckpoint
from keras_densenet.cross_validation import run as room
from keras_densenet.training import MisconfigurationError

QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
CLASSES = 3


def arrays(shift=0, **options):
    """Return 24 pictures of 8x8, in an order that their classes do not follow."""
    images = np.random.default_rng(shift).integers(0, 256, (24, 8, 8, 1), "uint8")
    labels = np.arange(24) * 7 // 4 % CLASSES
    return kd.data.Arrays(images, labels, batch_size=4, augment=True, **options)


def classifier(network=linear, **options):
    return kd.ImageClassifier(network, learning_rate=0.01, **options)


def cross_validate(root, module=None, data=None, folds=2, **flags):
    flags = {"max_epochs": 2, "seed": 5, **QUIET, **flags}
    module, data = module or classifier(), data or arrays(seed=1)
    return kd.cross_validate(module, data, folds, default_root_dir=root, **flags)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return cross_validate(tmp_path_factory.mktemp("found"))


def test_a_fold_is_an_ordinary_run(found, tmp_path):
    data = arrays(seed=1)
    for record in found.folds:
        kd.seed_everything(5)
        fold, module = data.fold(record.fold, 2), classifier()
        trainer = kd.Trainer(2, default_root_dir=tmp_path, **QUIET)
        trainer.fit(module, fold)
        assert trainer.validate(ckpt_path="best") == record.metrics
        assert (
            record.checkpoint.name
            == Path(trainer.checkpoint_callback.best_model_path).name
        )
        fold.setup("validate")
        (numbers, _, _) = fold.members("val")
        images = np.concatenate([images for images, _ in fold.val_dataset()])
        np.testing.assert_allclose(
            found.predictions.probabilities[numbers],
            module.model.predict(images, verbose=0),
            rtol=1e-6,
        )
        assert set(found.predictions.folds[numbers]) == {record.fold}


def test_every_picture_is_answered_about_in_the_order_of_the_arrays(found):
    answers = found.predictions
    assert len(answers) == 24
    assert answers.labels.tolist() == [n * 7 // 4 % CLASSES for n in range(24)]
    assert answers.probabilities.sum(1) == pytest.approx(np.ones(24))
    assert np.bincount(answers.folds).tolist() == [0, 12, 12]
    assert answers.files is None
    assert answers.groups is None


def test_mean_and_sample_deviation_are_told(found, capsys):
    accuracy = [record.metrics["accuracy"] for record in found.folds]
    right = found.predictions.probabilities.argmax(1) == found.predictions.labels
    assert accuracy == pytest.approx(
        [right[found.predictions.folds == n].mean() for n in (1, 2)]
    )
    assert found.mean["accuracy"] == pytest.approx(right.mean())  # folds of one size
    loss = [record.metrics["loss"] for record in found.folds]
    assert found.std["loss"] == pytest.approx(statistics.stdev(loss))
    table = rows(found.folder / "folds.csv")
    assert [row["fold"] for row in table] == ["1", "2", "mean", "std"]
    assert [float(row["loss"]) for row in table] == [
        *loss,
        pytest.approx(statistics.mean(loss)),
        pytest.approx(statistics.stdev(loss)),
    ]
    assert (found.folder / table[0]["checkpoint"]).is_file()
    cross_validate(found.folder.parent)
    out = capsys.readouterr().out
    assert "Fold 2 of 2 is trained already" in out
    assert f"{found.std['loss']:.4f}" in out


def test_predictions_are_written_as_they_are(found):
    table = pd.read_csv(found.folder / "predictions.csv")
    answers = found.predictions
    probabilities = table[[f"probability of {n}" for n in range(CLASSES)]]
    np.testing.assert_array_equal(
        probabilities.to_numpy("float32"), answers.probabilities
    )
    assert table["picture"].tolist() == list(range(24))
    assert table["fold"].tolist() == answers.folds.tolist()
    assert table["label"].tolist() == answers.labels.tolist()
    assert table["class"].tolist() == answers.probabilities.argmax(1).tolist()
    assert "file" not in table
    assert "group" not in table


# --- killed and gone on with -----------------------------------------------------


class CrashInTheSecondFold(kd.ImageClassifier):
    """Ends the second fold after five steps, in its second epoch, while it is armed."""

    armed = False

    def configure_callbacks(self):
        """Return what ends it."""
        is_second = self.data.state_dict()["fold"] == [2, 3]
        return [StopAt(5)] if is_second and CrashInTheSecondFold.armed else []


def weights(record):
    """Return all numbers of the network and the optimizer of a fold's last epoch."""
    model = keras.models.load_model(record.checkpoint.parent / "last.keras")
    return [*model.get_weights(), *(v.numpy() for v in model.optimizer.variables)]


def densenet(classes, input_shape):
    return kd.DenseNetBC(10, 4, 0.5, classes, input_shape, dropout_rate=0.2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "network", [with_state, pytest.param(densenet, marks=pytest.mark.slow)]
)
def test_a_killed_one_goes_on_to_the_bit(tmp_path, monkeypatch, network):
    def run(root, seed):
        keras.utils.set_random_seed(seed)  # of the process, which is another one
        module = CrashInTheSecondFold(network, learning_rate=0.05)
        checkpoint = ModelCheckpoint(every_n_train_steps=2)
        # Their seed is drawn: the third fold begins in the process that goes on.
        return cross_validate(root, module, arrays(), 3, callbacks=[checkpoint])

    whole = run(tmp_path / "whole", 1)
    monkeypatch.setattr(CrashInTheSecondFold, "armed", True)
    with pytest.raises(CrashError):
        run(tmp_path / "killed", 1)
    done = tmp_path / "killed" / "cross_validation" / "fold_1"
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*")}
    monkeypatch.setattr(CrashInTheSecondFold, "armed", False)
    resumed = run(tmp_path / "killed", 99)
    assert before == {path: path.stat().st_mtime_ns for path in done.rglob("*")}
    assert resumed.folds[1].checkpoint.parts[-3] == "version_0"  # no run of its own
    assert resumed.mean == whole.mean
    np.testing.assert_array_equal(
        resumed.predictions.probabilities, whole.predictions.probabilities
    )
    for record, expected in zip(resumed.folds, whole.folds, strict=True):
        assert record.metrics == expected.metrics
        for weight, other in zip(weights(record), weights(expected), strict=True):
            np.testing.assert_array_equal(weight, other)


@pytest.mark.slow
def test_one_killed_before_it_answers_does_not_train_again(
    found, tmp_path, monkeypatch
):
    def killed(*arguments):
        raise CrashError

    with monkeypatch.context() as patched:
        patched.setattr(room, "answer_about", killed)
        with pytest.raises(CrashError):
            cross_validate(tmp_path)
    resumed = cross_validate(tmp_path)
    assert [record.metrics for record in resumed.folds] == [
        record.metrics for record in found.folds
    ]
    assert [record.checkpoint.parts[-3] for record in resumed.folds] == [
        "version_0"
    ] * 2


# --- whatever the data -----------------------------------------------------------


def films(root):
    """Return 16 films of 8 patients, two of whom are to test on, with two labels.

    Of every fourth film is not known whether it has a nodule.
    """
    for n in range(16):
        pixels = np.random.default_rng(n).integers(0, 256, (8, 8), "uint8")
        (root / "films").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / "films" / f"{n}.png")
    frame = pd.DataFrame(
        {
            "file": [f"{n}.png" for n in range(16)],
            "Mass": [1, 0] * 8,
            "Nodule": [1, 0, 0, -1] * 4,
            "patient": [f"p{n // 2}" for n in range(16)],
            "split": ["train"] * 8 + ["val"] * 4 + ["test"] * 4,
        }
    )
    return kd.data.ImageTable(
        frame,
        batch_size=2,
        image_size=8,
        images=root / "films",
        labels=("Mass", "Nodule"),
        group="patient",
        split="split",
        channels=1,
        augment=False,
        fit="squash",
    )


def sigmoids(classes, input_shape, classifier_activation="sigmoid"):
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(classes, activation=classifier_activation),
        ],
        name="sigmoids",
    )


@pytest.mark.slow
def test_several_labels_of_films_with_patients(tmp_path):
    data = films(tmp_path)
    found = cross_validate(tmp_path, classifier(sigmoids), data, max_epochs=1)
    assert list(found.mean) == ["auroc", "f1", "loss"]
    answers = found.predictions
    assert answers.files == [f"{n}.png" for n in range(12)]
    assert answers.groups.tolist() == [f"p{n // 2}" for n in range(12)]
    assert (answers.folds[::2] == answers.folds[1::2]).all()
    assert answers.labels[:, 0].tolist() == [1, 0] * 6
    np.testing.assert_array_equal(answers.labels[:4, 1], [1, 0, 0, np.nan])
    table = pd.read_csv(found.folder / "predictions.csv")
    assert [*table] == [
        *("picture", "fold", "group", "file"),
        *("Mass", "probability of Mass", "Nodule", "probability of Nodule"),
    ]
    assert table["Mass"].tolist() == [1, 0] * 6
    assert table["Nodule"].isna().tolist() == [False, False, False, True] * 3


@pytest.mark.slow
def test_a_module_that_was_fitted_begins_anew_and_stays(found, tmp_path):
    module = classifier()
    kd.Trainer(1, default_root_dir=tmp_path, **QUIET).fit(module, arrays(seed=1))
    model, before = module.model, module.model.get_weights()
    again = cross_validate(tmp_path, module)
    assert again.mean == found.mean
    assert module.model is model
    for weight, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, other)


@pytest.mark.slow
def test_fine_tuning_begins_with_its_weights_in_each_fold(tmp_path):
    source = kd.DenseNetBC(10, 4, classes=5, input_shape=(8, 8, 1))
    module = kd.FineTuning(
        kd.DenseNetBC, depth=10, growth_rate=4, weights=source, frozen="backbone"
    )
    found = cross_validate(tmp_path, module, max_epochs=1)
    for record in found.folds:
        model = keras.models.load_model(record.checkpoint)
        for weight, other in zip(
            model.get_weights()[:-2], source.get_weights()[:-2], strict=True
        ):
            np.testing.assert_array_equal(weight, other)


@pytest.mark.slow
def test_the_last_checkpoint_is_asked_where_no_best_one_is_kept(tmp_path):
    only_last = {"callbacks": [ModelCheckpoint(save_top_k=0)], "max_epochs": 1}
    kept = cross_validate(tmp_path / "1", **only_last)
    assert [r.checkpoint.name for r in kept.folds] == ["last.keras"] * 2
    none = cross_validate(tmp_path / "2", enable_checkpointing=False, max_epochs=1)
    assert [r.checkpoint for r in none.folds] == [None, None]
    assert none.mean == kept.mean


# --- what is refused -------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"folds": 3}, "folds was 2 and is 3"),
        ({"seed": 6}, "seed was 5 and is 6"),
        ({"max_epochs": 3}, "flags.max_epochs was 2 and is 3"),
        ({"module": classifier(momentum=0.5)}, "module.momentum was 0.9 and is 0.5"),
        ({"data": arrays(1, mean=(1.0,))}, "pictures to train on are others"),
        ({"data": kd.data.Digits()}, "the data module was .*Arrays.* is .*Digits"),
    ],
    ids=["folds", "seed", "epochs", "module", "pictures", "data"],
)
def test_another_one_in_the_same_folder_is_refused(found, other, said):
    with pytest.raises(MisconfigurationError, match=said):
        cross_validate(found.folder.parent, **other)


def test_what_cannot_be_cross_validated_is_refused(tmp_path):
    model = linear(CLASSES, (8, 8, 1))
    model.compile(loss="sparse_categorical_crossentropy")
    batches = tf.data.Dataset.from_tensors((np.zeros((4, 8, 8, 1)), np.arange(4) % 2))
    for other, said in (
        ({"module": model}, r"a model that is made already .* kd\.ImageClassifier"),
        ({"data": batches}, "Datasets does not say how its pictures are divided"),
        ({"fast_dev_run": True}, r"fast_dev_run=1 takes a part .*data\.fold\(1, 5\)"),
        ({"limit_val_batches": 0.5}, "limit_val_batches=0.5 takes a part"),
        ({"callbacks": [ModelCheckpoint(tmp_path)]}, "leave dirpath out"),
        ({"folds": 25}, "25 folds need as many pictures"),
        ({"max_epoch": 3}, "max_epoch"),
    ):
        with pytest.raises((MisconfigurationError, TypeError), match=said):
            cross_validate(tmp_path, **other)
    assert not (tmp_path / "cross_validation" / "cross_validation.json").exists()
