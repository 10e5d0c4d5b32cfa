"""The networks on Keras's other backends, each in a process of its own."""

import importlib.util
import os
import subprocess
import sys

import pytest

TRAINING_STEP = """
import keras, numpy as np
import keras_densenet as kd

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
images = rng.normal(size=(8, 32, 32, 3)).astype("float32")
labels = rng.integers(0, 10, 8)
model = kd.DenseNetBC(depth=16, growth_rate=4, dropout_rate=0.1)
model.compile("sgd", "sparse_categorical_crossentropy")
statistics = model.get_layer("dense_block1").dense_layers[1].bottleneck_bn.moving_mean
before = np.array(keras.ops.convert_to_numpy(statistics))
losses = [float(model.train_on_batch(images, labels)) for _ in range(8)]
assert losses[-1] < losses[0], losses
assert not np.allclose(before, keras.ops.convert_to_numpy(statistics))
assert model.predict(images, verbose=0).shape == (8, 10)

for shape in ((16, 2), (4, 4, 4, 2)):
    some = rng.normal(size=(8, *shape)).astype("float32")
    model = kd.DenseNetBC(blocks=(1, 1), growth_rate=4, input_shape=shape)
    model.compile("sgd", "sparse_categorical_crossentropy")
    of_rank = [float(model.train_on_batch(some, labels)) for _ in range(8)]
    assert of_rank[-1] < of_rank[0], (shape, of_rank)

keras.config.set_image_data_format("channels_first")
model = kd.DenseNetBC(16, 4, input_shape=(3, 32, 32))
assert model.get_layer("dense_block1").output.shape[1:] == (16, 32, 32)
try:
    first = model(images.transpose(0, 3, 1, 2))
except NotImplementedError as refused:
    print("channels_first:", refused)
print(keras.backend.backend(), losses[0], "->", losses[-1])
"""


RECOMPUTATION = """
import keras, numpy as np
import keras_densenet as kd

rng = np.random.default_rng(0)
images = rng.normal(size=(8, 8, 8, 3)).astype("float32")
labels = rng.integers(0, 10, 8)

def trained(mode):
    keras.utils.set_random_seed(0)
    model = kd.DenseNetBC(
        16, 4, input_shape=(8, 8, 3), dropout_rate=0.2, memory_efficient=mode
    )
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    losses = [float(model.train_on_batch(images, labels)) for _ in range(3)]
    return losses, model.get_weights()

losses, weights = trained(False)
for mode in (True, "full"):
    again, same = trained(mode)
    np.testing.assert_allclose(again, losses, rtol=1e-6)
    for ours, plain in zip(same, weights):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-6)
print(keras.backend.backend(), "recomputes exactly")
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize(
    "script", [TRAINING_STEP, RECOMPUTATION], ids=["plain", "recomputed"]
)
def test_a_network_trains(script, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed in this environment")
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    print(run.stdout)
