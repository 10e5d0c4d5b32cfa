import io

import keras
from rich.console import Console

from keras_densenet.callbacks import ProgressBar, ThroughputMonitor
from keras_densenet.callbacks.progress_bar import clock


def test_progress_bar_in_a_terminal(monkeypatch):
    """Two epochs of three steps of 10 pictures, one second each by a fake clock."""
    seconds = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: next(seconds))
    console = Console(force_terminal=True, width=120, file=io.StringIO())
    speed = ThroughputMonitor(images_per_step=10)
    callbacks = keras.callbacks.CallbackList(
        [speed, ProgressBar(speed, console)],
        model=keras.Sequential(),
        epochs=2,
        steps=3,
    )
    callbacks.on_train_begin()
    for epoch in (0, 1):
        callbacks.on_epoch_begin(epoch)
        for batch in (0, 1, 2):
            callbacks.on_train_batch_begin(batch)
            callbacks.on_train_batch_end(batch, {"loss": 0.5})
        if epoch == 0:  # three of six steps are done
            status = callbacks.callbacks[1]._status({})
            assert status.split()[:3] == ["10", "images/s", "0:00:03"]
        logs = {"loss": 0.5, "val_loss": 0.25}
        callbacks.on_epoch_end(epoch, logs)
    callbacks.on_train_end()
    assert speed.images_per_second == 10.0
    text = console.file.getvalue()
    assert "building the graph" in text
    assert "Epoch   2/2  loss 0.5000  val_loss 0.2500  10 images/s" in text


def test_clock():
    assert [clock(s) for s in (0, 59.6, 3600)] == ["0:00:00", "0:01:00", "1:00:00"]
