"""Where in a picture a network sees a class: Grad-CAM (Selvaraju et al. 2017).

It needs the TensorFlow backend.
"""

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
from keras_densenet.analysis.drawn_pictures import drawn
from keras_densenet.analysis.inside import (
    layers_within,
    replaced,
    without_last_activation,
)
from keras_densenet.model_output import is_functional, last_activation
from keras_densenet.tensor import Tensor

AT_ONCE = 16  # pictures in a batch, whose maps are all kept for the gradient
COLUMNS = 4  # pairs of pictures in a row of the figure
TITLE_WIDTH = 38  # letters over two pictures
LINE = 0.16  # inches of a title's line


def class_activation(
    model: keras.Model,
    images: npt.ArrayLike,
    classes: npt.ArrayLike | None = None,
    layer: str | None = None,
) -> np.ndarray:
    """Show where in each picture the network sees a class: Grad-CAM.

    Each map of the layer is weighted with the mean gradient of the class's logit by the
    map's values. The sum of the weighted maps is cut off below 0 and enlarged to the
    picture. At a DenseNet's last maps, the default, it is how much each place adds to
    the logit (class activation mapping, Zhou et al. 2016).

    Args:
        model: A functional or sequential model, also with such models within. Where it
            ends in a softmax or a sigmoid, the logit is what that reads; else it is the
            model's output. A model that gives maps is looked at as if its classes were
            these maps, with a warning.
        images: Standardized pictures `(N, H, W, channels)`, or `(N, channels, H, W)` of
            a model of `data_format="channels_first"`.
        classes: The number of a class for each picture, `(N,)`; by default the most
            probable class. One unit, as of a sigmoid, has the number 0: the map is of
            what speaks for it.
        layer: Name of a layer with maps, such as "dense_block3", also of a model within
            this one; by default the last one.

    Returns:
        A float32 array `(N, H, W)` in 0..1, each picture divided by its largest value;
        all 0 where no place speaks for the class.

    Raises:
        ValueError: The model is of another kind, has no such layer or no maps, or there
            are not as many classes as pictures; or its probability is 1 and comes from
            a layer that is not known, so that its gradient is lost.
    """
    _check_model(model)
    with_maps = _layer_with_maps(model, layer)
    is_first = _is_channels_first(model, with_maps)
    images = np.asarray(images, "float32")
    if classes is not None:
        classes = np.asarray(classes)
    axis = 1 if is_first else -1
    _check_pictures(images, classes, model.outputs[0].shape[axis])
    size = images.shape[2:] if is_first else images.shape[1:3]
    heat = [np.zeros((0, *size), "float32")]
    for first in range(0, len(images), AT_ONCE):
        batch = slice(first, first + AT_ONCE)
        chosen = None if classes is None else classes[batch]
        maps, gradients = _maps_and_gradients(
            model, with_maps, images[batch], chosen, is_first
        )
        if is_first:
            maps, gradients = (tf.transpose(x, [0, 2, 3, 1]) for x in (maps, gradients))
        heat.append(_heat(maps, gradients, size))
    return np.concatenate(heat)


def _check_model(model: keras.Model) -> None:
    """Raise a `ValueError` unless a model gives a number for each class."""
    if not is_functional(model) or not model.built:
        raise ValueError(
            "class_activation needs a functional or sequential model that knows its "
            "input: begin it with keras.Input. Received: a "
            f"{type(model).__name__}."
        )
    shapes = [output.shape for output in model.outputs]
    if len(shapes) != 1 or len(shapes[0]) not in (2, 4):
        raise ValueError(
            "class_activation needs a model that gives a number for each class, (N, "
            f"classes). Received: {model.name} with outputs of shape {shapes}."
        )
    if len(shapes[0]) == 4:
        warnings.warn(
            f"{model.name} gives maps, {shapes[0]}, so that classes are taken for "
            "numbers of these maps. For classes give the whole model, its classifier "
            "included: a network within it is looked into.",
            stacklevel=3,
        )


def _check_pictures(
    images: np.ndarray, classes: np.ndarray | None, num_classes: int
) -> None:
    """Raise a `ValueError` unless there are pictures with a class's number for each."""
    fits = images.ndim == 4
    if fits and classes is not None:
        fits = classes.shape == (len(images),) and classes.dtype.kind in "iu"
        fits = fits and all(0 <= number < num_classes for number in classes)
    if not fits:
        given = "none" if classes is None else f"{classes.dtype} {classes.shape}"
        raise ValueError(
            "class_activation needs pictures (N, H, W, channels) and a class for each "
            f"of them, a number in 0..{num_classes - 1}. Received: images of shape "
            f"{images.shape}, classes {given}."
        )


