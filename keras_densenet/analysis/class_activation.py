"""Where in a picture a network sees a class: Grad-CAM (Selvaraju et al. 2017).

What is said of pictures holds for signals and volumes, whose maps have one axis less or
one more. It needs the TensorFlow backend.
"""

import math
import os
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from matplotlib.figure import Figure

from keras_densenet.analysis.drawn_names import drawn_titles
from keras_densenet.analysis.drawn_pictures import drawing, drawing_width
from keras_densenet.analysis.inside import (
    layers_within,
    replaced,
    without_last_activation,
)
from keras_densenet.data.raw_arrays import KINDS
from keras_densenet.model_output import is_functional, last_activation
from keras_densenet.tensor import Tensor

# By the number of their axes, such as "signals (N, T, channels)".
SHAPES = {rank + 2: f"{kind.name} {kind.shape}" for rank, kind in KINDS.items()}
AT_ONCE = 16  # pictures in a batch, whose maps are all kept for the gradient:
PIXELS_AT_ONCE = 2**24  # fewer, where these would be more, such as 8 volumes of 128^3
COLUMNS = 4  # pairs of pictures in a row of the figure, fewer of wider drawings
TITLE_WIDTH = 38  # letters over two pictures
LINE = 0.16  # inches of a title's line


def class_activation(
    model: keras.Model,
    images: npt.ArrayLike,
    classes: npt.ArrayLike | None = None,
    layer: str | None = None,
) -> np.ndarray:
    """Show where in each picture, signal or volume the network sees a class: Grad-CAM.

    Each map of the layer is weighted with the mean gradient of the class's logit by the
    map's values. The sum of the weighted maps is cut off below 0 and enlarged to the
    picture, linearly along each axis. At a DenseNet's last maps, the default, it is how
    much each place adds to the logit (class activation mapping, Zhou et al. 2016).

    Args:
        model: A functional or sequential model, also with such models within. Where it
            ends in a softmax or a sigmoid, the logit is what that reads; else it is the
            model's output. A model that gives maps is looked at as if its classes were
            these maps, with a warning.
        images: Standardized pictures `(N, H, W, channels)`, signals `(N, T, channels)`
            or volumes `(N, D, H, W, channels)`; of a model of
            `data_format="channels_first"` the channels come after N.
        classes: The number of a class for each picture, `(N,)`; by default the most
            probable class. One unit, as of a sigmoid, has the number 0: the map is of
            what speaks for it.
        layer: Name of a layer with maps, such as "dense_block3", also of a model within
            this one; by default the last one.

    Returns:
        A float32 array in 0..1, each picture divided by its largest value, and all 0
        where no place speaks for the class: `(N, H, W)`, of signals `(N, T)`, of
        volumes `(N, D, H, W)`.

    Raises:
        ValueError: The model is of another kind, has no such layer or no maps, or reads
            pictures of another number of axes, or there are not as many classes as
            pictures; or its probability is 1 and comes from a layer that is not known,
            so that its gradient is lost.
    """
    images = np.asarray(images, "float32")
    _check_model(model, images)
    with_maps = _layer_with_maps(model, layer, images.ndim)
    is_first = _is_channels_first(model, with_maps)
    if classes is not None:
        classes = np.asarray(classes)
    _check_classes(classes, len(images), model.outputs[0].shape[1 if is_first else -1])
    size = images.shape[2:] if is_first else images.shape[1:-1]
    at_once = max(1, min(AT_ONCE, PIXELS_AT_ONCE // max(1, math.prod(size))))
    heat = [np.zeros((0, *size), "float32")]
    for first in range(0, len(images), at_once):
        batch = slice(first, first + at_once)
        chosen = None if classes is None else classes[batch]
        maps, gradients = _maps_and_gradients(
            model, with_maps, images[batch], chosen, is_first
        )
        if is_first:
            last = [0, *range(2, images.ndim), 1]
            maps, gradients = (tf.transpose(x, last) for x in (maps, gradients))
        heat.append(_heat(maps, gradients, size))
    return np.concatenate(heat)


def _check_model(model: keras.Model, images: np.ndarray) -> None:
    """Raise a `ValueError` unless a model gives a number for each class of pictures."""
    if not is_functional(model) or not model.built:
        raise ValueError(
            "class_activation needs a functional or sequential model that knows its "
            "input: begin it with keras.Input. Received: a "
            f"{type(model).__name__}."
        )
    more = images.ndim - len(model.inputs[0].shape)
    # Keras leaves out a last axis of one channel that the input does not have.
    fits = more == 0 or (more == 1 and images.shape[-1] == 1)
    if not fits or images.ndim not in SHAPES:
        raise ValueError(
            f"class_activation needs what {model.name} reads: "
            f"{' or '.join(SHAPES.values())}, with N of them in one array. Received: "
            f"images of shape {images.shape}, where the model's input is "
            f"{model.inputs[0].shape}."
        )
    shapes = [output.shape for output in model.outputs]
    if len(shapes) != 1 or len(shapes[0]) not in (2, images.ndim):
        raise ValueError(
            "class_activation needs a model that gives a number for each class, (N, "
            f"classes). Received: {model.name} with outputs of shape {shapes}."
        )
    if len(shapes[0]) > 2:
        warnings.warn(
            f"{model.name} returns feature maps, {shapes[0]}, and no classes, so that "
            "classes= is taken for the numbers of these maps. For classes give the "
            "whole model with its classifier; a network within it is found.",
            stacklevel=3,
        )


def _check_classes(classes: np.ndarray | None, count: int, num_classes: int) -> None:
    """Raise a `ValueError` unless there is a class's number for each picture."""
    if classes is None:
        return
    fits = classes.shape == (count,) and classes.dtype.kind in "iu"
    if not fits or not all(0 <= number < num_classes for number in classes):
        raise ValueError(
            "class_activation needs a class for each picture, a number in "
            f"0..{num_classes - 1}. Received: {count} pictures, classes "
            f"{classes.dtype} {classes.shape}."
        )


def _layer_with_maps(model: keras.Model, name: str | None, axes: int) -> keras.Layer:
    """Return the layer of a name, or the last one, whose output is maps."""
    layers = [layer for layer in layers_within(model) if layer._inbound_nodes]
    layers = [x for x in layers if not isinstance(x, keras.layers.InputLayer)]
    maps = [layer for layer in layers if len(layer.output.shape) == axes]
    if name is None:  # a model's output is that of a layer within it
        named = [layer for layer in maps if not is_functional(layer)]
    else:
        named = [layer for layer in maps if layer.name == name]
    if not named:
        raise ValueError(
            f"layer must name a layer with maps of {SHAPES[axes]}: "
            f"{', '.join(layer.name for layer in maps) or 'here none has any'}. "
            f"Received: layer={name!r}."
        )
    if name is None:
        _refuse_hidden_maps(layers[layers.index(named[-1]) + 1 :], named[-1], axes)
    return named[-1]


def _refuse_hidden_maps(
    after: Sequence[keras.Layer], chosen: keras.Layer, axes: int
) -> None:
    """Refuse to take maps before a layer that has later ones, which cannot be seen."""
    for layer in after:
        # A kernel has an axis for the maps that it makes, where maps have one for N.
        shapes = [len(w.shape) for w in layer.weights]
        if not is_functional(layer) and axes in shapes:
            raise ValueError(
                f"The last maps are inside of {layer.name}, a {type(layer).__name__} "
                "that cannot be looked into; the last ones before it are "
                f"{chosen.name}'s. Make {layer.name} a functional model, or name a "
                f"layer, such as layer={chosen.name!r}."
            )


def _is_channels_first(model: keras.Model, layer: keras.Layer) -> bool:
    known = [getattr(layer, "data_format", None)]
    known += [getattr(one, "data_format", None) for one in layers_within(model)]
    return next((one for one in known if one), "") == "channels_first"


def _maps_and_gradients(
    model: keras.Model,
    layer: keras.Layer,
    images: np.ndarray,
    classes: np.ndarray | None,
    is_first: bool,
) -> tuple[Tensor, Tensor]:
    """Return the maps of a layer, and the gradients of the classes' logits by them."""
    images = tf.convert_to_tensor(images)
    seen: list[Tensor] = []
    with without_last_activation(model):
        call = layer.call

        def noting(*args: Any, **kwargs: Any) -> Tensor:
            seen.append(call(*args, **kwargs))
            return seen[-1]

        with (
            replaced(layer, "call", noting),
            tf.GradientTape(watch_accessed_variables=False) as tape,
        ):
            tape.watch(images)
            logits = _for_each_class(model(images, training=False), is_first)
            if classes is None:
                classes = tf.argmax(logits, axis=1)
            scores = tf.gather(logits, classes, axis=1, batch_dims=1)  # (N,)
    maps = seen[-1]
    gradients = tape.gradient(scores, maps)
    if gradients is None:
        raise ValueError(
            f"The answer of {model.name} does not depend on the maps of {layer.name}. "
            "Name another layer with layer=."
        )
    _refuse_saturated(model, scores, gradients)
    return maps, gradients


def _for_each_class(outputs: Tensor, is_first: bool) -> Tensor:
    """Return a number for each class, `(N, classes)`: of maps their means."""
    places = range(2, outputs.shape.rank) if is_first else _places(outputs)
    return tf.reduce_mean(outputs, axis=list(places))


def _places(maps: Tensor) -> list[int]:
    """Return the axes between the first and the last: `[1, 2]` of `(N, H, W, C)`."""
    return list(range(1, maps.shape.rank - 1))


def _refuse_saturated(model: keras.Model, scores: Tensor, gradients: Tensor) -> None:
    """Refuse a probability of 1 whose logit is not known."""
    if last_activation(model).name != "unknown":
        return
    is_flat = tf.reduce_all(gradients == 0, axis=list(range(1, gradients.shape.rank)))
    if tf.reduce_any(is_flat & (scores == 1)):
        raise ValueError(
            f"{model.name} gives a probability of 1 by a last layer that is not known, "
            "so that its gradient is 0 and shows nothing. End the model in "
            'keras.layers.Softmax() or keras.layers.Activation("sigmoid"), or let it '
            "give logits."
        )


def _heat(maps: Tensor, gradients: Tensor, size: Sequence[int]) -> np.ndarray:
    """Return the heat `(N, H, W)` of maps `(N, h, w, C)`."""
    places = _places(maps)
    weights = tf.reduce_mean(gradients, axis=places, keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1))  # (N, h, w)
    heat = _enlarged(heat, size)  # (N, H, W)
    largest = tf.reduce_max(heat, axis=places, keepdims=True)
    return tf.math.divide_no_nan(heat, largest).numpy()


def _enlarged(heat: Tensor, size: Sequence[int]) -> Tensor:
    """Return heat `(N, h, w)` as `(N, *size)`, interpolated linearly along each axis.

    The centers of the places are spread evenly, and beyond the outermost ones nothing
    changes, as in PyTorch's `interpolate` with `align_corners=False`.
    """
    # A picture's resizing takes two axes at a time: those before them count as many
    # pictures, those after them as channels.
    for axis in range(1, len(size) + 1, 2):
        before, pair, after = np.split(heat.shape, [axis, axis + 2])
        wanted = size[axis - 1 : axis + 1]
        alone = [1] * (2 - len(pair))
        maps = [math.prod(before), *pair, *alone, math.prod(after)]
        heat = tf.image.resize(tf.reshape(heat, maps), [*wanted, *alone])
        heat = tf.reshape(heat, [*before, *wanted, *after])
    return heat


def plot_class_activation(
    pictures: np.ndarray,
    heat: np.ndarray,
    titles: Sequence[str],
    path: str | os.PathLike | None = None,
) -> Figure:
    """Draw each picture twice: as it is, and with its heat map laid over it.

    Of a volume three slices are drawn, axial, coronal and sagittal (across D, H and W),
    through the place of the greatest heat, or through the middle where there is none.
    They are in gray between the 1st and the 99th percentile of the volume's values. Of
    a signal the curves of its first channels are drawn, at most 6, one above another,
    each between its least and its greatest value.

    Args:
        pictures: Raw pictures, `(N, H, W, channels)` in 0..255: gray, RGB or RGBA. Or
            signals `(N, T, channels)` or volumes `(N, D, H, W, channels)`, finite and
            in any units.
        heat: What `class_activation` returns for them, in 0..1: `(N, H, W)`, of signals
            `(N, T)`, of volumes `(N, D, H, W)`.
        titles: A title for each picture, such as "cat 98 %"; a long one is broken into
            lines.
        path: Where to save the figure, if at all.

    Returns:
        The figure.

    Raises:
        ValueError: The numbers of pictures, heat maps and titles differ, or are 0, or
            the heat maps are not of the pictures' size.
    """
    _check_heat_of(pictures, heat, titles)
    wide = drawing_width(pictures[0])
    columns = min(max(1, COLUMNS // wide), len(pictures))
    rows = -(-len(pictures) // columns)
    texts, families = drawn_titles(titles, TITLE_WIDTH * wide)
    lines = max(text.count("\n") for text in texts)
    size = (3.4 * columns * wide + 0.6, (2.05 + LINE * lines) * rows + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, 2 * columns, squeeze=False)
    for axis in grid.flat:
        axis.axis("off")
    for number, (picture, map_, title) in enumerate(
        zip(pictures, heat, texts, strict=True)
    ):
        row, column = divmod(number, columns)
        left, right = grid[row, 2 * column : 2 * column + 2]
        raw = drawing(picture, map_)
        left.imshow(raw.picture)
        left.set_title(title, fontsize=9, loc="left", fontfamily=families)
        right.imshow(raw.picture)
        shown = right.imshow(raw.heat, cmap="jet", vmin=0, vmax=1, alpha=0.5)
    figure.colorbar(
        shown, ax=list(grid.flat), label="speaks for the class", shrink=0.8, pad=0.01
    )
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _check_heat_of(
    pictures: np.ndarray, heat: np.ndarray, titles: Sequence[str]
) -> None:
    """Raise a `ValueError` unless each picture has a title and heat of its size."""
    if not len(pictures) == len(heat) == len(titles) > 0:
        raise ValueError(
            "plot_class_activation needs one or more pictures, with a heat map and a "
            f"title each. Received: {len(pictures)} pictures, {len(heat)} heat maps, "
            f"{len(titles)} titles."
        )
    if np.shape(pictures)[:-1] != np.shape(heat):
        raise ValueError(
            "plot_class_activation needs heat maps of the pictures' size, without "
            f"channels. Received: pictures of shape {np.shape(pictures)}, heat maps of "
            f"shape {np.shape(heat)}."
        )
