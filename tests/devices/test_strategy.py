import tensorflow as tf

from keras_densenet.devices.strategy import make_strategy


def test_strategies_and_devices():
    assert make_strategy("auto", "auto") is None  # no GPU here
    assert make_strategy("none", 1) is None
    assert make_strategy("ddp", "auto").num_replicas_in_sync == 2
    assert make_strategy("auto", 2).num_replicas_in_sync == 2
    assert make_strategy("mirrored", [1]).extended.worker_devices == (
        "/job:localhost/replica:0/task:0/device:CPU:1",
    )
    mine = tf.distribute.OneDeviceStrategy("CPU:1")
    assert make_strategy(mine, "auto") is mine
