"""Weights from elsewhere, a new classifier, and what stays as it is."""

import re
import shutil

import h5py
import keras
import numpy as np
import pytest

import keras_densenet as kd
from keras_densenet.data.arrays import Split
from keras_densenet.training import MisconfigurationError, TorchSGD, freeze
from keras_densenet.training.fine_tuning import (
    layer_rates,
    refuse_other_preprocessing,
)
from keras_densenet.weights import WeightsError, preprocessing
from keras_densenet.weights.names import to_pytorch, weights_by_name

SMALL = {"depth": 10, "growth_rate": 4}
QUIET = {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "limit_train_batches": 3,
    "limit_val_batches": 1,
}
TORCHS = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
TORCHS_SHARES = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
DIGITS = ((77.8,) * 3, (95.8,) * 3)


class Odd(kd.data.Digits):
    """The digits, even or odd: other classes of the same pictures."""

    num_classes = 2
    class_names = ("even", "odd")

    def load_splits(self, stage):
        return {
            name: Split(split.images, split.labels % 2)
            for name, split in super().load_splits(stage).items()
        }


def fine_tuning(source, **options):
    return kd.FineTuning(kd.DenseNetBC, weights=source, **SMALL | options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network of ten digits, and its checkpoint."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("ten")
    module = kd.ImageClassifier(kd.DenseNetBC, **SMALL)
    trainer = kd.Trainer(max_epochs=1, default_root_dir=folder, **QUIET)
    trainer.fit(module, datamodule=kd.data.Digits(batch_size=64))
    return module.model, trainer.checkpoint_callback.last_model_path


def by_layer(model):
    return {
        layer.name: [weight.numpy() for weight in layer.weights]
        for layer in model.layers
        if layer.weights
    }


def changed(before, after):
    """Name the layers of which any weight is another, and those of which all are."""
    some, whole = set(), set()
    for name, weights in before.items():
        differ = [
            not np.array_equal(a, b) for a, b in zip(weights, after[name], strict=True)
        ]
        some |= {name} if any(differ) else set()
        whole |= {name} if all(differ) else set()
    return some, whole


LAYERS = [  # of DenseNetBC that have weights, from the pictures on
    "stem_conv",
    "dense_block1",
    "transition1",
    "dense_block2",
    "transition2",
    "dense_block3",
    "final_bn",
    "classifier",
]


@pytest.mark.parametrize(
    ("frozen", "stay", "memory_efficient"),
    [
        (None, 0, False),
        pytest.param("stem_conv", 1, True, marks=pytest.mark.slow),
        pytest.param("dense_block2", 4, False, marks=pytest.mark.slow),
        pytest.param("dense_block2", 4, True, marks=pytest.mark.slow),
        ("dense_block2", 4, "full"),
        ("backbone", 7, "full"),
    ],
)
def test_what_is_frozen_stays_and_the_rest_learns(
    trained, tmp_path, frozen, stay, memory_efficient
):
    model, checkpoint = trained
    source = by_layer(model)
    module = fine_tuning(checkpoint, frozen=frozen, memory_efficient=memory_efficient)
    trainer = kd.Trainer(max_epochs=1, default_root_dir=tmp_path, **QUIET)
    trainer.fit(module, datamodule=Odd(batch_size=64))
    after = by_layer(module.model)
    # Maps: 8, 8 + 4, half of it 6, 6 + 4, half of it 5, 5 + 4.
    assert [weight.shape for weight in after.pop("classifier")] == [(9, 2), (2,)]
    source.pop("classifier")
    some, whole = changed(source, after)
    # Kernels, gammas, betas and moving statistics: all of them, or none.
    assert sorted(some) == sorted(whole) == sorted(LAYERS[stay:-1])
    trainable = module.model.trainable_weights
    assert len(module.model.optimizer.velocities) == len(trainable)


def test_frozen_batch_norms_are_those_of_inference(trained):
    """A picture's features do not depend on what else is in its batch."""
    model, checkpoint = trained
    module = fine_tuning(checkpoint, frozen="dense_block2", memory_efficient=True)
    model = module.configure_model(Odd())
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype("float32")

    def features(images, training):
        until = keras.Model(model.input, model.get_layer("dense_block2").output)
        return np.asarray(until(images, training=training))

    np.testing.assert_array_equal(features(images, True), features(images, False))
    alone = features(images[:1], True)
    np.testing.assert_allclose(features(images, True)[:1], alone, atol=1e-5)


def test_two_phases(trained, tmp_path):
    """The second fit goes on with the weights of the first, and trains all."""
    module = fine_tuning(trained[1], frozen="backbone")
    trainer = kd.Trainer(max_epochs=1, default_root_dir=tmp_path, **QUIET)
    trainer.fit(module, datamodule=Odd(batch_size=64))
    first = by_layer(module.model)
    module.frozen, module.learning_rate = None, 0.0
    trainer.fit(module, datamodule=Odd(batch_size=64))
    second = by_layer(module.model)
    # At a rate of 0 kernels stay what the first phase made of them; BNs do not.
    for name in ("stem_conv", "classifier"):
        for a, b in zip(first[name], second[name], strict=True):
            np.testing.assert_array_equal(a, b)
    assert "dense_block1" in changed(first, second)[0]
    assert len(module.model.trainable_weights) > 2


@pytest.mark.slow
def test_a_run_goes_on_without_the_file_of_its_first_weights(trained, tmp_path):
    first = tmp_path / "first.keras"
    shutil.copy(trained[1], first)
    data = Odd(batch_size=64)
    trainer = kd.Trainer(max_epochs=1, default_root_dir=tmp_path, **QUIET)
    trainer.fit(module := fine_tuning(str(first)), data)
    answers = trainer.predict(module, data)
    first.unlink()
    checkpoint = trainer.checkpoint_callback.last_model_path
    again = fine_tuning(str(first))
    np.testing.assert_array_equal(trainer.predict(again, data, checkpoint), answers)
    longer = kd.Trainer(max_epochs=2, default_root_dir=tmp_path, **QUIET)
    history = longer.fit(fine_tuning(str(first)), data, ckpt_path=checkpoint)
    assert history.epoch == [1]
    # Where there is no checkpoint either, no random weights are gone on with.
    lost = fine_tuning(str(first))
    for call in (longer.fit, longer.predict):
        with pytest.raises(MisconfigurationError, match="no checkpoint"):
            call(lost, data, ckpt_path=tmp_path / "none.keras")
        assert lost.model is None
    with pytest.raises(FileNotFoundError, match="There is no file"):
        longer.fit(lost, data)


def test_a_network_that_loads_weights_itself_need_not_for_a_checkpoint():
    asked = []

    def network(classes, input_shape, weights):
        asked.append(weights)
        return keras.Sequential([keras.Input(input_shape)])

    module = kd.ImageClassifier(network, weights="gone.pth")
    module.configure_model(Odd())
    module.from_checkpoint = True
    module.configure_model(Odd())
    assert asked == ["gone.pth", None]


@pytest.mark.parametrize("last", ["stem_conv", "dense_block1", "transition1"])
def test_a_file_keeps_what_is_frozen(tmp_path, last):
    model = kd.DenseNetBC(10, 4)
    freeze(model, last)
    model.save(tmp_path / "frozen.keras")
    copies = (
        keras.saving.load_model(tmp_path / "frozen.keras"),
        keras.models.clone_model(model),
    )
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype("float32")
    for copy in copies:
        ours, theirs = ([w.path for w in m.trainable_weights] for m in (model, copy))
        assert theirs == ours
        maps = keras.Model(copy.input, copy.get_layer(last).output)
        in_training = np.asarray(maps(images, training=True))
        np.testing.assert_array_equal(in_training, maps(images, training=False))


def test_rates_of_layers_by_hand():
    model = kd.DenseNetBC(10, 4)
    assert layer_rates(model, 0.5) == {
        "classifier": 1,
        "final_bn": 1 / 2,
        "dense_block3": 1 / 4,
        "transition2": 1 / 8,
        "dense_block2": 1 / 16,
        "transition1": 1 / 32,
        "dense_block1": 1 / 64,
        "stem_conv": 1 / 128,
    }


def test_a_step_with_rates_of_layers():
    # rate 0.1, no momentum and decay, gradient 1: steps of 0.1, 0.05 and 0.1.
    model = keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Dense(1, use_bias=False, name="early"),
            keras.layers.Dense(1, name="late"),
        ]
    )
    rates = {"early": 0.5}
    optimizer = TorchSGD(0.1, 0.0, weight_decay=0.0, layer_rates=rates)
    before = [weight.numpy() for weight in model.trainable_weights]
    ones = [keras.ops.ones(weight.shape) for weight in model.trainable_weights]
    optimizer.apply(ones, model.trainable_weights)
    steps = [
        float(np.sum(old - new.numpy()))
        for old, new in zip(before, model.trainable_weights, strict=True)
    ]
    assert steps == pytest.approx([0.05, 0.1, 0.1], abs=1e-6)
    again = TorchSGD.from_config(optimizer.get_config())
    assert again.layer_rates == rates


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"frozen": "dense_block9"}, "before the last one .* dense_block1"),
        ({"frozen": "classifier"}, "before the last one"),
        ({"frozen": "global_average_pool"}, None),
        ({"layer_decay": 0.0}, "layer_decay is in"),
        ({"layer_decay": 1.5}, "layer_decay is in"),
    ],
)
def test_what_cannot_be_frozen(trained, options, says):
    def make():
        return fine_tuning(trained[1], **options).configure_model(Odd())

    if says is None:  # a layer without weights, before the classifier
        assert len(make().trainable_weights) == 2
        return
    with pytest.raises(MisconfigurationError, match=says):
        make()