def _layer_with_maps(model: keras.Model, name: str | None) -> keras.Layer:
    """Return the layer of a name, or the last one, whose output is maps."""
    layers = [layer for layer in layers_within(model) if layer._inbound_nodes]
    layers = [x for x in layers if not isinstance(x, keras.layers.InputLayer)]
    maps = [layer for layer in layers if len(layer.output.shape) == 4]
    if name is None:  # a model's output is that of a layer within it
        named = [layer for layer in maps if not is_functional(layer)]
    else:
        named = [layer for layer in maps if layer.name == name]
    if not named:
        raise ValueError(
            "layer must name a layer with maps (N, H, W, channels): "
            f"{', '.join(layer.name for layer in maps) or 'here none has any'}. "
            f"Received: layer={name!r}."
        )
    if name is None:
        _refuse_hidden_maps(layers[layers.index(named[-1]) + 1 :], named[-1])
    return named[-1]


def _refuse_hidden_maps(after: Sequence[keras.Layer], chosen: keras.Layer) -> None:
    """Refuse to take maps before a layer that has later ones, which cannot be seen."""
    for layer in after:
        shapes = [len(w.shape) for w in layer.weights]
        if not is_functional(layer) and 4 in shapes:
            raise ValueError(
                f"The last maps are inside of {layer.name}, a {type(layer).__name__} "
                f"that cannot be looked into; those before it are {chosen.name}'s. "
                "Make it a functional model, or name a layer, such as "
                f"layer={chosen.name!r}."
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
            "The answer does not depend on the maps of that layer. Name another layer."
        )
    _refuse_saturated(model, scores, gradients)
    return maps, gradients


def _for_each_class(outputs: Tensor, is_first: bool) -> Tensor:
    """Return a number for each class, `(N, classes)`: of maps their means."""
    if len(outputs.shape) == 2:
        return outputs
    return tf.reduce_mean(outputs, axis=(2, 3) if is_first else (1, 2))


def _refuse_saturated(model: keras.Model, scores: Tensor, gradients: Tensor) -> None:
    """Refuse a probability of 1 whose logit is not known."""
    if last_activation(model).name != "unknown":
        return
    is_flat = tf.reduce_all(gradients == 0, axis=(1, 2, 3))
    if tf.reduce_any(is_flat & (scores == 1)):
        raise ValueError(
            f"{model.name} gives a probability of 1 by a layer that is not known, and "
            "the gradient of it is 0. End the model in keras.layers.Softmax(), "
            'keras.layers.Activation("sigmoid"), or give logits.'
        )


def _heat(maps: Tensor, gradients: Tensor, size: Sequence[int]) -> np.ndarray:
    """Return the heat `(N, H, W)` of maps `(N, h, w, C)`."""
    weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1, keepdims=True))
    heat = tf.image.resize(heat, size)[..., 0]  # (N, H, W)
    largest = tf.reduce_max(heat, axis=(1, 2), keepdims=True)
    return tf.math.divide_no_nan(heat, largest).numpy()


def plot_class_activation(
    pictures: np.ndarray,
    heat: np.ndarray,
    titles: Sequence[str],
    path: str | os.PathLike | None = None,
) -> Figure:
    """Draw each picture twice: as it is, and with its heat map laid over it.

    Args:
        pictures: Raw pictures, `(N, H, W, channels)` in 0..255: gray, RGB or RGBA.
        heat: What `class_activation` returns for them, `(N, H, W)` in 0..1.
        titles: A title for each picture, such as "cat 98 %"; a long one is broken into
            lines.
        path: Where to save the figure, if at all.

    Returns:
        The figure.

    Raises:
        ValueError: The numbers of pictures, heat maps and titles differ, or are 0.
    """
    if not len(pictures) == len(heat) == len(titles) > 0:
        raise ValueError(
            "plot_class_activation needs one or more pictures, with a heat map and a "
            f"title each. Received: {len(pictures)} pictures, {len(heat)} heat maps, "
            f"{len(titles)} titles."
        )
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    texts, families = drawn_titles(titles, TITLE_WIDTH)
    lines = max(text.count("\n") for text in texts)
    size = (3.4 * columns + 0.6, (2.05 + LINE * lines) * rows + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, 2 * columns, squeeze=False)
    for axis in grid.flat:
        axis.axis("off")
    for number, (picture, map_, title) in enumerate(
        zip(pictures, heat, texts, strict=True)
    ):
        row, column = divmod(number, columns)
        left, right = grid[row, 2 * column : 2 * column + 2]
        raw = drawn(picture)
        left.imshow(raw)
        left.set_title(title, fontsize=9, loc="left", fontfamily=families)
        right.imshow(raw)
        shown = right.imshow(map_, cmap="jet", vmin=0, vmax=1, alpha=0.5)
    figure.colorbar(
        shown, ax=list(grid.flat), label="speaks for the class", shrink=0.8, pad=0.01
    )
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure
