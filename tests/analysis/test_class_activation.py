"""Grad-CAM against numbers that a person works out."""

import keras
import numpy as np
import pytest

import keras_densenet as kd
from keras_densenet.analysis import class_activation, plot_class_activation


def two_maps(softmax=True):
    """Return a model whose maps are the picture's two channels.

    The logit of class 0 is 2 mean(map 0), that of class 1 3 mean(map 1) - mean(map 0).
    """
    picture = keras.Input((2, 2, 2))
    maps = keras.layers.Activation("linear", name="maps")(picture)
    x = keras.layers.GlobalAveragePooling2D()(maps)
    top = keras.layers.Dense(2, activation="softmax" if softmax else None)
    model = keras.Model(picture, top(x))
    top.set_weights([np.array([[2.0, -1.0], [0.0, 3.0]]), np.zeros(2)])
    return model


PICTURE = np.array([[[[1.0, 0.0], [0.0, 2.0]], [[4.0, 1.0], [0.0, 0.0]]]], "float32")


@pytest.mark.parametrize("softmax", [True, False])
def test_it_is_what_each_place_adds_to_the_logit(softmax):
    # Class 0 weighs map 0 with 2 / 4: [[0.5, 0], [2, 0]], divided by 2.
    # Class 1 weighs the maps with -1 / 4 and 3 / 4: [[-0.25, 1.5], [-0.25, 0]], cut off
    # below 0 and divided by 1.5.
    model = two_maps(softmax)
    both = class_activation(model, np.concatenate([PICTURE, PICTURE]), [0, 1])
    np.testing.assert_allclose(both[0], [[0.25, 0], [1, 0]], atol=1e-6)
    np.testing.assert_allclose(both[1], [[0, 1], [0, 0]], atol=1e-6)


def test_the_class_is_the_most_probable_one():
    # Logits: 2 * 5 / 4 = 2.5; 3 * 3 / 4 - 5 / 4 = 1.
    model = two_maps()
    of_answer = class_activation(model, PICTURE)
    np.testing.assert_array_equal(of_answer, class_activation(model, PICTURE, [0]))


def test_what_nothing_speaks_for_is_dark():
    model = two_maps()
    picture = PICTURE * [1, 0]  # all that is left speaks against class 1
    np.testing.assert_array_equal(class_activation(model, picture, [1]), [[[0, 0]] * 2])


def test_it_is_enlarged_to_the_picture():
    # 16 x 16 maps become 32 x 32; there are more pictures than fit one batch.
    model = kd.DenseNetBC(10, 4)
    images = np.random.default_rng(0).normal(size=(17, 32, 32, 3)).astype("float32")
    heat = class_activation(model, images, layer="dense_block2")
    assert heat.shape == (17, 32, 32)
    assert heat.dtype == np.float32
    np.testing.assert_allclose(heat.max(axis=(1, 2)), 1, atol=1e-6)
    one = class_activation(model, images[16:], layer="dense_block2")
    np.testing.assert_allclose(heat[16:], one, atol=1e-5)


def test_of_a_densenet_it_is_the_class_activation_map():
    """At the last maps the gradient is the classifier's weight by their number."""
    model = kd.DenseNetBC(10, 4, input_shape=(8, 8, 3))
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    last = keras.Model(model.input, model.get_layer("final_relu").output)(images)
    kernel = model.get_layer("classifier").kernel.numpy()
    by_hand = np.maximum(np.asarray(last) @ kernel[:, 3], 0)  # (2, 2, 2)
    by_hand /= by_hand.max(axis=(1, 2), keepdims=True)
    heat = class_activation(model, images, [3, 3], layer="final_relu")
    # Bilinear enlargement by 4 keeps the corners, of which each is one place's alone.
    np.testing.assert_allclose(heat[:, ::7, ::7] * by_hand.max(), by_hand, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"layer": "classifier"}, r"layer must name a layer with maps .*: maps\."),
        ({"classes": [0, 1]}, "a class for each"),
        ({"images": PICTURE[0]}, "pictures"),
        ({"classes": [2]}, r"a number in 0\.\.1"),
        ({"classes": [-1]}, r"a number in 0\.\.1"),
        ({"classes": [0.0]}, r"a number in 0\.\.1"),
        ({"classes": 1}, r"a number in 0\.\.1"),
        ({"classes": [[1, 0]]}, r"a number in 0\.\.1"),
    ],
)
def test_what_cannot_be_looked_at(arguments, says):
    with pytest.raises(ValueError, match=says):
        class_activation(two_maps(), **{"images": PICTURE} | arguments)


def test_of_a_network_within_a_model_it_says_what_to_give():
    inner = kd.DenseNetBC(10, 4, input_shape=(8, 8, 3))
    outer = keras.Sequential([keras.Input((8, 8, 3)), inner])
    with pytest.raises(ValueError, match="within this one"):
        class_activation(outer, np.zeros((1, 8, 8, 3)))
    with pytest.raises(ValueError, match="knows its input"):
        class_activation(keras.Sequential([keras.layers.Flatten()]), PICTURE)


def test_bytes_are_pictures_too():
    model = two_maps()
    of_bytes = class_activation(model, PICTURE.astype("uint8"))
    np.testing.assert_array_equal(of_bytes, class_activation(model, PICTURE))


def test_a_dollar_in_a_title_is_no_formula(tmp_path):
    raw, heat = np.zeros((1, 8, 8, 3)), np.zeros((1, 8, 8))
    plot_class_activation(raw, heat, ["$a_{x$"], tmp_path / "a.png")


def test_the_picture(tmp_path):
    raw = np.full((5, 8, 8, 3), 128)
    heat = np.zeros((5, 8, 8))
    figure = plot_class_activation(raw, heat, list("abcde"), tmp_path / "a.png")
    titles = [axis.get_title("left") for axis in figure.axes]
    assert [title for title in titles if title] == list("abcde")
    assert (tmp_path / "a.png").stat().st_size > 0
    with pytest.raises(ValueError, match="title each"):
        plot_class_activation(raw, heat, ["a"])
