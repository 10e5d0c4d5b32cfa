"""Files know whose they are: which run, which data, and how far its end has come."""

import csv
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from linear_network import linear
from PIL import Image

import keras_densenet as kd
from keras_densenet.callbacks import ModelCheckpoint, Timer
from keras_densenet.command_line.run_of_config import run_of_config
from keras_densenet.one_owner import held_alone
from keras_densenet.training import MisconfigurationError
from keras_densenet.training.origin import refuse_other_answers
from keras_densenet.training.resumption import checkpoint_of_run
from keras_densenet.training.run_config import run_in


def pictures(root, names=("cat", "dog"), shade=0, many=8):
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for n in range(many):
            pixels = np.full((16, 16, 3), 90 * number + n + shade, "uint8")
            Image.fromarray(pixels).save(root / name / f"{n}.png")
    return root


def folder(root, **options):
    options = {"batch_size": 4, "image_size": 16, "augment": False, **options}
    return kd.data.ImageFolder(root, **options)


def trainer(root, epochs=1, **flags):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    return kd.Trainer(epochs, default_root_dir=root, **quiet, **flags)


def module(**options):
    options = {"learning_rate": 1e-3, "milestones": (), **options}
    return kd.ImageClassifier(linear, **options)


def fit(root, data, epochs=1, ckpt_path=None, **flags):
    made = trainer(root, epochs, **flags)
    made.fit(module(), data, ckpt_path)
    return made


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run on cats and dogs."""
    root = tmp_path_factory.mktemp("first")
    return fit(root, folder(pictures(root / "pets")))


def last(run):
    return run.log_dir / "checkpoints" / "last.keras"


# --- answers ---------------------------------------------------------------------


def test_a_checkpoint_of_other_classes_is_refused_with_both(first, tmp_path):
    fruit = folder(pictures(tmp_path / "fruit", ("apple", "pear")))
    with pytest.raises(MisconfigurationError) as error:
        trainer(tmp_path).predict(module(), fruit, last(first))
    for word in ("'cat'", "'dog'", "'apple'", "'pear'", "ImageFolder"):
        assert word in str(error.value)


def test_a_checkpoint_of_otherwise_prepared_pictures_is_refused(first):
    data = folder(first._data.root, mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(MisconfigurationError, match=r"mean was \[123.675"):
        trainer(first.default_root_dir).validate(module(), data, last(first))


def test_a_checkpoint_says_how_pictures_become_the_networks_size(first, tmp_path):
    kept = kd.checkpoint_file.read_state(last(first)).preprocessing
    assert kept["fit"] == "crop"  # of a square, where nothing else is said
    root, padded = first._data.root, folder(first._data.root, fit="pad")
    for ask in (
        lambda: trainer(tmp_path).validate(module(), padded, last(first)),
        lambda: fit(first.default_root_dir, padded, 2, last(first)),
        lambda: first.validate(first._module, padded),
    ):
        with pytest.raises(MisconfigurationError, match="fit was 'crop' and is 'pad'"):
            ask()
    trainer(tmp_path).validate(module(), folder(root, fit="crop"), last(first))
    # What is asked for is what it was by default: the run goes on.
    fit(tmp_path, folder(root, fit="crop"), 2, last(first))


def test_a_file_of_before_was_cropped_where_it_is_a_square_and_squashed_else(first):
    state = kd.checkpoint_file.read_state(last(first))
    del state.preprocessing["fit"]
    root = first._data.root
    for size, was, others in (
        (16, "crop", ("pad", "squash")),
        ((16, 24), "squash", ("pad", "crop")),
    ):
        for same in (None, was):
            data = folder(root, image_size=size, fit=same)
            refuse_other_answers(last(first), state, data)
        for other in others:
            data = folder(root, image_size=size, fit=other)
            words = f"fit was '{was}' and is '{other}'"
            with pytest.raises(MisconfigurationError, match=words):
                refuse_other_answers(last(first), state, data)


def test_what_was_trained_here_is_asked_about_its_classes_alone(first, tmp_path):
    fruit = folder(pictures(tmp_path / "fruit", ("apple", "pear")))
    others = folder(first._data.root, mean=(0, 0, 0), std=(1, 1, 1))
    for data, words in ((fruit, "'cat', 'dog'.*'apple', 'pear'"), (others, "mean was")):
        with pytest.raises(MisconfigurationError, match=f"linear would .*{words}"):
            first.validate(first._module, data)
    first.validate(first._module, folder(first._data.root, augment=True))
    model, mine = first.model, trainer(tmp_path)
    mine.fit(model, folder(first._data.root))
    with pytest.raises(MisconfigurationError, match=r"'dog'\].*'apple', 'pear'"):
        mine.validate(model, fruit)


@pytest.mark.parametrize(
    ("names", "size", "words"),
    [
        (("ant", "bee", "cat"), 16, "2 classes apart, and there are 3"),
        (("cat", "dog"), 20, r"shape \(16, 16, 3\), .* have \(20, 20, 3\)"),
    ],
)
def test_a_network_is_not_asked_about_what_it_cannot_see(
    first, tmp_path, names, size, words
):
    others = folder(pictures(tmp_path / "others", names), image_size=size)
    with pytest.raises(MisconfigurationError, match=words):
        first.validate(first._module, others)


def test_other_pictures_of_the_same_classes_are_answered(first, tmp_path):
    others = folder(pictures(tmp_path / "pets", shade=9, many=5), augment=True)
    trainer(tmp_path).validate(module(), others, last(first))


def test_what_a_file_of_before_does_not_say_is_not_refused(first):
    state = kd.checkpoint_file.read_state(last(first))
    state.origin = {}
    data = folder(first._data.root)
    data.class_names = ("other", "names")
    refuse_other_answers(last(first), state, data)


# --- which run -------------------------------------------------------------------


def test_last_says_what_it_takes_and_what_it_passes_over(first, tmp_path, capsys):
    runs = first.log_dir.parent
    (runs / "version_7").mkdir()
    try:
        data = folder(first._data.root)
        trainer(first.default_root_dir).validate(module(), data, "last")
    finally:
        (runs / "version_7").rmdir()
    said = capsys.readouterr().out
    assert "no last checkpoint in" in said
    assert "version_7" in said
    assert f"Taking {last(first)}, after epoch 1, trained on ImageFolder of" in said


def test_a_config_in_a_runs_folder_means_that_run(first, tmp_path, monkeypatch):
    second = fit(first.default_root_dir, folder(first._data.root))
    assert second.log_dir.name == "version_1"
    monkeypatch.chdir(tmp_path)  # wherever one is
    run = run_of_config([first.log_dir / "config.yaml"])
    assert run.resolve() == first.log_dir.resolve()
    assert checkpoint_of_run(run, "last", None, print).samefile(last(first))
    best = checkpoint_of_run(run, "best", None, print)
    assert best.samefile(first.checkpoint_callback.best_model_path)
    config = tmp_path / "config.yaml"
    config.write_text("trainer: {}")
    assert run_of_config([config]) is None  # of one's own
    shutil.rmtree(second.log_dir)


@pytest.mark.slow
def test_a_run_that_was_moved_goes_on_where_it_is_and_another_beside_it(tmp_path):
    data = folder(pictures(tmp_path / "pets"))
    old = fit(tmp_path / "here", data).log_dir
    name = old.parent.name
    run = shutil.move(old, tmp_path / "moved" / name / "version_3")
    further = trainer(tmp_path / "here", 2)
    further.runs = run_of_config([run / "config.yaml"]).parent
    further.fit(module(), data, "last")
    assert further.log_dir.samefile(run)
    assert [epoch for epoch, *_ in rows(run / "metrics.csv")] == ["0", "1"]
    # Elsewhere each is a run of its own: none writes over what another one has.
    path = run / "checkpoints" / "last.keras"
    others = [fit(tmp_path / "there", data, 3, path).log_dir for _ in range(2)]
    assert [other.name for other in others] == ["version_0", "version_1"]
    assert len({run_in(each) for each in (run, *others)}) == 3


def rows(metrics):
    with metrics.open(newline="") as file:
        return list(csv.reader(file))[1:]


@pytest.mark.slow
def test_a_run_with_a_checkpoint_folder_of_its_own_goes_on_in_its_folder(tmp_path):
    data = folder(pictures(tmp_path / "pets"))
    mine = [ModelCheckpoint(tmp_path / "ck")]
    run = fit(tmp_path, data, callbacks=mine)
    again = fit(tmp_path, data, 2, "last", callbacks=[ModelCheckpoint(tmp_path / "ck")])
    assert again.log_dir == run.log_dir
    path = checkpoint_of_run(run.log_dir, "last", mine[0], print)
    assert path == tmp_path / "ck" / "last.keras"
    other = fit(tmp_path, data)  # another run, whose config names no such folder
    shutil.rmtree(other.log_dir / "checkpoints")
    with pytest.raises(MisconfigurationError, match="has no last checkpoint"):
        checkpoint_of_run(other.log_dir, "last", mine[0], print)


# --- going on --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"augment": True}, "augment was False and is True"),
        ({"mirror": False}, "mirror was True and is False"),
        ({"channels": 1}, r"trained on pictures \(16, 16, 3\).* reads \(16, 16, 1\)"),
        ({"batch_size": 5}, "batch_size was 4 and is 5"),
        ({"strong": {"cutout": 0.5}}, "strong was None and is {'cutout': 0.5}"),
        ({"many": 9}, r"number of pictures to train on was 14 and is 1[5-8]"),
        ({"shade": 7}, "the pictures to train on are others, as many as they were"),
        ({"names": ("cat", "fox")}, r"class_names was \['dog'\] and is \['fox'\]"),
    ],
)
def test_a_run_does_not_go_on_with_other_data(first, tmp_path, change, words):
    made = {k: change[k] for k in change if k in ("many", "shade", "names")}
    data = first._data.root
    if made:
        data = pictures(tmp_path / "others", **made)
    options = {k: v for k, v in change.items() if k not in made}
    with pytest.raises(MisconfigurationError, match=words):
        fit(first.default_root_dir, folder(data, **options), 2, last(first))


def test_a_run_goes_on_where_its_pictures_were_moved_to(tmp_path):
    run = fit(tmp_path, folder(pictures(tmp_path / "pets"), seed=1))
    moved = (tmp_path / "pets").rename(tmp_path / "moved")
    data = folder(moved, seed=2, check_files=False)
    again = fit(tmp_path, data, 2, "last")
    assert again.log_dir == run.log_dir
    assert data.seed == 1


class Mine(kd.data.DataModule):
    """One's own, without a fingerprint: its paths must be the same, too."""

    num_classes, class_names, input_shape, batch_size = 2, ("a", "b"), (2, 2, 1), 4
    mean, std = (0.0,), (1.0,)

    def __init__(self, root, num_workers=1):
        self.root, self.num_workers = root, num_workers

    def train_dataset(self):
        arrays = np.ones((8, 2, 2, 1), "float32"), np.arange(8) % 2
        return tf.data.Dataset.from_tensor_slices(arrays).batch(4)

    def test_dataset(self):
        return self.train_dataset()

    def predict_dataset(self):
        return self.train_dataset().map(lambda x, y: x)


def test_data_of_ones_own_are_told_apart_by_their_arguments(tmp_path):
    fit(tmp_path, Mine("here"))
    with pytest.raises(MisconfigurationError, match="root was 'here' and is 'there'"):
        fit(tmp_path, Mine("there"), 2, "last")
    fit(tmp_path, Mine("here", num_workers=8), 2, "last")


def test_an_option_that_a_run_of_before_did_not_have_is_no_change(tmp_path, capsys):
    run = fit(tmp_path, folder(pictures(tmp_path / "pets"))).log_dir
    config = run / "config.yaml"
    lines = config.read_text().splitlines(keepends=True)
    new = ("    mirror: true\n", "    fit: null\n", "    channels: 3\n")
    assert set(new) <= set(lines)
    config.write_text("".join(line for line in lines if line not in new))
    fit(tmp_path, folder(tmp_path / "pets"), 2, "last")
    said = capsys.readouterr().out
    assert "Other than before: trainer.max_epochs was 1 and is 2." in said
    assert said.count("Other than before") == 1
    assert set(new) <= set(config.read_text().splitlines(keepends=True))


def test_other_pictures_to_validate_on_are_told_of(tmp_path, capsys):
    for split, shade in (("train", 0), ("val", 5)):
        pictures(tmp_path / "pets" / split, shade=shade)
    fit(tmp_path, folder(tmp_path / "pets"))
    (tmp_path / "pets" / "val" / "cat" / "0.png").unlink()
    fit(tmp_path, folder(tmp_path / "pets"), 2, "last")
    said = "Other than before: the pictures to validate on, of which there were 16."
    assert said in capsys.readouterr().out


