"""How data sets are called, and that they are objects like any other."""

import copy
import inspect
import random
import re
from dataclasses import KW_ONLY, dataclass

import cloudpickle
import numpy as np
import pytest
import yaml
from PIL import Image

import keras_densenet as kd
from keras_densenet.training.run_config import write_config

# What can be typed, by hand: Python takes two signatures for the same if all names,
# kinds and defaults are, and the order of all that may be given by its place.


def arrays(
    batch_size=64,
    *,
    augment=True,
    mirror=True,
    shift=4,
    crop=None,
    seed=None,
    mean=None,
    std=None,
    strong=None,
): ...


def digits(
    batch_size=64,
    *,
    augment=True,
    mirror=False,
    shift=4,
    crop=None,
    seed=None,
    mean=None,
    std=None,
    strong=None,
): ...


def digit_mosaics(
    batch_size=64,
    *,
    unknown=0.0,
    augment=True,
    mirror=False,
    shift=4,
    crop=None,
    seed=None,
    mean=None,
    std=None,
    strong=None,
): ...


def cifar(
    batch_size=64,
    data_dir=None,
    *,
    manual_dir=None,
    download=True,
    validation_size=5_000,
    augment=True,
    mirror=True,
    shift=4,
    crop=None,
    seed=None,
    mean=None,
    std=None,
    strong=None,
): ...


def svhn(
    batch_size=64,
    data_dir=None,
    *,
    manual_dir=None,
    download=True,
    validation_size=6_000,
    augment=False,
    mirror=False,
    shift=4,
    crop=None,
    seed=None,
    mean=None,
    std=None,
    strong=None,
): ...


def pictures(
    batch_size,
    image_size=224,
    *,
    augment=True,
    mirror=True,
    fit=None,
    jitter=0.0,
    lighting=0.0,
    method="bicubic",
    seed=None,
    mean=None,
    std=None,
    strong=None,
): ...


def image_folder(
    root,
    batch_size=32,
    image_size=224,
    *,
    channels=3,
    validation_fraction=0.1,
    test_fraction=0.0,
    group=None,
    balanced=False,
    check_files=True,
    on_error="raise",
    augment=True,
    mirror=True,
    fit=None,
    jitter=0.0,
    lighting=0.0,
    method="bicubic",
    seed=None,
    mean=None,
    std=None,
    strong=None,
): ...


def image_table(
    table,
    batch_size=32,
    image_size=224,
    *,
    images=".",
    file="file",
    labels="label",
    separator=None,
    none=None,
    uncertain="mask",
    blank="mask",
    classes=None,
    split=None,
    channels=3,
    validation_fraction=0.1,
    test_fraction=0.0,
    group=None,
    balanced=False,
    check_files=True,
    on_error="raise",
    augment=True,
    mirror=True,
    fit=None,
    jitter=0.0,
    lighting=0.0,
    method="bicubic",
    seed=None,
    mean=None,
    std=None,
    strong=None,
): ...


def imagenet(
    batch_size=256,
    data_dir=None,
    *,
    folder=None,
    manual_dir=None,
    image_size=224,
    shuffle_buffer=10_000,
    check_files=False,
    on_error="raise",
    augment=True,
    mirror=True,
    fit=None,
    jitter=0.4,
    lighting=0.1,
    method="bicubic",
    seed=None,
    mean=None,
    std=None,
    strong=None,
): ...


CALLED = {
    kd.data.ArrayDataModule: arrays,
    kd.data.Digits: digits,
    kd.data.DigitMosaics: digit_mosaics,
    kd.data.CIFAR10: cifar,
    kd.data.CIFAR100: cifar,
    kd.data.SVHN: svhn,
    kd.data.PictureDataModule: pictures,
    kd.data.ImageFolder: image_folder,
    kd.data.ImageTable: image_table,
    kd.data.ImageNet: imagenet,
}


@pytest.mark.parametrize("data_set", CALLED, ids=lambda data_set: data_set.__name__)
def test_data_sets_are_called_as_ever(data_set):
    parameters = inspect.signature(data_set).parameters.values()
    plain = [p.replace(annotation=p.empty) for p in parameters]
    assert inspect.Signature(plain) == inspect.signature(CALLED[data_set])


@pytest.mark.parametrize("data_set", CALLED, ids=lambda data_set: data_set.__name__)
def test_each_argument_is_documented(data_set):
    docs = "\n".join(parent.__doc__ or "" for parent in data_set.__mro__)
    for name in inspect.signature(data_set).parameters:
        assert re.search(rf"^ +{name}: [A-Z]|^ +{name}: \"", docs, re.M), name


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "val"):
        for label in ("a", "b"):
            (tmp_path / split / label).mkdir(parents=True)
            picture = Image.new("RGB", (20, 20))
            picture.save(tmp_path / split / label / f"{split}.png")
    return tmp_path


@pytest.fixture(params=["Digits", "CIFAR10", "ImageFolder", "ImageNet"])
def data(request, folder):
    files = {"ImageFolder": {"root": folder}, "ImageNet": {"folder": folder}}
    return getattr(kd.data, request.param)(
        batch_size=2, seed=7, **files.get(request.param, {})
    )


def test_each_is_itself_alone(data):
    other = copy.copy(data)
    assert data == data
    assert data != other
    assert len({data, other}) == 2  # they can be hashed
    assert "seed" not in repr(data)


def test_a_copy_is_changed_alone(data):
    other = copy.copy(data)
    other.batch_size = 1
    other.load_state_dict({"seed": 8})
    assert (data.batch_size, data.seed) == (2, 7)
    assert (other.batch_size, other.seed) == (1, 8)


