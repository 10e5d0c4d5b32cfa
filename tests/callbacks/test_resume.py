"""A run that ends early goes on exactly as it would have."""

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from crash import CrashError, SignalAt, StopAt
from linear_network import with_state

import keras_densenet as kd
from keras_densenet.callbacks import ModelCheckpoint
from keras_densenet.checkpoint_file import is_whole
from keras_densenet.training import MisconfigurationError

SCRIPT = Path(__file__).parents[1] / "helpers" / "interrupted_training.py"


def densenet(classes, input_shape):
    return kd.DenseNetBC(10, 4, 0.5, classes, input_shape, dropout_rate=0.2)


def train(
    folder,
    callbacks=(),
    ckpt_path=None,
    epochs=3,
    seed=1,
    network=densenet,
    batch_size=250,  # 5 steps an epoch
    **options,
):
    """Train with all that is random: dropout, shuffling, augmentation."""
    keras.utils.set_random_seed(seed)
    data = kd.data.Digits(batch_size=batch_size)
    module = kd.ImageClassifier(network, milestones=())
    trainer = kd.Trainer(
        epochs, default_root_dir=folder, callbacks=list(callbacks), **options
    )
    trainer.fit(module, data, ckpt_path=ckpt_path)
    return trainer, module.model


def rows(trainer):
    with (trainer.log_dir / "metrics.csv").open() as file:
        return [
            [float(row[name]) for name in sorted(row) if name != "images_per_second"]
            for row in csv.DictReader(file)
        ]


@pytest.fixture(
    scope="module", params=[with_state, pytest.param(densenet, marks=pytest.mark.slow)]
)
def network(request):
    return request.param


@pytest.fixture(scope="module")
def whole(tmp_path_factory, network):
    folder = tmp_path_factory.mktemp("whole")
    return train(folder, [ModelCheckpoint(save_top_k=2)], network=network)


def assert_same_run(run, whole, rtol=1e-5):
    """Compare everything; kernels on two threads may add in another order."""
    (trainer, model), (whole_trainer, whole_model) = run, whole
    for variable, expected in zip(model.variables, whole_model.variables, strict=True):
        np.testing.assert_allclose(variable, expected, rtol=rtol, atol=1e-6)
    for variable, expected in zip(
        model.optimizer.variables, whole_model.optimizer.variables, strict=True
    ):
        np.testing.assert_allclose(variable, expected, rtol=rtol, atol=1e-6)
    np.testing.assert_allclose(rows(trainer), rows(whole_trainer), rtol=1e-4)
    files = [
        sorted(path.name for path in t.checkpoint_callback.dirpath.iterdir())
        for t in (trainer, whole_trainer)
    ]
    assert files[0] == files[1]


@pytest.mark.parametrize(  # within, at the end of, an epoch
    "steps", [4, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 8))]
)
def test_a_crashed_run_goes_on_from_its_last_checkpoint(
    tmp_path, network, whole, steps
):
    def checkpoint():
        return ModelCheckpoint(save_top_k=2, every_n_train_steps=2)

    with pytest.raises(CrashError):
        train(tmp_path, [checkpoint(), StopAt(steps)], network=network)
    resumed = train(
        tmp_path, [checkpoint()], ckpt_path="last", seed=99, network=network
    )
    assert resumed[0].log_dir.name == "version_0"
    assert_same_run(resumed, whole)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        (signal.SIGTERM, 143),
    ],
)
def test_a_signal_saves_and_says_how_to_go_on(
    tmp_path, network, whole, number, code, capsys
):
    before = signal.getsignal(number)
    callbacks = [ModelCheckpoint(save_top_k=2), SignalAt(7, number)]
    with pytest.raises(SystemExit) as end:
        train(tmp_path, callbacks, network=network)
    assert end.value.code == code
    out = capsys.readouterr().out
    assert number.name in out
    assert "last.keras" in out
    assert "ckpt_path='last'" in out
    assert signal.getsignal(number) is before
    callbacks = [ModelCheckpoint(save_top_k=2)]
    resumed = train(tmp_path, callbacks, ckpt_path="last", seed=99, network=network)
    assert "after epoch 1 and 2 batches" in capsys.readouterr().out
    assert_same_run(resumed, whole)


