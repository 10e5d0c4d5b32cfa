import errno
import zipfile

import pytest

import keras_densenet as kd
from keras_densenet.callbacks import ModelCheckpoint
from keras_densenet.training import MisconfigurationError


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