def test_your_own_model_is_frozen():
    model = kd.DenseNetBC(10, 4)
    freeze(model, "transition1")
    assert not model.get_layer("dense_block1").trainable
    assert model.get_layer("dense_block2").trainable
    freeze(model, None)
    assert all(layer.trainable for layer in model.layers)


# --- what pictures were standardized with --------------------------------------------


def test_a_checkpoint_says_what_pictures_were_standardized_with(trained):
    assert preprocessing(trained[1]) == DIGITS


def test_other_standardization_is_refused_with_what_to_write(trained, tmp_path):
    data = Odd(batch_size=64, mean=(125.3, 123.0, 113.9))
    trainer = kd.Trainer(max_epochs=1, default_root_dir=tmp_path, **QUIET)
    with pytest.raises(MisconfigurationError, match=re.escape("(77.8, 77.8, 77.8)")):
        trainer.fit(fine_tuning(trained[1]), datamodule=data)


@pytest.mark.slow
def test_what_a_source_says(trained, tmp_path):
    model = trained[0]
    large = kd.DenseNet121(classes=3, input_shape=(32, 32, 3))
    of_large = kd.weights.save(large, tmp_path / "large.safetensors")
    assert preprocessing("imagenet") == TORCHS
    assert preprocessing(of_large) == TORCHS  # a network for ImageNet's pictures
    for suffix in (".pth", ".safetensors"):  # which says nothing of small ones
        saved = kd.weights.save(model, tmp_path / f"small{suffix}")
        assert preprocessing(saved) is None
    theirs = keras.applications.DenseNet121(
        weights=None, include_top=False, input_shape=(32, 32, 3)
    )
    assert preprocessing(theirs) == TORCHS
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    assert preprocessing(tmp_path / "theirs.weights.h5") == TORCHS
    model.save_weights(tmp_path / "ours.weights.h5")
    assert preprocessing(tmp_path / "ours.weights.h5") is None
    model.save(tmp_path / "plain.keras")
    assert preprocessing(tmp_path / "plain.keras") is None
    assert preprocessing(model) is None


