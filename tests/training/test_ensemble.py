"""Several networks as one."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_densenet as kd
from keras_densenet.model_output import output_of
from keras_densenet.training import MisconfigurationError

SHAPE = (8, 8, 1)
QUIET = {"enable_progress_bar": False, "enable_model_summary": False}


def network(activation="sigmoid", classes=3, seed=0, shape=SHAPE):
    keras.utils.set_random_seed(seed)
    return kd.DenseNetBC(
        10, 4, classes=classes, input_shape=shape, classifier_activation=activation
    )


def pictures(many=5):
    rng = np.random.default_rng(0)
    return rng.normal(size=(many, *SHAPE)).astype("float32")


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_it_answers_the_mean_of_its_members_probabilities(activation):
    members = [network(activation, seed=seed) for seed in range(3)]
    names = [member.name for member in members]
    whole = kd.ensemble(members)
    answers = [member(pictures(), training=False) for member in members]
    found = whole(pictures(), training=False)
    np.testing.assert_allclose(found, np.mean(answers, axis=0), atol=1e-6)
    assert output_of(whole).kind == activation
    assert [member.name for member in members] == names
    members[0].weights[0].assign_add(np.ones(members[0].weights[0].shape))
    np.testing.assert_array_equal(whole(pictures(), training=False), found)


def test_logits_become_probabilities_before_they_are_averaged():
    members = [network(None, seed=1), network("softmax", seed=2)]
    logits = members[0](pictures(), training=False)
    expected = tf.nn.softmax(logits) + members[1](pictures(), training=False)
    found = kd.ensemble(members)(pictures(), training=False)
    np.testing.assert_allclose(found, expected / 2, atol=1e-6)


@pytest.mark.parametrize(("activation", "units"), [("softmax", 2000), ("sigmoid", 1)])
def test_what_is_all_but_0_or_1_is_averaged_as_well(activation, units):
    """Of a softmax over many classes most are less likely than 1e-7."""
    members = []
    for seed in range(2):
        sharp = keras.initializers.RandomNormal(stddev=6.0, seed=seed)
        dense = keras.layers.Dense(units, activation, kernel_initializer=sharp)
        layers = [keras.Input(SHAPE), keras.layers.Flatten(), dense]
        members.append(keras.Sequential(layers))
    expected = np.mean([member(pictures()) for member in members], axis=0)
    found = kd.ensemble(members)(pictures())
    np.testing.assert_allclose(found, expected, atol=1e-6)


class Blocks(kd.data.Arrays):
    """Pictures of 8x8 of three classes, standardized as is said."""

    def __init__(self, mean, std, names=None):
        rng = np.random.default_rng(3)
        images = rng.integers(256, size=(32, *SHAPE)).astype("uint8")
        labels = np.arange(32) % 3
        pair = images[:12], labels[:12]
        options = {"validation_data": pair, "test_data": pair}
        options |= {"mean": (mean,), "std": (std,), "class_names": names}
        super().__init__(images, labels, 16, **options)


def trained(folder, data):
    trainer = kd.Trainer(max_epochs=1, default_root_dir=folder, **QUIET)
    module = kd.ImageClassifier(network, activation="softmax", learning_rate=0.01)
    trainer.fit(module, datamodule=data)
    return trainer, module, trainer.checkpoint_callback.last_model_path


def answers_to_the_test(module, data):
    data.setup("test")
    return module.model.predict(data.predict_dataset(), verbose=0)


@pytest.mark.slow
def test_members_read_pictures_as_they_were_standardized_for_them(tmp_path):
    """It reads them as the first does, (raw - 100) / 50; the other has 0 and 255."""
    data, other = Blocks(100.0, 50.0), Blocks(0.0, 255.0)
    trainer, first, path = trained(tmp_path / "a", data)
    _, second, other_path = trained(tmp_path / "b", other)
    answers = answers_to_the_test(first, data), answers_to_the_test(second, other)
    expected = np.mean(answers, axis=0)
    second.data.fit = "pad"
    with pytest.raises(MisconfigurationError, match=r"the same fit.*crop, pad"):
        kd.ensemble([first, second])
    second.data.fit = None
    with pytest.raises(MisconfigurationError, match="first one be a checkpoint"):
        kd.ensemble([first.model, path, other_path])
    for members in ([path, other_path], [first, second]):
        found = trainer.predict(kd.ensemble(members), datamodule=data)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_it_is_calibrated_and_exported_as_any_other(tmp_path, activation):
    data = Blocks(100.0, 50.0)
    if activation == "sigmoid":
        labels = tf.data.Dataset.from_tensor_slices(
            (pictures(12), np.tile(np.eye(3), (4, 1)))
        ).batch(12)
        facts = {"mean": (100.0,), "std": (50.0,), "labels": "several"}
        data = kd.data.Datasets(labels, labels, labels, **facts)
    whole = kd.ensemble([network(activation, seed=seed) for seed in range(2)])
    trainer = kd.Trainer(default_root_dir=tmp_path, **QUIET)
    decisions = trainer.calibrate(whole, data)
    version = trainer.export(whole, tmp_path / "saved", datamodule=data)
    shares = trainer.predict(whole, datamodule=data)
    data.setup("test")
    images = next(iter(data.test_dataset()))[0] * 50.0 + 100.0
    answer = tf.saved_model.load(str(version)).signatures["serve"](images=images)
    np.testing.assert_allclose(answer["probabilities"], shares, atol=1e-5)
    np.testing.assert_array_equal(answer["decisions"], decisions.given(shares))


def linear_in_float32(classes, input_shape):
    """Answer in float32, whatever the precision before."""
    last = keras.layers.Activation("softmax", dtype="float32")
    dense = keras.layers.Dense(classes)
    return keras.Sequential(
        [keras.Input(input_shape), keras.layers.Flatten(), dense, last]
    )


class Averaged(kd.ImageClassifier):
    def configure_optimizer(self, steps):
        return keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9)


def test_averages_of_weights_of_half_precision_are_those_of_the_checkpoint(tmp_path):
    """What fit leaves in the module are the averages."""
    data = Blocks(100.0, 50.0)
    trainer = kd.Trainer(2, precision="16-mixed", default_root_dir=tmp_path, **QUIET)
    module = Averaged(linear_in_float32)
    trainer.fit(module, datamodule=data)
    path = trainer.checkpoint_callback.last_model_path
    expected = trainer.predict(module, datamodule=data)
    again = trainer.predict(
        Averaged(linear_in_float32), datamodule=data, ckpt_path=path
    )
    np.testing.assert_array_equal(again, expected)
    found = trainer.predict(kd.ensemble([path, path]), datamodule=data)
    np.testing.assert_allclose(found, expected, atol=1e-6)


class Unregistered(keras.layers.Layer):
    def call(self, x):
        return 2 * x


def test_code_that_keras_does_not_know_is_named(tmp_path):
    first, last = keras.layers.Flatten(), keras.layers.Dense(3, "softmax")
    own = keras.Sequential([keras.Input(SHAPE), first, Unregistered(), last])
    own.save(tmp_path / "own.keras")
    for member in (own, tmp_path / "own.keras"):
        with pytest.raises(MisconfigurationError, match="class 'Unregistered'"):
            kd.ensemble([member, member])


def test_what_does_not_belong_together_is_refused(tmp_path):
    for members, says in [
        ([network()], "two networks or more"),
        (network(), "two networks or more"),
        ([network(), network(classes=4)], "of one shape and answer the same"),
        ([network(), network("softmax")], "all by a softmax or all by sigmoids"),
        ([network(), network(shape=(16, 16, 1))], "of one shape"),
        ([network(), kd.ImageClassifier(network)], "not trained yet"),
        ([network(), tmp_path / "none.keras"], "no whole .keras file"),
        ([network(), keras.Sequential([keras.layers.Dense(3)])], "cannot be a member"),
    ]:
        with pytest.raises(MisconfigurationError, match=says):
            kd.ensemble(members)


def test_classes_in_another_order_are_refused(tmp_path):
    _, _, path = trained(tmp_path / "b", Blocks(0.0, 255.0, ["owl", "dog", "cat"]))
    first = kd.ImageClassifier(network)
    first.model, first.data = (
        network("softmax"),
        Blocks(0.0, 255.0, ["cat", "dog", "owl"]),
    )
    with pytest.raises(
        MisconfigurationError, match=r"the same class_names.*'owl', 'dog"
    ):
        kd.ensemble([first, path])
