"""Several views of a picture to predict: the mean of their probabilities, by hand."""

import keras
import numpy as np
import pytest
from PIL import Image

import keras_densenet as kd
from keras_densenet.decisions import Decisions, keep_decisions
from keras_densenet.training import MisconfigurationError

QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}


def of_the_first_pixel(units, activation, shape=(1, 2, 1)):
    """Return a network whose first logit is ln 3 times a picture's first value."""
    model = keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Flatten(),
            keras.layers.Dense(units, activation=activation),
        ]
    )
    weights = np.zeros((int(np.prod(shape)), units))
    weights[0, 0] = np.log(3.0)
    model.set_weights([weights, np.zeros(units)])
    return model


def compiled(trainer, make, loss):
    with trainer.scope():
        model = make()
        model.compile(loss=loss)
    return model


def raw(images, **options):
    """Return data that leave pixels as they are."""
    images = np.asarray(images, "uint8")
    labels = np.arange(len(images)) % 2
    shape = images.shape[-1]
    return kd.data.Arrays(
        images,
        labels,
        batch_size=2,
        test_data=(images, labels),
        num_classes=2,
        mean=(0.0,) * shape,
        std=(1.0,) * shape,
        **options,
    )


@pytest.mark.parametrize(
    ("units", "activation", "loss"),
    [
        (2, "softmax", "sparse_categorical_crossentropy"),
        (2, None, keras.losses.SparseCategoricalCrossentropy(from_logits=True)),
        (2, "sigmoid", "binary_crossentropy"),
        (2, None, keras.losses.BinaryCrossentropy(from_logits=True)),
        (1, "sigmoid", "binary_crossentropy"),
    ],
    ids=["softmax", "logits", "sigmoid", "sigmoid_logits", "one_unit"],
)
def test_flip_is_the_mean_of_the_probabilities(tmp_path, units, activation, loss):
    """A 1 gives odds of 3, which is 0.75, and a 0 gives 0.5: their mean is 0.625.

    Of logits it would be sqrt(3) / (1 + sqrt(3)), which is 0.634.
    """
    trainer = kd.Trainer(default_root_dir=tmp_path, **QUIET)
    model = compiled(trainer, lambda: of_the_first_pixel(units, activation), loss)
    data = raw([[[[1], [0]]], [[[0], [1]]], [[[1], [1]]]])
    found = trainer.predict(model, data, views="flip")
    first = 1 if units == 1 else 0  # of one unit it is the second class
    assert found[:, first] == pytest.approx([0.625, 0.625, 0.75], abs=1e-6)
    plain = trainer.predict(model, data)
    assert plain[:, first] == pytest.approx([0.75, 0.5, 0.75], abs=1e-6)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_each_view_is_at_the_temperatures_that_were_chosen(tmp_path, activation):
    """At 1/2 odds of 3 are those of 9, 0.9; the mean with 0.5 is 0.7."""
    trainer = kd.Trainer(default_root_dir=tmp_path, **QUIET)
    model = of_the_first_pixel(2, activation)
    chosen = Decisions("ab", (0.5,) * 2, (0.5,) * 2, "f1", activation == "sigmoid", 9)
    keep_decisions(model, chosen)
    data = raw([[[[1], [0]]], [[[1], [1]]]])
    found = trainer.predict(model, data, views="flip")
    assert found[:, 0] == pytest.approx([0.7, 0.9], abs=1e-6)
    plain = trainer.predict(model, data)
    assert plain[:, 0] == pytest.approx([0.9, 0.9], abs=1e-6)


def test_limits_and_strategies_hold_for_views(tmp_path):
    shades = np.arange(10).reshape(5, 1, 2, 1) % 4
    answers = []
    for devices, limit in ((1, 1.0), (2, 1.0), (1, 2)):
        trainer = kd.Trainer(
            default_root_dir=tmp_path,
            devices=devices,
            strategy="mirrored" if devices == 2 else "auto",
            limit_predict_batches=limit,
            **QUIET,
        )
        model = compiled(
            trainer,
            lambda: of_the_first_pixel(2, "softmax"),
            "sparse_categorical_crossentropy",
        )
        answers.append(trainer.predict(model, raw(shades), views="flip"))
    assert [len(answer) for answer in answers] == [5, 5, 4]
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-6)
    np.testing.assert_array_equal(answers[0][:4], answers[2])


def nine(root, classes=("cat", "dog")):
    """Write pictures of 9x9, of which views of 8x8 are cut without resizing."""
    pixels = np.random.default_rng(1).integers(0, 2, (len(classes), 3, 9, 9), "uint8")
    for name, pictures in zip(classes, pixels, strict=True):
        (root / name).mkdir(parents=True)
        for n, picture in enumerate(pictures):
            Image.fromarray(picture).save(root / name / f"{n}.png")
    return pixels


def images_of(root, **options):
    """Return 8x8 pixels as they are: 8 * 256 / 224 is 9."""
    unit = {"mean": (0.0,), "std": (1.0,), "channels": 1}
    return kd.data.ImageFolder(root, batch_size=2, image_size=8, **unit, **options)


@pytest.mark.slow
def test_ten_is_the_mean_of_corners_and_center_of_both(tmp_path):
    """The first value of each view is a pixel of the picture, or of its mirror image.

    Those are at the corners (0, 0), (0, 1), (1, 0), (1, 1), the last of which is the
    center's, too: it has the odd pixel at its other side.
    """
    nine(tmp_path / "train")
    pixels = nine(tmp_path / "test").reshape(6, 9, 9)
    trainer = kd.Trainer(default_root_dir=tmp_path, **QUIET)
    model = compiled(
        trainer,
        lambda: of_the_first_pixel(2, "softmax", (8, 8, 1)),
        "sparse_categorical_crossentropy",
    )
    corners = np.stack(
        [
            image[:, top, left]
            for image in (pixels, pixels[:, :, ::-1])
            for top, left in ((1, 1), (0, 0), (0, 1), (1, 0), (1, 1))
        ],
        axis=1,
    )
    expected = np.where(corners == 1, 0.75, 0.5).mean(axis=1)
    data = images_of(tmp_path)
    found = trainer.predict(model, data, views=10)
    assert found[:, 0] == pytest.approx(expected, abs=1e-5)
    new = kd.data.Pictures(tmp_path / "test", like=data)
    assert trainer.predict(model, new, views=10) == pytest.approx(found, abs=1e-6)
    flipped = trainer.predict(model, new, views="flip")
    assert flipped == pytest.approx(trainer.predict(model, data, views="flip"))


def test_views_that_cannot_be_are_refused(tmp_path):
    nine(tmp_path)
    trainer = kd.Trainer(default_root_dir=tmp_path, **QUIET)
    model = compiled(
        trainer,
        lambda: of_the_first_pixel(2, "softmax", (8, 8, 1)),
        "sparse_categorical_crossentropy",
    )
    sided = images_of(tmp_path, test_fraction=0.4, mirror=False)
    arrays = raw(np.zeros((4, 8, 8, 1)))
    for views in ("flop", True, 2, 10.0, "10", ["flip"]):
        with pytest.raises(MisconfigurationError, match='views is "flip"'):
            trainer.predict(model, arrays, views=views)
    new = kd.data.Pictures(tmp_path / "cat", like=sided)
    for data in (sided, new, raw(np.zeros((4, 8, 8, 1)), mirror=False)):
        for views in ("flip", 10):
            with pytest.raises(MisconfigurationError, match="chest or of a digit"):
                trainer.predict(model, data, views=views)
    for data in (arrays, kd.data.Pictures(tmp_path / "cat", like=arrays)):
        with pytest.raises(MisconfigurationError, match="cut out of larger pictures"):
            trainer.predict(model, data, views=10)
    numbers = compiled(trainer, lambda: of_the_first_pixel(2, "relu", (8, 8, 1)), "mse")
    with pytest.raises(MisconfigurationError, match="do not say whether it gives any"):
        trainer.predict(numbers, arrays, views="flip")


@pytest.mark.slow
def test_a_densenet_answers_as_about_each_view_alone(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3))
    data = raw(images)
    trainer = kd.Trainer(default_root_dir=tmp_path, precision="bf16-mixed", **QUIET)
    model = compiled(
        trainer,
        lambda: kd.DenseNetBC(10, 4, classes=2, input_shape=(8, 8, 3)),
        "sparse_categorical_crossentropy",
    )
    found = trainer.predict(model, data, views="flip")
    both = [trainer.predict(model, raw(it)) for it in (images, images[:, :, ::-1])]
    np.testing.assert_allclose(found, np.mean(both, axis=0), rtol=1e-3)
    assert found.dtype == np.float32