def test_they_can_be_pickled(data):
    loaded = cloudpickle.loads(cloudpickle.dumps(data))
    assert type(loaded) is type(data)
    assert {k: v for k, v in vars(loaded).items() if k[0] != "_"} == {
        k: v for k, v in vars(data).items() if k[0] != "_"
    }


def test_what_is_not_given_is_the_classs_own():
    data = kd.data.Digits(std=[1, 2, 3])
    assert {"mean", "strong"}.isdisjoint(vars(data))
    assert (data.mean, data.std) == ((77.8, 77.8, 77.8), (1, 2, 3))
    assert data.strong is None


class Tiny(kd.data.ArrayDataModule):
    num_classes, input_shape, class_names = 2, (4, 4, 1), ("a", "b")
    mean, std = (1.0,), (2.0,)

    def load_splits(self, stage):
        pictures = np.zeros((2, *self.input_shape), "uint8")
        split = kd.data.Split(pictures, np.array([0, 1]))
        return {"train": split, "val": split, "test": split}


class Plain(Tiny):
    """Has an `__init__` of its own."""

    def __init__(self, side, batch_size=2):
        self.input_shape = (side, side, 1)
        super().__init__(batch_size, seed=3)


@dataclass(eq=False, repr=False)
class WithAnOption(Tiny):
    """Says its option as the package's own data sets do."""

    batch_size: int = 2
    _: KW_ONLY
    side: int = 4

    def __post_init__(self):
        super().__post_init__()
        self.input_shape = (self.side, self.side, 1)


@pytest.mark.parametrize(
    ("made", "side"),
    [
        (lambda: Tiny(2), 4),
        (lambda: Plain(5), 5),
        (lambda: WithAnOption(2, side=6, augment=False), 6),
    ],
)
def test_your_own(made, side):
    data = cloudpickle.loads(cloudpickle.dumps(made()))
    data.setup("fit")
    ((images, _),) = data.train_dataset()
    assert images.shape == (2, side, side, 1)


def test_whether_it_is_mirrored_is_an_option_and_no_attribute_of_the_class():
    with pytest.raises(TypeError, match=r"Old.mirrors would not be read: .*mirror: "):
        type("Old", (Tiny,), {"mirrors": False})


def test_without_mean_it_says_what_to_do():
    nothing = type("Nothing", (Tiny,), {"mean": None})
    with pytest.raises(TypeError, match=r"Nothing has no mean.*Give its class both"):
        nothing()


# Options of a run's config.yaml, by hand, but for those of the network.
WRITTEN = {
    "cifar": (
        lambda folder: kd.data.CIFAR10(32, "there", augment=False, mean=(1, 2, 3)),
        "keras_densenet.data.cifar.CIFAR10",
        {
            "batch_size": 32,
            "data_dir": "there",
            "manual_dir": None,
            "download": True,
            "validation_size": 5_000,
            "augment": False,
            "mirror": True,
            "shift": 4,
            "crop": None,
            "mean": [1, 2, 3],
        },
    ),
    "imagenet": (
        lambda folder: kd.data.ImageNet(2, folder=folder, image_size=8),
        "keras_densenet.data.imagenet.ImageNet",
        {
            "batch_size": 2,
            "data_dir": None,
            "folder": "FOLDER",
            "manual_dir": None,
            "image_size": 8,
            "shuffle_buffer": 10_000,
            "check_files": False,
            "on_error": "raise",
            "augment": True,
            "mirror": True,
            "fit": None,
            "jitter": 0.4,
            "lighting": 0.1,
            "method": "bicubic",
        },
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_runs_config_has_what_was_given_and_the_seed(name, folder, monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    make, class_path, options = WRITTEN[name]
    random.seed(5)
    data = make(folder)
    random.seed(5)
    options = options | {"seed": random.randrange(2**31)}
    if "folder" in options:
        options["folder"] = str(folder)
    module = kd.ImageClassifier(kd.DenseNetBC, depth=10, growth_rate=4)
    write_config(folder / "config.yaml", kd.training.Flags(), module, data, "run")
    written = yaml.safe_load((folder / "config.yaml").read_text())["data"]
    assert written == {"class_path": class_path, "init_args": options}
    made = type(data)(**written["init_args"])
    assert made.state_dict() == data.state_dict()
    assert made.class_names == data.class_names


def test_imagenet_is_one_class_wherever_its_pictures_are(folder, tmp_path):
    for data in (kd.data.ImageNet(folder=folder), kd.data.ImageNet(2, tmp_path / "x")):
        assert type(data) is kd.data.ImageNet
        assert data.title == "ImageNet"


class Grays(kd.data.ArrayDataModule):
    num_classes, input_shape, class_names, title = 2, (2, 2, 1), ("a", "b"), "grays"
    mean, std = (1.0,), (1.0,)

    def load_splits(self, stage):
        return {}


def test_a_mean_that_is_set_before_init_stays():
    class Measured(Grays):
        def __init__(self):
            self.mean, self.std = (9.0,), (3.0,)
            super().__init__(4)

    class Property(Grays):
        @property
        def mean(self):
            return (5.0,)

    measured, derived = Measured(), Property(4)
    assert (measured.mean, measured.std) == ((9.0,), (3.0,))
    assert (derived.mean, derived.std) == ((5.0,), (1.0,))
    assert Grays(4, mean=[7]).mean == (7,)
    assert Grays(4).mean == (1.0,)