def test_what_is_other_on_purpose_is_written_and_said(first, tmp_path, capsys):
    data = folder(pictures(tmp_path / "pets"))
    step = {"milestones": (0.5,), "learning_rate": 0.1}
    trainer(tmp_path, 2, max_steps=3).fit(module(**step), data)
    longer = trainer(tmp_path, 4)
    longer.fit(module(**{**step, "learning_rate": 0.2}), data, "last")
    said = capsys.readouterr().out
    assert "Other than before: trainer.max_epochs was 2 and is 4." in said
    assert "Other than before: model.learning_rate was 0.1 and is 0.2." in said
    # 14 pictures are 3 steps an epoch; 0.01 from step 1 of 3, and 6 of 12, on.
    assert "made for 3 steps and is for 12 now: after 3 steps the rate is 0.2" in said
    config = (longer.log_dir / "config.yaml").read_text()
    assert "# since epoch 1: trainer.max_epochs was 2 and is 4\n" in config
    assert "\n  max_epochs: 4\n" in config


# --- one owner a folder ----------------------------------------------------------


def test_a_second_run_does_not_write_over_the_firsts_checkpoints(tmp_path):
    data = folder(pictures(tmp_path / "pets"))
    fit(tmp_path, data, callbacks=[ModelCheckpoint(tmp_path / "ck")])
    before = (tmp_path / "ck" / "last.keras").read_bytes()
    with pytest.raises(MisconfigurationError, match="of another run"):
        fit(tmp_path, data, callbacks=[ModelCheckpoint(tmp_path / "ck")])
    assert (tmp_path / "ck" / "last.keras").read_bytes() == before


