"""What is known of the pictures that weights were trained with, and what is guessed."""

import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import pytorch_answers as pytorch

import keras_densenet as kd
from keras_densenet.training import MisconfigurationError
from keras_densenet.training.fine_tuning import refuse_other_preprocessing
from keras_densenet.weights import (
    GuessedPreprocessing,
    WeightsError,
    preprocessing,
    sources,
)
from keras_densenet.weights.names import weights_by_name
from keras_densenet.weights.state_dict import StateDict

# 255 times torchvision's (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225).
TORCHS = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
GRAY = ((114.495,), (57.63,))  # their means: (123.675 + 116.28 + 103.53) / 3, ...


def imagenet_network(channels=3):
    """A state dict with the stem for ImageNet's pictures, of one layer a block."""
    network = kd.DenseNet(
        blocks=(1, 1),
        growth_rate=4,
        bottleneck=True,
        stem="imagenet",
        input_shape=(32, 32, channels),
    )
    return {w.name: pytorch.weight(w.name, w.shape) for w in weights_by_name(network)}


def data(mean, std, channels=3):
    return SimpleNamespace(mean=mean, std=std, input_shape=(32, 32, channels))


def is_guess(answer):
    return isinstance(answer, GuessedPreprocessing)


def test_imagenet_is_known():
    assert preprocessing("imagenet") == TORCHS
    assert not is_guess(preprocessing("imagenet"))
    with pytest.raises(MisconfigurationError, match=re.escape("mean=(123.675")):
        refuse_other_preprocessing("imagenet", data((0.0,) * 3, (1.0,) * 3))


def test_torchxrayvision_is_known_by_its_thresholds():
    """It scales pictures to -1024..1024: (0 - 127.5) / (127.5 / 1024) = -1024."""
    state = imagenet_network(channels=1) | {"op_threshs": np.full(10, 0.5)}
    mean, std = known = preprocessing(state)
    assert [(pixel - mean[0]) / std[0] for pixel in (0, 255)] == [-1024, 1024]
    assert not is_guess(known)
    with pytest.raises(MisconfigurationError, match=re.escape("mean=(127.5,)")):
        refuse_other_preprocessing(state, data((114.495,), (57.63,), channels=1))
    refuse_other_preprocessing(state, data(*known, channels=1))


@pytest.mark.parametrize(
    ("class_name", "library"),
    [
        ("torchxrayvision.models.DenseNet", "torchxrayvision"),
        # Of other authors: it scales to -2..2 before its DenseNet.
        ("torchxrayvision.baseline_models.jfhealthcare.DenseNet", "PyTorch"),
    ],
)
def test_torchxrayvision_is_known_by_the_class_of_its_own(
    monkeypatch, class_name, library
):
    state = StateDict(imagenet_network(channels=1), [], class_name=class_name)
    monkeypatch.setattr(sources, "of_pytorch", lambda _: state)
    assert sources.network_of({}).library == library
    assert (preprocessing({}) is None) == (library == "PyTorch")


def test_an_export_says_it(tmp_path):
    version = tmp_path / "1"
    (version / "assets.extra").mkdir(parents=True)
    facts = version / "assets.extra" / "export.json"
    facts.write_text('{"preprocessing": {"mean": [1.5], "std": [2.5], "channels": ""}}')
    assert preprocessing(version) == ((1.5,), (2.5,))
    assert not is_guess(preprocessing(version))
    facts.write_text("{}")
    with pytest.raises(WeightsError, match=r"export\.json is damaged"):
        preprocessing(version)


def test_a_guess_is_called_one_and_the_users_values_win(tmp_path, capsys):
    state = imagenet_network()
    assert preprocessing(state) == TORCHS
    assert is_guess(preprocessing(state))
    refuse_other_preprocessing(state, data(*TORCHS))
    assert "are a guess." in " ".join(capsys.readouterr().err.split())
    theirs = data((127.5,) * 3, (127.5,) * 3)  # RadImageNet's
    refuse_other_preprocessing(state, theirs)
    said = " ".join(capsys.readouterr().err.split())
    assert "would be a guess, and those of SimpleNamespace are used." in said
    refuse_other_preprocessing(state, SimpleNamespace(input_shape=(32, 32, 3)))


def test_of_other_networks_nothing_is_known(tmp_path, capsys):
    assert preprocessing(imagenet_network(channels=1)) is None  # such as MONAI's
    small = kd.DenseNetBC(10, 4)
    assert preprocessing(small) is None
    small.save(tmp_path / "small.keras")
    assert preprocessing(tmp_path / "small.keras") is None
    refuse_other_preprocessing(small, data((1.0,) * 3, (2.0,) * 3))
    said = capsys.readouterr().err
    assert "are not known: those of SimpleNamespace are used.\n" in said


def test_a_model_of_keras_applications_is_a_guess():
    """It may have been trained on other pictures since."""
    from keras.src.applications.densenet import DenseNet

    theirs = DenseNet([1, 1, 1, 1], weights=None, input_shape=(32, 32, 3))
    assert preprocessing(theirs) == TORCHS
    assert is_guess(preprocessing(theirs))
    assert isinstance(theirs, keras.Model)


@pytest.mark.parametrize(
    ("channels", "mean"),
    [
        (3, (123.675, 116.28, 103.53)),
        (1, (114.495,)),
        (2, (114.495, 114.495)),
        (4, (123.675, 116.28, 103.53, 114.495)),
    ],
)
def test_other_channels_have_their_mean_as_a_guess(channels, mean):
    known = preprocessing("imagenet", channels=channels)
    assert known.mean == pytest.approx(mean)
    assert len(known.std) == channels
    assert is_guess(known) == (channels != 3)


def test_gray_pictures_may_be_standardized_otherwise(capsys):
    refuse_other_preprocessing("imagenet", data(*GRAY, channels=1))
    assert "are a guess." in " ".join(capsys.readouterr().err.split())
    refuse_other_preprocessing("imagenet", data((127.5,), (127.5,), channels=1))
    assert "are used." in " ".join(capsys.readouterr().err.split())
