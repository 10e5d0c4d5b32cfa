"""FC-DenseNet: the paper's networks, and a reference of PyTorch.

What the reference answers was written by `fc_densenet_answers.py`, where PyTorch is.
"""

import json
from pathlib import Path

import fc_densenet_answers as reference
import keras
import numpy as np
import pytest

import keras_densenet as kd

HELPERS = Path(__file__).parent / "helpers"
ANSWERS = json.loads((HELPERS / "fc_densenet_answers.json").read_text())
SMALL = {"blocks": (2, 3, 2), "growth_rate": 4, "classes": 3}


def of_case(name, **options):
    growth_rate, blocks, classes, size = reference.CASES[name]
    model = kd.FCDenseNet(
        blocks=blocks,
        growth_rate=growth_rate,
        classes=classes,
        input_shape=(*size, 3),
        **options,
    )
    for variable in model.weights:
        if "seed" not in variable.path:
            variable.assign(reference.drawn(variable.path, variable.shape))
    return model


@pytest.mark.parametrize("name", reference.CASES)
def test_answers_of_the_reference(name):
    answers = of_case(name)(reference.pictures(name), training=False)
    assert answers.shape[1:3] == reference.CASES[name][-1]
    np.testing.assert_allclose(answers[:, ::3, ::3], ANSWERS[name], rtol=0, atol=1e-4)


def by_hand(growth_rate, blocks, classes=11, maps=48):
    """Count the parameters by the paper's tables.

    Returns:
        Those that are trained here; and what the authors' code counts, which has a bias
        at each convolution, and counts moving statistics.
    """
    norms, biases, kernels = 0, maps, 9 * 3 * maps
    skips, new = [], 0
    pools = len(blocks) // 2
    for i, num_layers in enumerate(blocks):
        if i > pools:  # a transition up of the new maps of the block before
            kernels += 9 * new * new
            biases += new
            maps = new + skips.pop()
        new = num_layers * growth_rate
        for layer in range(num_layers):
            read = maps + layer * growth_rate
            norms += read
            kernels += 9 * read * growth_rate
        biases += new
        maps += new
        if i < pools:  # a transition down
            skips.append(maps)
            norms += maps
            kernels += maps * maps
            biases += maps
    classifier = (maps + 1) * classes
    return 2 * norms + kernels + classifier, 4 * norms + kernels + biases + classifier


# Table 3 says 1.5 of the first: with its own description there are 1.4 million.
@pytest.mark.parametrize(
    ("depth", "growth_rate", "blocks", "millions"),
    [
        (56, 12, [4] * 11, 1.4),
        (67, 16, [5] * 11, 3.5),
        (103, 16, [4, 5, 7, 10, 12, 15, 12, 10, 7, 5, 4], 9.4),
    ],
)
def test_parameters_of_the_papers_networks(depth, growth_rate, blocks, millions):
    model = kd.FCDenseNet(depth, input_shape=(None, None, 3))
    trained, by_the_authors = by_hand(growth_rate, blocks)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == trained
    assert round(by_the_authors / 1e6, 1) == millions
    assert model.name == f"fc_densenet{depth}"


def test_maps_of_fc_densenet103():
    """Table 2, from the bottleneck on with the 16 more of the authors' correction."""
    model = kd.FCDenseNet(103, input_shape=(None, None, 3))
    blocks = [model.get_layer(f"dense_block{i}") for i in range(1, 12)]
    maps = [block.output.shape[-1] for block in blocks]
    assert maps == [112, 192, 304, 464, 656, 896, 1088, 816, 576, 384, 256]
    convolutions = [w for w in model.trainable_weights if w.name == "kernel"]
    assert len(convolutions) == 103


@pytest.mark.parametrize("mode", [True, "full"])
def test_memory_modes_are_exact(mode):
    """Loss equal, gradients within 1e-5, dropout and moving statistics the same."""
    images = np.random.default_rng(0).normal(size=(2, 13, 16, 3)).astype("float32")
    labels = np.random.default_rng(1).integers(3, size=(2, 13, 16))
    found = []
    for memory_efficient in (False, mode):
        keras.utils.set_random_seed(3)
        options = {**SMALL, "input_shape": (13, 16, 3)}
        model = kd.FCDenseNet(**options, memory_efficient=memory_efficient)
        # Of plain SGD the new weights are the old ones less the gradients.
        model.compile(keras.optimizers.SGD(1.0), "sparse_categorical_crossentropy")
        loss = float(model.train_on_batch(images, labels))
        found.append((loss, model.get_weights()))
    (loss, weights), (same_loss, same_weights) = found
    assert same_loss == pytest.approx(loss, rel=1e-6)
    for one, other in zip(weights, same_weights, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_every_size_and_rank_keeps_its_size(rank):
    shape = (13, 10, 9)[:rank]
    model = kd.FCDenseNet(**SMALL, input_shape=(*(None,) * rank, 2))
    answers = model.predict(np.ones((1, *shape, 2), "float32"), verbose=0)
    assert answers.shape == (1, *shape, 3)
    np.testing.assert_allclose(answers.sum(-1), 1, rtol=1e-5)


def test_a_saved_network_is_the_same(tmp_path):
    model = of_case("odd", memory_efficient="full")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    images = reference.pictures("odd")
    np.testing.assert_array_equal(loaded(images), model(images))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"depth": 100}, ["56, 67, 103", "depth=100"]),
        ({"depth": 56, "blocks": (2, 3, 2)}, ["depth=56", "blocks=(2, 3, 2)"]),
        ({"blocks": (2, 3)}, ["odd", "blocks=(2, 3)"]),
        ({"blocks": (2,)}, ["odd", "blocks=(2,)"]),
        ({"depth": 56, "input_shape": (31, 64, 3)}, ["32x32", "(31, 64, 3)"]),
        ({"depth": 56, "growth_rate": 0}, ["growth_rate=0"]),
        ({"depth": 56, "classes": 0}, ["classes=0"]),
        ({"depth": 56, "init_features": 0}, ["init_features=0"]),
    ],
)
def test_a_wrong_argument_is_refused(arguments, words):
    with pytest.raises(ValueError) as refused:  # noqa: PT011, the words follow
        kd.FCDenseNet(**arguments)
    for word in words:
        assert word in str(refused.value)
