"""Where in a picture a network sees a class: Grad-CAM (Selvaraju et al. 2017).

It needs the TensorFlow backend.
"""

import os
from collections.abc import Sequence

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from matplotlib.figure import Figure

from keras_densenet.tensor import Tensor

AT_ONCE = 16  # pictures in a batch, whose maps are all kept for the gradient
COLUMNS = 4  # pairs of pictures in a row of the figure


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
        model: A functional or sequential model. Where its last layer is a softmax, or a
            dense layer with one, the logit is what the softmax reads; else it is the
            model's output.
        images: Standardized pictures `(N, H, W, channels)`.
        classes: The number of a class for each picture, `(N,)`; by default the most
            probable class.
        layer: Name of a layer with maps, such as "dense_block3"; by default the last
            one. For a network inside of a model pass `model.get_layer(name)` as the
            model.

    Returns:
        A float32 array `(N, H, W)` in 0..1, each picture divided by its largest value;
        all 0 where no place speaks for the class.

    Raises:
        ValueError: The model is of another kind, has no such layer or no maps, or there
            are not as many classes as pictures.
    """
    maps_and_logits = _maps_and_logits(model, layer)
    images = np.asarray(images, "float32")
    if classes is not None:
        classes = np.asarray(classes)
    _check_pictures(images, classes, maps_and_logits.outputs[1].shape[-1])
    heat = [np.zeros((0, *images.shape[1:3]), "float32")]
    for first in range(0, len(images), AT_ONCE):
        batch = slice(first, first + AT_ONCE)
        chosen = None if classes is None else classes[batch]
        heat.append(_heat(maps_and_logits, images[batch], chosen))
    return np.concatenate(heat)


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


def _maps_and_logits(model: keras.Model, name: str | None) -> keras.Model:
    """Build a model from pictures to the maps of a layer, and the logits."""
    is_known = hasattr(model, "operations") or isinstance(model, keras.Sequential)
    if not is_known or not model.built:
        raise ValueError(
            "class_activation needs a functional or sequential model that knows its "
            "input: begin it with keras.Input. Received: a "
            f"{type(model).__name__}."
        )
    # A layer inside of another model has no maps in this one.
    others = (keras.layers.InputLayer, keras.Model)
    layers = [layer for layer in model.layers if not isinstance(layer, others)]
    maps = [layer for layer in layers if len(layer.output.shape) == 4]
    named = [layer for layer in maps if name in (None, layer.name)]
    if not named:
        raise ValueError(
            "layer must name a layer with maps (N, H, W, channels): "
            f"{', '.join(layer.name for layer in maps) or 'here none has any'}. "
            "If a network within this one has them, pass that network. Received: "
            f"layer={name!r}."
        )
    return keras.Model(model.inputs, [named[-1].output, _logits(model)])


def _logits(model: keras.Model) -> Tensor:
    last = model.layers[-1]
    if isinstance(last, keras.layers.Softmax):
        return last.input
    is_softmax = getattr(last, "activation", None) is keras.activations.softmax
    if is_softmax and isinstance(last, keras.layers.Activation):
        return last.input
    if is_softmax and isinstance(last, keras.layers.Dense):
        logits = keras.ops.matmul(last.input, last.kernel)
        return logits if last.bias is None else logits + last.bias
    return model.outputs[0]


def _heat(
    maps_and_logits: keras.Model, images: np.ndarray, classes: np.ndarray | None
) -> np.ndarray:
    images = tf.convert_to_tensor(images)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        # (N, h, w, C), (N, classes)
        maps, logits = maps_and_logits(images, training=False)
        if classes is None:
            classes = tf.argmax(logits, axis=1)
        scores = tf.gather(logits, classes, axis=1, batch_dims=1)  # (N,)
    gradients = tape.gradient(scores, maps)
    if gradients is None:
        raise ValueError(
            "The answer does not depend on the maps of that layer. Name another layer."
        )
    weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1, keepdims=True))
    heat = tf.image.resize(heat, images.shape[1:3])[..., 0]  # (N, H, W)
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
        pictures: Raw pictures, `(N, H, W, 3)` in 0..255.
        heat: What `class_activation` returns for them, `(N, H, W)` in 0..1.
        titles: A title for each picture, such as "cat 98 %".
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
    size = (3.4 * columns + 0.6, 2.05 * rows + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, 2 * columns, squeeze=False)
    for axis in grid.flat:
        axis.axis("off")
    for number, (picture, map_, title) in enumerate(
        zip(pictures, heat, titles, strict=True)
    ):
        row, column = divmod(number, columns)
        left, right = grid[row, 2 * column : 2 * column + 2]
        raw = np.clip(picture, 0, 255).astype("uint8")
        left.imshow(raw)
        # A dollar sign would begin a formula.
        left.set_title(title.replace("$", r"\$"), fontsize=9, loc="left")
        right.imshow(raw)
        shown = right.imshow(map_, cmap="jet", vmin=0, vmax=1, alpha=0.5)
    figure.colorbar(
        shown, ax=list(grid.flat), label="speaks for the class", shrink=0.8, pad=0.01
    )
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure
