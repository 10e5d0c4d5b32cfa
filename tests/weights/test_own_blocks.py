"""Networks of unusual blocks: what MONAI and torchvision make of them, ours are.

What they have and answer was written by `own_blocks_answers.py`, where they are.
"""

import json
from pathlib import Path

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
    channels = model.input_shape[-1]
    logits = model(answers.pictures(channels), training=False)
    scale = np.abs(expected["logits"]).max()
    np.testing.assert_allclose(logits, expected["logits"], rtol=0, atol=1e-5 * scale)


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