@pytest.mark.parametrize("name", ["a.keras", "a.h5", "a.pth", "a.safetensors", "a.txt"])
def test_what_says_nothing_is_refused(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="no file"):
        preprocessing(tmp_path / name)
    (tmp_path / name).write_bytes(b"something else" * 9)
    with pytest.raises(WeightsError, match=name):
        preprocessing(tmp_path / name)


def test_an_empty_h5_file_is_no_weights(tmp_path):
    h5py.File(tmp_path / "a.h5", "w").close()
    with pytest.raises(WeightsError, match=re.escape("a.h5")):
        kd.weights.load(kd.DenseNetBC(10, 4), tmp_path / "a.h5")


@pytest.mark.parametrize("name", ["a.keras", "a.weights.h5"])
def test_a_file_with_other_bytes_within_is_refused(trained, tmp_path, name):
    model = trained[0]
    (model.save if name == "a.keras" else model.save_weights)(tmp_path / name)
    content = bytearray((tmp_path / name).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(
        byte ^ 255 for byte in content[middle : middle + 2000]
    )
    (tmp_path / name).write_bytes(content)
    before = by_layer(model)
    with pytest.raises(WeightsError, match=name):
        kd.weights.load(model, tmp_path / name)
    assert changed(before, by_layer(model)) == (set(), set())


def test_models_of_something_else_are_refused(trained):
    model = trained[0]
    layers = [keras.layers.Dense(2, use_bias=False) for _ in model.weights]
    other = keras.Sequential([keras.Input((2,)), *layers])
    assert len(other.weights) == len(model.weights)
    with pytest.raises(WeightsError, match="of another network"):
        kd.weights.load(model, other)
    with pytest.raises(WeightsError, match="of no DenseNet"):
        preprocessing(other)
    for nothing in (None, 3):
        with pytest.raises(WeightsError, match="Received"):
            kd.weights.load(model, nothing)


def test_several_labels_from_weights_of_one_channel(tmp_path):
    """As torchxrayvision's are: by PyTorch's names, with thresholds beside them."""
    shape = {"blocks": (1, 2), "growth_rate": 4, "bottleneck": True, "stem": "imagenet"}
    theirs = kd.DenseNet(
        **shape, classes=18, input_shape=(32, 32, 1), classifier_activation=None
    )
    state = {
        weight.name: np.ascontiguousarray(to_pytorch(weight.variable.numpy()))
        for weight in weights_by_name(theirs)
    } | {"op_threshs": np.full(18, 0.5)}
    numbers = preprocessing(state)._asdict()
    data = kd.data.DigitMosaics(batch_size=64, seed=0, unknown=0.3, **numbers)
    module = kd.FineTuning(
        kd.DenseNet, weights=state, frozen="dense_block1", layer_decay=0.5, **shape
    )
    trainer = kd.Trainer(max_epochs=1, default_root_dir=tmp_path, **QUIET)
    trainer.fit(module, datamodule=data)
    model = module.model
    assert model.output_shape == (None, 10)
    assert model.layers[-1].activation is keras.activations.sigmoid
    some, _ = changed(by_layer(theirs), by_layer(model))
    assert "stem_conv" not in some
    assert "dense_block1" not in some
    assert "dense_block2" in some
    assert list(module._layer_rates.values())[:3] == [1.0, 0.5, 0.25]  # from the end
    assert "val_auroc" in trainer.checkpoint_callback.best_model_path


def test_standardization_within_rounding_is_the_same():
    by_255 = [[255 * value for value in values] for values in TORCHS_SHARES]
    refuse_other_preprocessing("imagenet", Odd(mean=by_255[0], std=by_255[1]))
    with pytest.raises(MisconfigurationError, match=re.escape("123.675")):
        refuse_other_preprocessing("imagenet", Odd())


@pytest.mark.slow
def test_a_second_fit_needs_no_source(trained, tmp_path):
    source = tmp_path / "source.keras"
    trained[0].save(source)
    module = fine_tuning(source, frozen="backbone")
    trainer = kd.Trainer(max_epochs=1, default_root_dir=tmp_path, **QUIET)
    trainer.fit(module, datamodule=Odd(batch_size=64))
    source.unlink()
    module.frozen = None
    trainer.fit(module, datamodule=Odd(batch_size=64))
    module.layer_decay = 0
    with pytest.raises(MisconfigurationError, match="layer_decay is in"):
        trainer.fit(module, datamodule=Odd(batch_size=64))
    module.layer_decay = 1
    with pytest.raises(MisconfigurationError, match="was fitted before"):
        trainer.fit(module, datamodule=kd.data.Digits(batch_size=64))


def test_resuming_with_other_standardization_is_refused(trained, tmp_path):
    trainer = kd.Trainer(max_epochs=1, default_root_dir=tmp_path, **QUIET)
    trainer.fit(fine_tuning(None), datamodule=Odd(batch_size=64))
    again = kd.Trainer(max_epochs=2, default_root_dir=tmp_path, **QUIET)
    other = Odd(batch_size=64, mean=(0.0, 0.0, 0.0))
    with pytest.raises(MisconfigurationError, match="standardized"):
        again.fit(fine_tuning(None), datamodule=other, ckpt_path="last")


def test_another_network_is_refused(trained):
    module = kd.FineTuning(kd.DenseNetBC, weights=trained[1], depth=16, growth_rate=4)
    with pytest.raises(WeightsError, match="another network"):
        module.configure_model(Odd())


def test_weights_of_pictures_are_made_those_of_volumes(trained, tmp_path):
    """A gray voxel reads the sum of three colors' kernels, a third in each slice."""
    model, source = trained
    module = fine_tuning(source, inflate=True)
    made = module.configure_model(kd.data.DigitVolumes(2))
    assert made.input_shape == (None, 16, 16, 16, 1)
    flat = model.get_layer("stem_conv").kernel.numpy().sum(axis=2, keepdims=True)
    for slice_ in made.get_layer("stem_conv").kernel.numpy():
        np.testing.assert_allclose(slice_, flat / 3, atol=1e-6)
    data = kd.data.DigitVolumes(2, mean=DIGITS[0][:1], std=DIGITS[1][:1])
    with pytest.raises(WeightsError, match=r"inflate=True, of .*load or FineTuning"):
        fine_tuning(source).configure_model(data)