@pytest.mark.slow
def test_replicas_go_on_with_statistics_of_their_own(tmp_path):
    """Within an epoch the moving statistics of two replicas differ."""
    whole = train(tmp_path / "whole", strategy="mirrored", epochs=2)
    with pytest.raises(SystemExit):
        train(
            tmp_path / "ended",
            [SignalAt(7, signal.SIGTERM)],
            strategy="mirrored",
            epochs=2,
        )
    resumed = train(
        tmp_path / "ended", ckpt_path="last", seed=9, strategy="mirrored", epochs=2
    )
    assert_same_run(resumed, whole)


@pytest.mark.slow
def test_several_steps_an_execution(tmp_path):
    """Executions of two steps, two an epoch; a save after 3 steps is one after 4."""

    def fit(folder, crash=(), ckpt_path=None):
        keras.utils.set_random_seed(1)
        trainer = kd.Trainer(
            3,
            default_root_dir=tmp_path / folder,
            callbacks=[ModelCheckpoint(every_n_train_steps=1), *crash],
        )
        with trainer.scope():
            model = kd.DenseNetBC(10, 4, dropout_rate=0.2)
            model.compile(
                kd.training.TorchSGD(0.1),
                "sparse_categorical_crossentropy",
                steps_per_execution=2,
            )
        trainer.fit(model, kd.data.Digits(batch_size=250), ckpt_path=ckpt_path)
        return trainer, model

    whole = fit("whole")
    assert (
        int(whole[1].optimizer.iterations) == 12
    )  # the fifth step is the next epoch's
    with pytest.raises(CrashError):
        fit("crashed", crash=[StopAt(4)])  # before its save
    keras.utils.set_random_seed(3)
    resumed = fit("crashed", ckpt_path="last")
    assert_same_run(resumed, whole)


@pytest.mark.slow
def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(
    tmp_path, network, whole, capsys
):
    callbacks = [ModelCheckpoint(save_top_k=2), StopAt(12)]
    with pytest.raises(CrashError):
        train(tmp_path, callbacks, network=network)
    (last,) = tmp_path.glob("runs/*/*/checkpoints/last.keras")
    last.write_bytes(last.read_bytes()[:-1000])
    callbacks = [ModelCheckpoint(save_top_k=2)]
    resumed = train(tmp_path, callbacks, ckpt_path="last", seed=99, network=network)
    out = capsys.readouterr().out
    assert "is damaged" in out
    assert "before-last.keras" in out
    assert_same_run(resumed, whole)


@pytest.mark.slow
def test_early_stopping_goes_on_waiting(tmp_path):
    """No epoch is better than the first by 1000: it waits for three more, and stops."""

    def stopping():
        return keras.callbacks.EarlyStopping(
            "val_loss", patience=3, min_delta=1000, restore_best_weights=True
        )

    with pytest.raises(CrashError):
        train(tmp_path, [stopping(), StopAt(12)], epochs=9)
    resumed = stopping()
    trainer, _ = train(tmp_path, [resumed], ckpt_path="last", epochs=9)
    assert resumed.stopped_epoch == 3
    assert len(rows(trainer)) == 4
    assert resumed.best_weights is not None


@pytest.mark.slow
def test_another_checkpoint_than_the_last_begins_a_run_of_its_own(tmp_path):
    trainer, _ = train(tmp_path, epochs=1)
    best = trainer.checkpoint_callback.best_model_path
    trainer, _ = train(tmp_path, epochs=2, ckpt_path=best)
    assert trainer.log_dir.name == "version_1"
    assert (trainer.log_dir / "config.yaml").exists()
    assert len(rows(trainer)) == 1


def test_other_data_are_refused(tmp_path):
    callbacks = [ModelCheckpoint(every_n_train_steps=2), StopAt(3)]
    with pytest.raises(CrashError):
        train(tmp_path, callbacks, network=with_state)
    with pytest.raises(MisconfigurationError, match="batch_size was 250 and is 300"):
        train(tmp_path, ckpt_path="last", network=with_state, batch_size=300)


# --- processes, killed -----------------------------------------------------------


def start(folder, *flags):
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), "--quiet", *flags],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def has_checkpoint(folder):
    return any(folder.glob("runs/*/*/checkpoints/*last.keras"))


def finished(folder, *flags):
    """Run to the end without a kill."""
    resumes = ["--resume"] if has_checkpoint(folder) else []
    process = start(folder, *flags, *resumes)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    with np.load(folder / "weights.npz") as weights:
        return list(weights.values())


def assert_bit_identical(weights, expected):
    assert len(weights) == len(expected)
    for value, wanted in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(value, wanted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "kills", "flags"),
    [
        (signal.SIGKILL, 30, ()),
        (signal.SIGTERM, 10, ()),
        (signal.SIGKILL, 10, ("--mosaics",)),
        (signal.SIGKILL, 10, ("--volumes",)),
        (signal.SIGKILL, 10, ("--scenes",)),
    ],
)
def test_killed_at_random_moments(tmp_path, number, kills, flags):
    """Weights and optimizer, to the bit, are those of a run that was not killed."""
    expected = finished(tmp_path / "whole", *flags)
    folder, clock = tmp_path / "killed", random.Random(0)
    done = 0
    while done < kills:
        resumes = ["--resume"] if has_checkpoint(folder) else []
        process = start(folder, *flags, *resumes)
        begun = time.monotonic()
        _wait_for_training(folder, process, begun)
        time.sleep(clock.uniform(0.0, 2.0))
        if process.poll() is None:
            process.send_signal(number)
            done += 1
        process.communicate()
        if (folder / "weights.npz").exists():  # it came to its end: once more
            with np.load(folder / "weights.npz") as weights:
                assert_bit_identical(list(weights.values()), expected)
            shutil.rmtree(folder)
    assert_bit_identical(finished(folder, *flags), expected)


@pytest.mark.slow
def test_killed_in_the_work_at_the_end(tmp_path):
    """After the last checkpoint: what fit does then is done again."""
    expected = finished(tmp_path / "whole")
    folder = tmp_path / "killed"
    for place in ("before", "after", "curves", "curves"):
        flags = ["--resume"] if has_checkpoint(folder) else []
        process = start(folder, f"--kill-at={place}", *flags)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not (folder / "weights.npz").exists()
    assert_bit_identical(finished(folder), expected)
    (run,) = folder.glob("runs/*/*")
    assert (run / "curves.png").exists()


@pytest.mark.slow
def test_two_trainings_in_one_folder(tmp_path):
    """The second is refused, and the first comes to its end."""
    expected = finished(tmp_path / "whole")
    first = start(tmp_path / "it")
    while not any(tmp_path.glob("it/runs/*/*/checkpoints/last.keras")):
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGSTOP)  # or it would be over where the second is slow
    second = start(tmp_path / "it", "--resume")
    _, errors = second.communicate()
    first.send_signal(signal.SIGCONT)
    assert second.returncode == 1
    assert "Another training writes to" in errors
    first.communicate()
    with np.load(tmp_path / "it" / "weights.npz") as weights:
        assert_bit_identical(list(weights.values()), expected)


@pytest.mark.slow
def test_a_disk_that_is_full(tmp_path):
    """Logs and checkpoints fail, training does not, and what is saved stays."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("Only root may make a small disk.")
    try:
        process = start(small)
        _, errors = process.communicate()
        assert "could not be saved" in errors
        assert "Is there space left" in errors
        (run,) = small.glob("runs/*/*")
        whole = [p for p in (run / "checkpoints").glob("*last.keras") if is_whole(p)]
        assert len(whole) == len(list((run / "checkpoints").glob("*last.keras")))
        assert "Epoch 4" in errors or process.returncode == 1  # of the last save
    finally:
        subprocess.run(["umount", str(small)], check=True)


def _wait_for_training(folder, process, begun):
    """Wait until this process has saved something, for 60 s at most."""
    now = time.time()
    while process.poll() is None and time.monotonic() - begun < 60:
        files = folder.glob("runs/*/*/checkpoints/*.keras")
        if any(file.stat().st_mtime > now for file in files if file.exists()):
            return
        time.sleep(0.05)
