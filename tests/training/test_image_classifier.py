"""What `ImageClassifier` makes of its arguments and of the data."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_densenet as kd
from keras_densenet.data import Split
from keras_densenet.model_output import ModelOutput
from keras_densenet.training import MisconfigurationError


def classifier(**options):
    return kd.ImageClassifier(kd.DenseNetBC, depth=10, growth_rate=4, **options)


class TwoPictures(kd.data.ArrayDataModule):
    """A picture of each of two classes, in one batch."""

    title = "two pictures"
    num_classes, input_shape, class_names = 2, (1, 1, 1), ("a", "b")
    mean, std = (0.0,), (1.0,)

    def load_splits(self, stage):
        split = kd.data.Split(np.zeros((2, 1, 1, 1), "uint8"), np.array([0, 1]))
        return {"train": split, "val": split, "test": split}


def undecided(classes, input_shape):
    """Give a network that says 1/2 of everything, until its bias is trained."""
    answer = keras.layers.Dense(
        classes, activation="softmax", kernel_initializer="zeros"
    )
    return keras.Sequential(
        [keras.Input(input_shape), keras.layers.Flatten(), answer], name="undecided"
    )


def test_the_cosine_schedule_is_the_authors():
    optimizer = classifier(lr_schedule="cosine").configure_optimizer(total_steps=80)
    for step in (0, 1, 20, 40, 79, 80):
        by_hand = 0.5 * 0.1 * (1 + math.cos(math.pi * step / 80))
        rate = float(optimizer._learning_rate(step))
        assert rate == pytest.approx(by_hand, abs=1e-8)


@pytest.mark.parametrize(
    ("scale_lr_from", "rate"), [(None, 0.1), (64, 0.4), (256, 0.1), (512, 0.05)]
)
@pytest.mark.parametrize("lr_schedule", ["step", "cosine"])
def test_the_learning_rate_is_scaled_with_the_batch(scale_lr_from, rate, lr_schedule):
    module = classifier(scale_lr_from=scale_lr_from, lr_schedule=lr_schedule)
    module.data = kd.data.Digits(batch_size=256)
    optimizer = module.configure_optimizer(total_steps=80)
    assert float(optimizer._learning_rate(0)) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr_schedule": "linear"}, 'is "step"'),
        ({"scale_lr_from": 0}, "64 in the paper"),
    ],
)
def test_what_is_no_schedule_is_refused(options, words):
    with pytest.raises(MisconfigurationError, match=words):
        classifier(**options)


def test_mixed_labels_have_the_loss_that_they_need():
    module = classifier()
    module.data = kd.data.Digits(strong={"cutmix": 1.0})
    shares, answers = np.array([[0.25, 0.75]]), np.array([[0.5, 0.5]])
    loss = float(module.configure_loss()(shares, answers))
    assert loss == pytest.approx(math.log(2), abs=1e-6)
    (accuracy,) = module.configure_metrics()
    accuracy.update_state(shares, [[0.1, 0.9]])
    assert accuracy.name == "accuracy"
    assert float(accuracy.result()) == 1.0


def test_mixed_labels_train_and_are_tested_on(tmp_path):
    data = kd.data.Digits(batch_size=32, strong={"mixup": 0.2})
    module = classifier()
    trainer = kd.Trainer(fast_dev_run=2, default_root_dir=tmp_path)
    history = trainer.fit(module, data).history
    assert np.isfinite(history["loss"]).all()
    assert 0 <= trainer.test(module, data)["accuracy"] <= 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_more_than_100_classes_have_a_top_5_accuracy(dtype):
    module = classifier()
    module.data = TwoPictures(2)
    assert [metric.name for metric in module.configure_metrics()] == ["accuracy"]
    module.data.num_classes = 1000
    _, top_5 = module.configure_metrics()
    assert top_5.name == "top_5_accuracy"
    answers = np.linspace(1, 0, 1000, dtype=dtype)[np.newaxis]
    for label, expected in ((4, 1.0), (5, 0.0)):  # the fifth of the order, the sixth
        number, shares = np.array([label]), np.eye(1000)[[label]]
        for labels in (number, shares):
            top_5.reset_state()
            top_5.update_state(labels, answers)
            assert float(top_5.result()) == expected


def test_classes_weigh_what_they_are_told_to(tmp_path):
    # The gradient of the first bias: sum of w (p - y) over the batch, by its size:
    # (1 * (1/2 - 1) + 3 * (1/2 - 0)) / 2 = 1/2, and it moves by -1 of that.
    module = kd.ImageClassifier(
        undecided,
        learning_rate=1.0,
        momentum=0.0,
        weight_decay=0.0,
        milestones=(),
        class_weight={0: 1.0, 1: 3.0},
    )
    trainer = kd.Trainer(fast_dev_run=1, default_root_dir=tmp_path)
    trainer.fit(module, TwoPictures(2, augment=False, seed=0))
    bias = module.model.get_weights()[-1]
    np.testing.assert_allclose(bias, [-0.5, 0.5], atol=1e-6)


def test_weights_of_other_classes_are_refused():
    for weights in ({0: 1.0}, {1: 1.0, 2: 2.0}):
        module = classifier(class_weight=weights)
        module.data = TwoPictures(2)
        with pytest.raises(MisconfigurationError, match="one weight a class"):
            module.configure_class_weight()


def test_balanced_weights_are_the_datas():
    module = classifier(class_weight="balanced")
    pictures = tf.data.Dataset.from_tensors((tf.zeros([2, 8, 8, 3]), [0, 1]))
    module.data = kd.data.Datasets(pictures)
    with pytest.raises(MisconfigurationError, match="such as ImageFolder"):
        module.configure_class_weight()
    module.data.class_weight = {0: 0.5, 1: 2.0}
    assert module.configure_class_weight() == {0: 0.5, 1: 2.0}


# --- the loss fits what the network answers -----------------------------------------


def ending_in(*layers):
    """Return a function that makes a network whose bias is trained."""

    def network(classes, input_shape):
        given = [layer(classes) for layer in layers]
        return keras.Sequential(
            [keras.Input(input_shape), keras.layers.Flatten(), *given], name="small"
        )

    return network


def dense(activation=None, units=None):
    def make(classes):
        return keras.layers.Dense(
            units or classes, activation=activation, kernel_initializer="zeros"
        )

    return make


def after_a_fit(network, tmp_path, data=None, **overridden):
    """Fit one batch at a learning rate of 1, and return the module."""
    kind = type("Ours", (kd.ImageClassifier,), overridden)
    module = kind(
        network, learning_rate=1.0, momentum=0.0, weight_decay=0.0, milestones=()
    )
    trainer = kd.Trainer(fast_dev_run=1, default_root_dir=tmp_path)
    trainer.fit(module, data or TwoPictures(2, augment=False, seed=0))
    return module


class ThreeOfOne(TwoPictures):
    """Two pictures of the first of three classes."""

    num_classes, class_names = 3, ("a", "b", "c")

    def load_splits(self, stage):
        split = kd.data.Split(np.zeros((2, 1, 1, 1), "uint8"), np.array([0, 0]))
        return {"train": split, "val": split, "test": split}


@pytest.mark.parametrize(
    "layers",
    [
        [dense()],
        [dense(), lambda classes: keras.layers.Activation("linear", dtype="float32")],
        [lambda classes: keras.Sequential([dense()(classes)])],
        [dense(), lambda classes: keras.layers.Softmax()],
        [dense("softmax")],
    ],
    ids=["logits", "cast", "within", "Softmax", "softmax"],
)
def test_logits_are_trained_as_logits(layers, tmp_path):
    # The gradient of each bias is p - y = 1/3 - y, whatever the ending.
    module = after_a_fit(ending_in(*layers), tmp_path, ThreeOfOne(2, augment=False))
    bias = module.model.get_weights()[-1]
    np.testing.assert_allclose(bias, [2 / 3, -1 / 3, -1 / 3], atol=1e-6)
    trainer = kd.Trainer(fast_dev_run=1, default_root_dir=tmp_path)
    answers = trainer.predict(module, ThreeOfOne(2, augment=False))
    # softmax of (2/3, -1/3, -1/3): e / (e + 2) of the first.
    expected = math.e / (math.e + 2)
    np.testing.assert_allclose(answers[:, 0], [expected] * 2, atol=1e-6)
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-6)


def binary(from_logits=False):
    return lambda self: keras.losses.BinaryCrossentropy(from_logits=from_logits)


def sparse(from_logits):
    return lambda self: keras.losses.SparseCategoricalCrossentropy(from_logits)


def focal(self):
    return keras.losses.CategoricalFocalCrossentropy()


@pytest.mark.parametrize(
    ("network", "loss", "says"),
    [
        (ending_in(dense()), sparse(False), "from_logits=True, or end the network"),
        (ending_in(dense()), focal, "from_logits=True, or end the network"),
        (ending_in(dense()), binary(), r'Activation\("sigmoid"\)'),
        (ending_in(dense("softmax")), sparse(True), "Leave from_logits out"),
        (ending_in(dense("sigmoid")), binary(True), "Leave from_logits out"),
        (ending_in(dense("sigmoid")), None, "keras.losses.BinaryCrossentropy()"),
        (ending_in(dense("sigmoid", 1)), None, "keras.losses.BinaryCrossentropy()"),
        (ending_in(dense("softmax", 1)), None, "1 for every picture"),
        (ending_in(dense("relu")), None, "ends in a ReLU"),
        (ending_in(lambda classes: keras.layers.ReLU()), None, "ends in a ReLU"),
        (
            ending_in(lambda classes: keras.layers.Lambda(keras.ops.sin)),
            None,
            "gives numbers below 0",
        ),
    ],
)
def test_a_loss_for_other_numbers_is_refused(network, loss, says, tmp_path):
    overridden = {"configure_loss": loss} if loss else {}
    with pytest.raises(MisconfigurationError, match=says):
        after_a_fit(network, tmp_path, **overridden)
    assert not list(tmp_path.iterdir())


def test_a_compiled_models_loss_is_looked_at_too(tmp_path):
    data, trainer = TwoPictures(2), kd.Trainer(fast_dev_run=1)
    model = ending_in(dense())(2, (1, 1, 1))
    model.compile(loss="sparse_categorical_crossentropy")
    with pytest.raises(MisconfigurationError, match="ends in logits"):
        trainer.fit(model, data)
    model.compile(loss=[keras.losses.SparseCategoricalCrossentropy(from_logits=True)])
    trainer.fit(model, data)


def test_one_sigmoid_answers_two_classes(tmp_path):
    # The gradient of the bias: mean of p - y over labels 0 and 1, which is 0.
    module = after_a_fit(
        ending_in(dense("sigmoid", 1)), tmp_path, configure_loss=binary()
    )
    np.testing.assert_allclose(module.model.get_weights()[-1], [0.0], atol=1e-6)
    module.model.layers[-1].bias.assign([math.log(3)])  # sure of class 1 by 3/4
    trainer = kd.Trainer(fast_dev_run=1, default_root_dir=tmp_path)
    data = TwoPictures(2, augment=False)
    answers = trainer.predict(module, data)
    np.testing.assert_allclose(answers, [[0.25, 0.75]] * 2, atol=1e-6)
    assert trainer.test(module, data)["accuracy"] == 0.5


def test_several_labels_have_an_accuracy_of_labels():
    module = classifier()
    module.data = kd.data.Digits()
    module.data.soft_labels = True
    labels, answers = np.array([[1.0, 1.0, 0.0]]), np.array([[0.6, 0.9, 0.8]])
    for kind, shift in (("sigmoid", 0.0), ("sigmoid_logits", 0.5)):
        module.output = ModelOutput(kind, 3)
        (accuracy,) = module.configure_metrics()
        accuracy.update_state(labels, answers - shift)
        assert accuracy.name == "accuracy"
        assert float(accuracy.result()) == pytest.approx(2 / 3)
        assert module.gives_several_labels
    module.data.strong = {"mixup": 0.2}  # one class a picture, in shares
    assert isinstance(module.configure_metrics()[0], keras.metrics.CategoricalAccuracy)
    assert not module.gives_several_labels


def test_one_class_is_refused_before_training(tmp_path):
    (tmp_path / "cat").mkdir()
    for number in range(3):
        Image.new("RGB", (9, 9)).save(tmp_path / "cat" / f"{number}.png")
    data = kd.data.ImageFolder(tmp_path, 2, 8)
    module = classifier()
    trainer = kd.Trainer(1, default_root_dir=tmp_path / "runs", logger=False)
    with pytest.raises(MisconfigurationError, match="has cat alone"):
        trainer.fit(module, data)


@pytest.mark.parametrize("first", [-1, 1])
def test_labels_of_no_class_are_refused_before_training(first):
    class Shifted(kd.data.Digits):
        def load_splits(self, stage):
            splits = super().load_splits(stage)
            return {s: Split(x, y + first) for s, (x, y) in splits.items()}

    words = rf"in 0\.\.9, as num_classes=10 .* are in {first}\.\.{9 + first}\."
    with pytest.raises(ValueError, match=words):
        Shifted(8).setup("fit")
    data = Shifted(8)
    data.num_classes = 11
    if first == 1:
        data.setup("fit")


def test_a_label_of_no_class_that_only_a_batch_shows(tmp_path):
    class Own(kd.data.DataModule):
        num_classes, input_shape, class_names = 2, (8, 8, 3), ("a", "b")
        mean, std, batch_size = (0.0,) * 3, (1.0,) * 3, 2

        def train_dataset(self):
            labels = np.array([0, 1, 2, 1])
            pairs = np.zeros((4, 8, 8, 3), "float32"), labels
            return tf.data.Dataset.from_tensor_slices(pairs).batch(2, True)

        test_dataset = predict_dataset = train_dataset

    trainer = kd.Trainer(1, default_root_dir=tmp_path, logger=False)
    with trainer.scope():
        layers = [keras.layers.Flatten(), keras.layers.Dense(2, "softmax")]
        model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
        model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(MisconfigurationError, match=r"A label is 2, .* classes 0\.\.1"):
        trainer.fit(model, Own())
