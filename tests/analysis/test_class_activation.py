"""Grad-CAM against numbers that a person works out."""

import importlib

import keras
import numpy as np
import pytest
from scipy import ndimage

import keras_densenet as kd
from keras_densenet.analysis import class_activation, plot_class_activation
from keras_densenet.analysis.drawn_pictures import drawing

# The function has the file's name, too.
class_activation_file = importlib.import_module(class_activation.__module__)


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


@pytest.mark.parametrize("size", [(4,), (2, 2), (2, 1, 2)])
def test_maps_are_weighted_with_mean_gradients(size):
    # The gradients differ from place to place. Those by the maps have the means
    # (1 + 3 - 2 + 6) / 4 = 2 and -4 / 4 = -1: 2 map 0 - map 1 is [2, -2, 7, 0], cut off
    # below 0 and divided by 7.
    picture = keras.Input((*size, 2))
    maps = keras.layers.Activation("linear")(picture)
    flat = keras.layers.Flatten()(maps)
    model = keras.Model(picture, keras.layers.Dense(1)(flat))
    gradients = np.array([[1.0, -4.0], [3.0, 0.0], [-2.0, 0.0], [6.0, 0.0]])
    model.set_weights([gradients.reshape(8, 1), np.zeros(1)])
    heat = class_activation(model, PICTURE.reshape(1, *size, 2), [0])
    assert heat.shape == (1, *size)
    np.testing.assert_allclose(heat.ravel(), [2 / 7, 0, 1, 0], atol=1e-6)


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


@pytest.mark.parametrize("input_shape", [(8, 3), (8, 8, 3), (8, 8, 8, 3)])
def test_of_a_densenet_it_is_the_class_activation_map(input_shape):
    """At the last maps the gradient is the classifier's weight by their number."""
    model = kd.DenseNetBC(10, 4, input_shape=input_shape)
    images = np.random.default_rng(0).normal(size=(2, *input_shape)).astype("float32")
    last = keras.Model(model.input, model.get_layer("final_relu").output)(images)
    kernel = model.get_layer("classifier").kernel.numpy()
    by_hand = np.maximum(np.asarray(last) @ kernel[:, 3], 0)  # (2, 2, 2)
    rank = len(input_shape) - 1
    by_hand /= by_hand.max(axis=tuple(range(1, 1 + rank)), keepdims=True)
    heat = class_activation(model, images, [3, 3], layer="final_relu")
    # Linear enlargement by 4 keeps the corners, of which each is one place's alone.
    corners = heat[:, *[slice(None, None, 7)] * rank]
    np.testing.assert_allclose(corners * by_hand.max(), by_hand, atol=1e-5)


def pooled(pool, size):
    """Return a model whose logit is twice the mean of its maps: means of `pool`."""
    rank = len(pool)
    pooling = getattr(keras.layers, f"AveragePooling{rank}D")
    average = getattr(keras.layers, f"GlobalAveragePooling{rank}D")
    layers = [keras.Input((*size, 1)), pooling(pool), average(), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.set_weights([np.array([[2.0]]), np.zeros(1)])
    return model


def test_of_a_signal_by_hand():
    # The means of two are 0 and 6. Of four moments the middles of the two lie at 0.5
    # and 2.5: between them the heat rises by 3 a moment, and outside it does not.
    signal = np.array([1.0, -1.0, 5.0, 7.0])[np.newaxis, :, np.newaxis]
    heat = class_activation(pooled((2,), (4,)), signal, [0])
    np.testing.assert_allclose(heat, [[0, 1.5 / 6, 4.5 / 6, 1]], atol=1e-6)


@pytest.mark.parametrize(
    ("pool", "size"),
    [((3,), (12,)), ((2, 3), (6, 9)), ((2, 4, 3), (6, 4, 9)), ((1, 2, 5), (3, 4, 10))],
)
def test_it_is_enlarged_as_scipy_does(pool, size):
    picture = np.random.default_rng(0).uniform(0, 1, size).astype("float32")
    # Blocks: (6, 4, 9) as (3, 2, 1, 4, 3, 3) has a block's own places at 1, 3 and 5.
    blocks = [n for whole, p in zip(size, pool, strict=True) for n in (whole // p, p)]
    maps = picture.reshape(blocks).mean(axis=tuple(range(1, 2 * len(pool), 2)))
    expected = ndimage.zoom(maps, pool, order=1, mode="nearest", grid_mode=True)
    heat = class_activation(pooled(pool, size), picture[np.newaxis, ..., np.newaxis])
    np.testing.assert_allclose(heat[0], expected / expected.max(), atol=1e-6)


def convolving(rank, kernels):
    """Return a model of 8 places along each axis, with kernels of one axis less."""
    convolution = getattr(keras.layers, f"Conv{rank}D")
    size, filters = kernels[0].shape[:rank], kernels[0].shape[-1]
    pooling = getattr(keras.layers, f"AveragePooling{rank}D")
    average = getattr(keras.layers, f"GlobalAveragePooling{rank}D")
    layers = [
        keras.Input((*[8] * rank, 2)),
        convolution(filters, size, padding="same", activation="relu"),
        pooling(2),
        average(),
        keras.layers.Dense(3, activation="softmax"),
    ]
    model = keras.Sequential(layers)
    first, last = kernels
    model.set_weights([first, np.zeros(filters), last, np.zeros(3)])
    return model


@pytest.mark.parametrize(("rank", "axis"), [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)])
def test_what_is_alike_along_an_axis_has_the_heat_of_one_slice(rank, axis):
    """A volume of equal slices has a picture's heat, one of equal rows a signal's."""
    rng = np.random.default_rng(1)
    kernel, last = rng.normal(size=(*[3] * (rank - 1), 2, 4)), rng.normal(size=(4, 3))
    slices = rng.normal(size=(2, *[8] * (rank - 1), 2)).astype("float32")
    classes = [0, 2]
    expected = class_activation(convolving(rank - 1, (kernel, last)), slices, classes)
    found = class_activation(
        convolving(rank, (np.expand_dims(kernel, axis), last)),
        np.repeat(np.expand_dims(slices, axis + 1), 8, axis + 1),
        classes,
    )
    repeated = np.repeat(np.expand_dims(expected, axis + 1), 8, axis + 1)
    np.testing.assert_allclose(found, repeated, atol=1e-5)
    np.testing.assert_allclose(expected.reshape(2, -1).max(axis=1), 1, atol=1e-6)


def test_large_volumes_are_taken_fewer_at_once(monkeypatch):
    """As many pixels as fit, and one at least: of 17 volumes 4, 4, 4, 4 and 1."""
    model, seen = pooled((2, 2, 2), (4, 4, 4)), []
    volumes = np.random.default_rng(0).uniform(0, 1, (17, 4, 4, 4, 1))
    together = class_activation(model, volumes)
    computed = class_activation_file._maps_and_gradients

    def counting(model, layer, images, *others):
        seen.append(len(images))
        return computed(model, layer, images, *others)

    monkeypatch.setattr(class_activation_file, "_maps_and_gradients", counting)
    for pixels, batches in ((4 * 64, [4, 4, 4, 4, 1]), (1, [1] * 17)):
        seen.clear()
        monkeypatch.setattr(class_activation_file, "PIXELS_AT_ONCE", pixels)
        heat = class_activation(model, volumes)
        assert seen == batches
        np.testing.assert_allclose(heat, together, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"layer": "classifier"}, r"layer must name a layer with maps .*: maps\."),
        ({"classes": [0, 1]}, "a class for each"),
        ({"images": PICTURE[0]}, r"reads: signals .* or pictures .*\(None, 2, 2, 2\)"),
        ({"images": PICTURE[np.newaxis]}, r"images of shape \(1, 1, 2, 2, 2\)"),
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


@pytest.fixture(scope="module")
def flat_and_nested():
    """A network, the same within a model behind a rescaling, and pictures of both."""
    keras.utils.set_random_seed(1)
    flat = kd.DenseNetBC(10, 4, classes=3, input_shape=(16, 16, 3))
    last = flat.get_layer("final_relu").output
    backbone = keras.Model(flat.input, last, name="backbone")
    top = keras.layers.Dense(3, activation="softmax")
    inner = keras.Sequential([keras.layers.GlobalAveragePooling2D(), top])
    layers = [keras.layers.Rescaling(1 / 127.5, offset=-1), backbone, inner]
    nested = keras.Sequential([keras.Input((16, 16, 3)), *layers])
    flat.get_layer("classifier").set_weights(top.get_weights())
    pictures = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3))
    return flat, nested, pictures.astype("float32")