def test_two_trainings_at_once_do_not_share_a_folder(first, tmp_path):
    with held_alone([tmp_path / "a", tmp_path / "b"]):
        with (
            pytest.raises(MisconfigurationError, match="Another training writes to"),
            held_alone([tmp_path / "b"]),
        ):
            pass
        assert not any((tmp_path / "b").iterdir())
    with held_alone([tmp_path / "b"]):
        pass
    with (
        held_alone([first.log_dir]),
        pytest.raises(MisconfigurationError, match="Another training"),
    ):
        fit(first.default_root_dir, folder(first._data.root), 2, last(first))


# --- the end ---------------------------------------------------------------------


def ended(root, data, ckpt_path=None, **flags):
    """Train with best weights that are put back at the end, and averages."""
    made = trainer(root, 6, **flags)
    with made.scope():
        model = linear(2, (16, 16, 3))
        model.compile(
            keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.5),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
    made.fit(model, data, ckpt_path)
    return made, model


def best_put_back():
    return keras.callbacks.EarlyStopping(
        "loss", patience=1, min_delta=1e6, restore_best_weights=True
    )


@pytest.mark.parametrize(
    "flags",
    [
        lambda: {"callbacks": [best_put_back()]},
        dict,
        pytest.param(lambda: {"max_steps": 2}, marks=pytest.mark.slow),  # mid-epoch
        pytest.param(
            lambda: {"callbacks": [Timer({"microseconds": 1})]}, marks=pytest.mark.slow
        ),
    ],
    ids=["best weights", "averages", "max_steps", "time"],
)
def test_a_run_that_is_over_ends_again_as_it_did(tmp_path, flags):
    keras.utils.set_random_seed(1)
    data = folder(pictures(tmp_path / "pets"), seed=3)
    run, model = ended(tmp_path, data, **flags())
    for name in ("curves.png", "config.yaml"):  # killed before they were written
        (run.log_dir / name).unlink()
    log = (run.log_dir / "metrics.csv").read_text()
    again, its_model = ended(tmp_path, data, "last", **flags())
    for ours, theirs in zip(its_model.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert again.log_dir == run.log_dir
    assert again.global_step == run.global_step
    assert (run.log_dir / "curves.png").exists()
    assert (run.log_dir / "metrics.csv").read_text() == log
    assert again.checkpoint_callback.last_model_path == str(last(run))


class KilledError(Exception):
    pass


class KilledAfter(keras.callbacks.Callback):
    """Ends the run before the end of the epoch that its last step is in."""

    def on_epoch_end(self, epoch, logs=None):
        raise KilledError


def test_killed_between_its_last_step_and_the_end_of_its_epoch(tmp_path):
    def saving():
        return ModelCheckpoint(every_n_train_steps=1)

    keras.utils.set_random_seed(1)
    data = folder(pictures(tmp_path / "pets"), seed=3)
    flags = {"max_steps": 2}
    run, model = ended(tmp_path / "whole", data, callbacks=[saving()], **flags)
    keras.utils.set_random_seed(1)
    with pytest.raises(KilledError):
        ended(tmp_path / "it", data, callbacks=[saving(), KilledAfter()], **flags)
    again, its_model = ended(
        tmp_path / "it", data, "last", callbacks=[saving()], **flags
    )
    for ours, theirs in zip(its_model.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for name in ("loss", "accuracy", "val_loss"):
        expected = float(run.callback_metrics[name])
        assert float(again.callback_metrics[name]) == pytest.approx(expected)
