"""What a file of weights is said to be, and whether the line that it says loads it."""

import re

import numpy as np
import pytest
import pytorch_answers as pytorch

import keras_densenet
import keras_densenet as kd
from keras_densenet.weights import WeightsError
from keras_densenet.weights.__main__ import main
from keras_densenet.weights.architecture import (
    Architecture,
    architecture_of,
    variant_of,
)
from keras_densenet.weights.describing import described
from keras_densenet.weights.names import weights_by_name
from keras_densenet.weights.sources import network_of


def random_weights(model, beginning=""):
    return {
        beginning + w.name: pytorch.weight(w.name, w.shape)
        for w in weights_by_name(model)
    }


@pytest.mark.parametrize(
    ("blocks", "k", "name"),
    [
        ((6, 12, 24, 16), 32, "DenseNet121"),
        ((6, 12, 36, 24), 48, "DenseNet161"),
        ((6, 12, 32, 32), 32, "DenseNet169"),
        ((6, 12, 48, 32), 32, "DenseNet201"),
        ((6, 12, 64, 48), 32, "DenseNet264"),
        ((6, 12, 48, 48), 48, "DenseNet232k48"),
        ((6, 12, 64, 48), 48, "DenseNet264k48"),
    ],
)
def test_the_variants_of_the_paper(blocks, k, name):
    paper = Architecture(blocks, k, 4, 0.5, 2 * k, "imagenet", 3, 2, 1000)
    assert variant_of(paper) == (name, {})
    for other in (
        paper._replace(bn_size=2),
        paper._replace(compression=1.0),
        paper._replace(init_features=16),
        paper._replace(stem="small"),
    ):
        assert variant_of(other)[0] == "DenseNet"


NETWORKS = {
    "DenseNet": {"depth": 10, "growth_rate": 5},
    "DenseNetBC": {"depth": 16, "growth_rate": 6},
    "DenseNet ": {
        "blocks": (2, 3),
        "growth_rate": 8,
        "bottleneck": True,
        "bn_size": 2,
        "compression": 0.5,
        "stem": "imagenet",
        "init_features": 10,
    },
    "DenseNet  ": {  # (33 + 24) / 2 maps are 28: 0.49 of them would be 27
        "blocks": (2, 3),
        "growth_rate": 12,
        "bottleneck": True,
        "bn_size": 1,
        "compression": 0.5,
        "stem": "imagenet",
        "init_features": 33,
    },
    "DenseNet   ": {"depth": 10, "growth_rate": 64, "compression": 0.125},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_line_loads_the_file(tmp_path, name):
    options = NETWORKS[name]
    network = getattr(kd, name.strip())(**options, classes=4, input_shape=(32, 32, 1))
    kd.weights.load(network, random_weights(network))
    path = kd.weights.save(network, tmp_path / "file.pth")
    facts = described(path)
    assert facts["input channels"] == "1"
    assert facts["outputs"] == "4"
    again = eval(facts["load it with"], {"keras_densenet": keras_densenet})
    assert again.output_shape == (None, 4)
    for one, other in zip(network.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_printed_of_a_checkpoint(tmp_path, capsys):
    network = kd.DenseNetBC(10, 4, classes=14, input_shape=(8, 8, 3))
    state = random_weights(network, "module.densenet121.")
    state["module.densenet121.features.norm5.num_batches_tracked"] = np.zeros(())
    checkpoint = {"epoch": 3, "state_dict": state}
    kd.weights.describe(checkpoint)
    printed = " ".join(capsys.readouterr().out.split())
    for words in (
        "a state dict",
        "DenseNetBC-10-4: blocks of 1, 1, 1 dense layers, k = 4, bottlenecks of 4 k",
        "outputs 14",
        "weights of PyTorch",
        "found at state_dict: module.densenet121.features.",
        "left out features.norm5.num_batches_tracked",
        "preprocessing not known: the file does not say",
        "keras_densenet.DenseNetBC(depth=10, growth_rate=4, compression=0.5, "
        "weights=source, classes=14, input_shape=(32, 32, 3))",
    ):
        assert words in printed


def test_the_command_line(tmp_path, capsys):
    network = kd.DenseNetBC(10, 4, input_shape=(8, 8, 3))
    path = kd.weights.save(network, tmp_path / "mine.pth")
    main(["describe", str(path)])
    assert "DenseNetBC-10-4" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"error: There is no file.*none\.pth"):
        main(["describe", str(tmp_path / "none.pth")])


def test_a_network_without_a_classifier_and_one_with_a_larger_head():
    network = kd.DenseNetBC(10, 4, input_shape=(8, 8, 3))
    state = random_weights(network)
    head = {n: state.pop(n) for n in ("classifier.weight", "classifier.bias")}
    assert described(state)["outputs"] == "no classifier"
    assert "include_top=False" in described(state)["load it with"]
    hidden = {"classifier.0.weight": np.eye(9), "classifier.0.bias": np.zeros(9)}
    last = {n.replace(".", ".2."): array for n, array in head.items()}
    facts = described(state | hidden | last)
    assert facts["outputs"].startswith("a head of other layers: classifier.0.weight")
    assert "include_top=False" in facts["load it with"]


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s | {"decoder.weight": np.zeros((4, 9, 3, 3))},
        lambda s: {n: a for n, a in s.items() if n != "classifier.bias"},
    ],
)
def test_the_line_of_a_head_that_is_not_ours_loads_the_rest(change):
    network = kd.DenseNetBC(10, 4, input_shape=(8, 8, 3))
    source = change(random_weights(network))
    facts = described(source)
    assert facts["outputs"].startswith("a head of other layers: classifier.")
    again = eval(facts["load it with"], {"keras_densenet": kd, "source": source})
    assert again.output_shape == (None, 8, 8, 9)  # (8 + 4) / 2 + 4 = 10, 10 / 2 + 4


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda s: {n: a for n, a in s.items() if "running" not in n},  # GroupNorm
            "features.denseblock1.denselayer1.norm1.running_mean is missing",
        ),
        (
            lambda s: s | {"features.relu0.weight": np.zeros(1)},  # PReLU
            "features.relu0.weight is of no layer that a DenseNet has",
        ),
        (
            lambda s: {n: a[..., None] if a.ndim > 2 else a for n, a in s.items()},
            "features.conv0.weight is (3, 3, 1, 3, 8), not (3, 3, 3, 3, 8)",  # no cube
        ),
        (
            lambda s: s | {"features.conv0.weight": np.zeros((8, 3, 5, 5))},
            "its first convolution is 5x5, and not 7x7 or 3x3",
        ),
        (
            lambda s: {n: a for n, a in s.items() if "layer1.conv1" not in n},
            "features.denseblock1.denselayer1.conv1.weight is missing",
        ),
        (
            lambda s: {
                n: a[:, 1:] if n.endswith("denseblock2.denselayer1.conv1.weight") else a
                for n, a in s.items()
            },
            "denseblock2.denselayer1.conv1.weight does not read 6 maps",
        ),
    ],
)
def test_what_is_no_densenet_is_not_called_one(change, says):
    network = kd.DenseNetBC(10, 4, input_shape=(8, 8, 3))
    arrays = network_of(change(random_weights(network))).arrays
    with pytest.raises(WeightsError, match=re.escape(says)):
        architecture_of(arrays)