@pytest.mark.parametrize("layer", [None, "dense_block2"])
def test_a_network_within_a_model_is_looked_into(flat_and_nested, layer):
    flat, nested, pictures = flat_and_nested
    right = class_activation(flat, pictures / 127.5 - 1, [0, 2], layer)
    found = class_activation(nested, pictures, [0, 2], layer)
    np.testing.assert_allclose(found, right, atol=1e-3)
    assert right.max() == 1


def test_of_a_network_without_its_classifier_it_says_what_it_is(flat_and_nested):
    _, nested, pictures = flat_and_nested
    backbone = nested.get_layer("backbone")
    with pytest.warns(UserWarning, match="give the whole model with its"):
        heat = class_activation(backbone, pictures / 127.5 - 1, [0, 5])
    # The mean of a map has the same gradient everywhere in it, and none in the others:
    # it is the map, of which bilinear enlargement by 4 keeps the corners.
    last = np.asarray(backbone(pictures / 127.5 - 1))  # (2, 4, 4, 9)
    by_hand = np.stack([last[0, ..., 0], last[1, ..., 5]])[:, ::3, ::3]
    largest = by_hand.max(axis=(1, 2), keepdims=True)
    assert largest.all()
    corners = heat[:, ::15, ::15]
    corners = corners / corners.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(corners, by_hand / largest, atol=1e-5)
    with pytest.raises(ValueError, match="knows its input"):
        class_activation(keras.Sequential([keras.layers.Flatten()]), PICTURE)


class Hidden(keras.layers.Layer):
    """Maps that cannot be seen from outside."""

    def __init__(self):
        super().__init__()
        self.convolution = keras.layers.Conv2D(2, 1)

    def build(self, input_shape):
        self.convolution.build(input_shape)

    def call(self, x):
        return keras.ops.mean(self.convolution(x), axis=(1, 2))


def test_maps_that_are_hidden_are_not_passed_over():
    scaled = keras.layers.Rescaling(2.0, name="scaled")
    model = keras.Sequential([keras.Input((2, 2, 2)), scaled, Hidden()])
    with pytest.raises(ValueError, match=r"cannot be looked into.*layer='scaled'"):
        class_activation(model, PICTURE)
    assert class_activation(model, PICTURE, layer="scaled").shape == (1, 2, 2)


def ending_in(*layers, units=2, bias=0.0):
    picture = keras.Input((2, 2, 2))
    x = keras.layers.Activation("linear", name="maps")(picture)
    x = keras.layers.GlobalAveragePooling2D()(x)
    for layer in layers:
        x = layer(x)
    model = keras.Model(picture, x)
    kernel = np.array([[2.0, -1.0], [0.0, 3.0]])[:, :units]
    model.set_weights([kernel, np.full(units, bias)])
    return model


@pytest.mark.parametrize(
    "layers",
    [
        [keras.layers.Dense(2, "sigmoid")],
        [keras.layers.Dense(2), keras.layers.Activation("sigmoid")],
        [keras.layers.Dense(2), keras.layers.Activation("softmax", dtype="float32")],
        [keras.layers.Dense(2), keras.layers.Softmax()],
        [keras.layers.Dense(2), keras.ops.softmax],
        [keras.layers.Dense(2, "log_softmax")],
        [keras.Sequential([keras.layers.Dense(2, "softmax")])],
    ],
)
def test_whatever_it_ends_in_the_map_is_of_the_logit(layers):
    # The logits differ by 20 * (2 * 5 + ...) / 4: all probabilities are 0 or 1.
    model = ending_in(*layers)
    pictures = np.concatenate([PICTURE, PICTURE]) * 20
    answers = model.predict(pictures, verbose=0)
    found = class_activation(model, pictures, [0, 1])
    by_hand = class_activation(ending_in(keras.layers.Dense(2)), pictures, [0, 1])
    np.testing.assert_allclose(found, by_hand, atol=1e-6)
    np.testing.assert_array_equal(model.predict(pictures, verbose=0), answers)
    assert not any("call" in vars(layer) for layer in model.layers)  # as it was


@pytest.mark.parametrize("bias", [-20.0, 0.0, 20.0])
def test_one_sigmoid_is_looked_at_as_what_speaks_for_it(bias):
    # Its logit weighs map 0 with 2 / 4: [[0.5, 0], [2, 0]], divided by 2.
    model = ending_in(keras.layers.Dense(1, "sigmoid"), units=1, bias=bias)
    np.testing.assert_allclose(
        class_activation(model, PICTURE), [[[0.25, 0], [1, 0]]], atol=1e-6
    )


def test_a_probability_of_an_unknown_layer_is_refused_where_it_is_1():
    def own(x):
        return keras.ops.softmax(x)

    model = ending_in(keras.layers.Dense(2), keras.layers.Lambda(own))
    assert class_activation(model, PICTURE).max() == 1  # 0.82, which has a gradient
    with pytest.raises(ValueError, match="End the model in"):
        class_activation(model, PICTURE * 100)


@pytest.mark.parametrize("size", [(6,), (2, 3), (1, 2, 3)])
def test_channels_may_come_first(size):
    first = "channels_first"
    picture = keras.Input((2, *size))
    padding = getattr(keras.layers, f"ZeroPadding{len(size)}D")
    average = getattr(keras.layers, f"GlobalAveragePooling{len(size)}D")
    x = padding(0, name="maps", data_format=first)(picture)
    x = average(data_format=first)(x)
    model = keras.Model(picture, keras.layers.Dense(2)(x))
    model.set_weights([np.array([[2.0, -1.0], [0.0, 3.0]]), np.zeros(2)])
    # As above, with a third column that is 0.
    pictures = np.pad(PICTURE.transpose(0, 3, 1, 2), ((0, 0), (0, 0), (0, 0), (0, 1)))
    pictures = np.concatenate([pictures, pictures]).reshape(2, 2, *size)
    both = class_activation(model, pictures, [0, 1]).reshape(2, 2, 3)
    np.testing.assert_allclose(both[0], [[0.25, 0, 0], [1, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(both[1], [[0, 1, 0], [0, 0, 0]], atol=1e-6)


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
    with pytest.raises(
        ValueError, match=r"\(5, 8, 8, 3\), heat maps of shape \(5, 4, 4"
    ):
        plot_class_activation(raw, heat[:, ::2, ::2], list("abcde"))


@pytest.mark.parametrize("size", [(16,), (4, 6, 8)])
def test_signals_and_volumes_are_drawn_twice_as_pictures_are(tmp_path, size):
    rng = np.random.default_rng(0)
    raw, heat = rng.normal(size=(2, *size, 1)), rng.uniform(0, 1, (2, *size))
    figure = plot_class_activation(raw, heat, ["a", "b"], tmp_path / "a.png")
    assert [axis.get_title("left") for axis in figure.axes[:4]] == ["a", "", "b", ""]
    for axis, one, of_one in zip(figure.axes[1:4:2], raw, heat, strict=True):
        below, above = axis.images
        expected = drawing(one, of_one)
        np.testing.assert_array_equal(below.get_array(), expected.picture)
        np.testing.assert_array_equal(above.get_array().filled(np.nan), expected.heat)


@pytest.mark.parametrize(
    ("pixel", "shown"), [([90.6], [91] * 3), ([100, 0, 50, 51], [224, 204, 214])]
)
def test_gray_is_drawn_in_gray_and_rgba_on_white(pixel, shown):
    # Of alpha 51 a fifth is opaque: 0.2 * 100 + 0.8 * 255 = 224.
    raw = np.full((1, 8, 8, len(pixel)), pixel)
    figure = plot_class_activation(raw, np.zeros((1, 8, 8)), ["a"])
    left, right, *_ = figure.axes
    for axis in (left, right):
        assert axis.images[0].get_array()[3, 4].tolist() == shown
