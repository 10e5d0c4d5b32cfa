import errno
import zipfile

import keras
import numpy as np
import pytest

import keras_densenet as kd
from keras_densenet.callbacks import ModelCheckpoint
from keras_densenet.training import MisconfigurationError
from keras_densenet.training.callback_order import keeper_of_the_last


class Saves:
    """Stands for a model: saves a whole archive with its number inside."""

    def __init__(self, number):
        self.number = number

    def save(self, path):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("number", str(self.number))


@pytest.mark.parametrize(
    ("mode", "scores", "best"),
    [
        ("max", [0.5, 0.7, 0.7, 0.6], 2),
        ("min", [0.5, 0.7, 0.3, 0.6], 3),
        ("auto", [0.5, 0.7, 0.3, 0.6], 3),  # of a loss
    ],
)
def test_best_checkpoint_of_literal_scores(tmp_path, mode, scores, best):
    callback = ModelCheckpoint(tmp_path, "a_loss", mode)
    for epoch, score in enumerate([*scores, float("nan")]):
        callback.set_model(Saves(epoch))
        callback.on_epoch_end(epoch, {"a_loss": score})
    name = f"epoch={best:03d}-a_loss={scores[best - 1]:.4f}.keras"
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["before-last.keras", name, "last.keras"]
    assert callback.best_model_path == str(tmp_path / name)
    assert callback.best_model_score == scores[best - 1]


def test_the_three_best_of_literal_scores(tmp_path):
    callback = ModelCheckpoint(tmp_path, "score", save_top_k=3)
    for epoch, score in enumerate([0.5, 0.9, 0.1, 0.7, 0.8]):
        callback.set_model(Saves(epoch))
        callback.on_epoch_end(epoch, {"score": score})
    assert list(callback.best_k_models.values()) == [0.9, 0.8, 0.7]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "before-last.keras",
        "epoch=002-score=0.9000.keras",
        "epoch=004-score=0.7000.keras",
        "epoch=005-score=0.8000.keras",
        "last.keras",
    ]


def test_the_best_alone(tmp_path):
    callback = ModelCheckpoint(tmp_path, "score", save_last=False)
    for epoch, score in enumerate([0.5, 0.9, 0.1]):
        callback.set_model(Saves(epoch))
        callback.on_epoch_end(epoch, {"score": score})
    assert [path.name for path in tmp_path.iterdir()] == [
        "epoch=002-score=0.9000.keras"
    ]
    assert callback.last_model_path == ""
    callback.save()  # as Ctrl-C does
    assert callback.last_model_path == str(tmp_path / "last.keras")


class DiskFull(Saves):
    """Writes half of it, and there is no space left."""

    def save(self, path):
        path.write_bytes(b"PK half an archive")
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_last_checkpoint_and_the_next_save_is_tried(tmp_path):
    callback = ModelCheckpoint(tmp_path, "score")
    callback.set_model(Saves(1))
    callback.on_epoch_end(0, {"score": 0.5})
    whole = (tmp_path / "last.keras").read_bytes()
    callback.set_model(DiskFull(2))
    with pytest.warns(UserWarning, match=r"No space left.*last.keras"):
        callback.on_epoch_end(1, {"score": 0.7})
    assert (tmp_path / "last.keras").read_bytes() == whole
    assert callback.best_model_score == 0.5
    assert len(list(tmp_path.iterdir())) == 2  # the last and the best
    with pytest.raises(OSError, match="last good checkpoint"):
        callback.on_train_end()
    callback.set_model(Saves(3))
    callback.on_epoch_end(2, {"score": 0.7})
    callback.on_train_end()
    assert callback.best_model_score == 0.7


def test_checkpoints_that_make_no_sense_are_refused():
    for options in ({"mode": "best"}, {"save_top_k": -2}, {"every_n_train_steps": 0}):
        with pytest.raises(MisconfigurationError, match=str(*options)):
            ModelCheckpoint(**options)
    for options in ({"save_top_k": 0}, {"every_n_train_steps": 5}):
        with pytest.raises(MisconfigurationError, match="save_last=False"):
            ModelCheckpoint(save_last=False, **options)
    with pytest.raises(MisconfigurationError, match="enable_checkpointing=False"):
        kd.Trainer(1, callbacks=[ModelCheckpoint()], enable_checkpointing=False)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("filename", "inserted", "names"),
    [
        (
            "{epoch}-{a/b:.1f}",
            True,
            ["epoch=1-a-b=0.5.keras", "epoch=2-a-b=0.9.keras"],
        ),
        ("n{epoch:02d}_{c:.2f}", False, ["n01_nan.keras", "n02_nan.keras"]),
        ("same", True, ["same-v1.keras", "same.keras"]),
        ("{step}", True, ["step=0-v1.keras", "step=0.keras"]),
    ],
)
def test_names_by_a_pattern(tmp_path, filename, inserted, names):
    callback = ModelCheckpoint(
        tmp_path,
        "a/b",
        filename=filename,
        auto_insert_metric_name=inserted,
        save_top_k=2,
        save_last=False,
    )
    for epoch, score in enumerate([0.5, 0.9, 0.1]):
        callback.set_model(Saves(epoch))
        callback.on_epoch_end(epoch, {"a/b": score})
    assert names_in(tmp_path) == names


@pytest.mark.parametrize(
    "filename",
    [
        *("../x", "a/{epoch}", "/x", ".x", "", "last", "before-last", "a\\b", "a:b"),
        *("{epoch", "{epoch.real}", "{0}{", "{epoch:x.3f}", "{epoch!r:}}"),
    ],
)
def test_a_name_outside_of_the_folder_is_refused(filename):
    with pytest.raises(MisconfigurationError, match=r"val_accuracy:\.3f"):
        ModelCheckpoint(filename=filename)


def test_several_keep_best_ones_of_their_own(tmp_path):
    first = ModelCheckpoint(tmp_path, "up", save_last=False)
    second = ModelCheckpoint(tmp_path, "down_loss", filename="{epoch}-{down_loss:.1f}")
    third = ModelCheckpoint(tmp_path, "up", "min", save_last=False)
    second.lead([first, third])
    for epoch, (up, down) in enumerate([(0.1, 5.0), (0.9, 7.0), (0.1, 6.0)]):
        for callback in (first, second, third):
            callback.set_model(Saves(epoch))
        for callback in (first, second, third):
            callback.on_epoch_end(epoch, {"up": up, "down_loss": down})
    assert names_in(tmp_path) == [
        "before-last.keras",
        "epoch=001-up=0.1000-v1.keras",  # the third's: the first had that one, too
        "epoch=002-up=0.9000.keras",
        "epoch=1-down_loss=5.0.keras",
        "last.keras",
    ]
    assert (
        first.last_model_path == third.last_model_path == str(tmp_path / "last.keras")
    )
    assert [c.best_model_score for c in (first, second, third)] == [0.9, 5.0, 0.1]


def test_who_keeps_the_last_checkpoint():
    plain, best = ModelCheckpoint(), ModelCheckpoint(save_last=False)
    within = ModelCheckpoint(every_n_train_steps=5)
    elsewhere = ModelCheckpoint("elsewhere")
    for given, keeper in (
        ([], None),
        ([best], best),
        ([best, plain], plain),
        ([plain, within], within),
        ([plain, elsewhere], plain),
    ):
        assert keeper_of_the_last(given) is keeper
    for given, said in (
        ([within, ModelCheckpoint(every_n_train_steps=5)], "2 ModelCheckpoints"),
        ([best, elsewhere], "in elsewhere, and the best in the run"),
    ):
        with pytest.raises(MisconfigurationError, match=said):
            keeper_of_the_last(given)


def averaging(classes, input_shape):
    layers = [keras.Input(input_shape), keras.layers.GlobalAveragePooling2D()]
    dense = keras.layers.Dense(classes, "softmax")
    return keras.Sequential([*layers, dense], name="averaging")


def test_each_goes_on_with_its_best(tmp_path):
    def fit(epochs, ckpt_path=None):
        checkpoints = [
            ModelCheckpoint(monitor="val_loss", save_top_k=2),
            ModelCheckpoint(
                monitor="loss", save_top_k=2, filename="{epoch}-{loss:.3f}"
            ),
        ]
        quiet = {"logger": False, "enable_progress_bar": False}
        callbacks = [*checkpoints, *epochs]
        trainer = kd.Trainer(2, default_root_dir=tmp_path, callbacks=callbacks, **quiet)
        images = np.arange(16).reshape(16, 1, 1, 1)
        data = kd.data.Arrays(
            images, images.ravel() // 8, 4, validation_split=0.25, seed=1
        )
        module = kd.ImageClassifier(averaging, milestones=())
        trainer.fit(module, data, ckpt_path=ckpt_path)
        return trainer

    trainer = fit([kd.callbacks.StopAfterEpoch(1)])
    begun = [dict(c.best_k_models) for c in trainer.checkpoint_callbacks]
    trainer = fit([], "last")
    for before, checkpoint in zip(begun, trainer.checkpoint_callbacks, strict=True):
        assert len(before) == 1
        assert before.items() < checkpoint.best_k_models.items()
    first = trainer.checkpoint_callback
    best = trainer.validate(ckpt_path="best")
    assert best["loss"] == pytest.approx(first.best_model_score)
