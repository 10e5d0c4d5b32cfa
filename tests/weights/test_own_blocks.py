"""Networks of unusual blocks: what MONAI and torchvision make of them, ours are.

Those of signals and of volumes, too.

What they have and answer was written by `own_blocks_answers.py`, where they are.
"""

import json
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import own_blocks_answers as answers
import pytest
import pytorch_answers as pytorch

import keras_densenet as kd

HELPERS = Path(__file__).parents[1] / "helpers"
PEERS = json.loads((HELPERS / "own_blocks_answers.json").read_text())
IMAGENET_STYLE = {"stem": "imagenet", "classifier_activation": None}
OURS = {
    "monai": {
        "blocks": (2, 3, 4),
        "growth_rate": 16,
        "bn_size": 2,
        "init_features": 24,
        "classes": 5,
        "input_shape": (None, None, 1),
        "dropout_rate": 0.1,
    },
    "torchvision": {
        "blocks": (3, 2),
        "growth_rate": 8,
        "bn_size": 3,
        "init_features": 10,
        "classes": 4,
        "input_shape": (None, None, 3),
    },
}
SMALL = {"blocks": (2, 2), "growth_rate": 4, "init_features": 8, "classes": 3}
OF_RANK = {"monai_signals": 1, "monai_volumes": 3}
OURS |= {
    name: {**SMALL, "input_shape": (*(None,) * rank, 1)}
    for name, rank in OF_RANK.items()
}


@pytest.mark.parametrize("library", OURS)
@pytest.mark.parametrize("memory_efficient", [False, "full"])
def test_weights_and_answers_of(library, memory_efficient):
    options = {**OURS[library], **IMAGENET_STYLE, "memory_efficient": memory_efficient}
    model = kd.DenseNetBC(**options)
    expected = PEERS[library]
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert trainable == expected["parameters"]
    state = {n: pytorch.weight(n, tuple(s)) for n, s in expected["shapes"].items()}
    kd.weights.load(model, state)
    rank, channels = len(model.input_shape) - 2, model.input_shape[-1]
    logits = model(answers.pictures(channels, rank), training=False)
    scale = np.abs(expected["logits"]).max()
    np.testing.assert_allclose(logits, expected["logits"], rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize(
    "library",
    ["monai_signals", pytest.param("monai_volumes", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize(
    "mode", [False, *(pytest.param(m, marks=pytest.mark.slow) for m in (True, "full"))]
)
def test_twenty_steps_of_signals_and_of_volumes(library, mode):
    rank, expected = OF_RANK[library], PEERS[library]
    shape = (*(32,) * rank, 1)
    with of_policy("float64"):
        options = {**OURS[library], **IMAGENET_STYLE, "input_shape": shape}
        model = kd.DenseNetBC(**options, memory_efficient=mode)
    state = {n: pytorch.weight(n, tuple(s)) for n, s in expected["shapes"].items()}
    kd.weights.load(model, state)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    sgd = kd.training.TorchSGD(0.1, 0.9, weight_decay=1e-4)
    model.compile(sgd, loss, jit_compile=False)
    losses = []
    for images, labels in zip(*answers.batches(rank, 3), strict=True):
        losses.append(float(model.train_on_batch(images, labels)))
        model.reset_metrics()
    np.testing.assert_allclose(losses, expected["losses"], rtol=1e-4)


@contextmanager
def of_policy(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def test_parameters_of_the_peers_by_hand():
    """A layer that reads c maps has 2c + c b + 2b + 9 b k, b = bn_size k."""
    # b = 32: 34c + 4672. From 24 on, 56 halved to 28, 76 halved to 38, 102 at the end.
    stem = 49 * 24 + 48
    blocks = 34 * (64 + 132 + 248) + 9 * 4672
    transitions = (112 + 56 * 28) + (152 + 76 * 38)
    by_hand = stem + blocks + transitions + 204 + 515
    assert PEERS["monai"]["parameters"] == by_hand == 63_807
    # b = 24: 26c + 1776. From 10 on, 34 halved to 17, 33 at the end.
    by_hand = 1490 + 26 * (54 + 42) + 5 * 1776 + (68 + 34 * 17) + 66 + 136
    assert PEERS["torchvision"]["parameters"] == by_hand == 13_714
    # b = 16: 18c + 32 + 64 * 3 of signals, * 27 of volumes. From 8 on, 16 halved to 8.
    for name, size, stem in (("signals", 3, 7), ("volumes", 27, 343)):
        block = 18 * (8 + 12) + 2 * (32 + 64 * size)
        by_hand = stem * 8 + 16 + 2 * block + (32 + 16 * 8) + 32 + 51
        assert PEERS[f"monai_{name}"]["parameters"] == by_hand
