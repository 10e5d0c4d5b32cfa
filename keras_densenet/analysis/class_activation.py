"""Where in a picture a network sees a class: Grad-CAM (Selvaraju et al. 2017).

It needs the TensorFlow backend.
"""

import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

AT_ONCE = 16  # pictures, whose maps are all kept for the gradient
COLUMNS = 4  # pairs of pictures in a row


def class_activation(
    model: keras.Model,
    images: Any,
    classes: Any = None,
    layer: str | None = None,
) -> np.ndarray:
    """Show where in each picture the network sees a class: Grad-CAM.

    Each map of the layer is weighted with the mean gradient of the class's logit by its
    values, the sum of the weighted maps cut off below 0 and enlarged to the picture. At
    a DenseNet's last maps, the default, that is how much each place adds to the logit
    (class activation mapping, Zhou et al. 2016).

    Args:
        model: Functional or sequential. Where its last layer is a softmax, or a dense
            layer with one, the logit is what goes into it; else what it gives.
        images: Standardised pictures `(N, H, W, channels)`.
        classes: The class's number of each picture, `(N,)`; by default the most
            probable one.
        layer: Name of a layer with maps, such as "dense_block3"; by default the last.
            Of a network within a model give the network, `model.get_layer(name)`.

    Returns:
        float32 `(N, H, W)` in 0..1, each picture divided by its largest value; all 0
        where nothing speaks for the class.

    Raises:
        ValueError: The model is of another kind, has no such layer or no maps, or there
            are not as many classes as pictures.
    """
    looked_at = _with_maps(model, layer)
    images = np.asarray(images, "float32")
    if classes is not None:
        classes = np.asarray(classes)
    _refuse(images, classes, looked_at.outputs[1].shape[-1])
    heat = [np.zeros((0, *images.shape[1:3]), "float32")]
    for first in range(0, len(images), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        chosen = None if classes is None else classes[some]
        heat.append(_heat(looked_at, images[some], chosen))
    return np.concatenate(heat)


def _refuse(images: np.ndarray, classes: np.ndarray | None, many: int) -> None:
    """Refuse what are no pictures, or not a class's number for each."""
    fits = images.ndim == 4
    if fits and classes is not None:
        fits = classes.shape == (len(images),) and classes.dtype.kind in "iu"
        fits = fits and all(0 <= number < many for number in classes)
    if not fits:
        given = "none" if classes is None else f"{classes.dtype} {classes.shape}"
        raise ValueError(
            "class_activation needs pictures (N, H, W, channels) and a class for each "
            f"of them, a number in 0..{many - 1}. Received: images {images.shape}, "
            f"classes {given}"
        )


def _with_maps(model: keras.Model, name: str | None) -> keras.Model:
    """Give a model that also gives a layer's maps, and the logits."""
    is_known = hasattr(model, "operations") or isinstance(model, keras.Sequential)
    if not is_known or not model.built:
        raise ValueError(
            "class_activation needs a functional or sequential model that knows its "
            f"input. Received: {type(model).__name__}"
        )
    # What is within another model has no maps in this one.
    others = (keras.layers.InputLayer, keras.Model)
    layers = [layer for layer in model.layers if not isinstance(layer, others)]
    maps = [layer for layer in layers if len(layer.output.shape) == 4]
    named = [layer for layer in maps if name in (None, layer.name)]
    if not named:
        raise ValueError(
            f"layer must have maps (N, H, W, channels), as "
            f"{', '.join(layer.name for layer in maps) or 'no layer here has'}. "
            f"Of a network within this one give that one. Received: layer={name!r}"
        )
    return keras.Model(model.inputs, [named[-1].output, _logits(model)])


def _logits(model: keras.Model) -> Any:
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


def _heat(looked_at: keras.Model, images: np.ndarray, classes: Any) -> np.ndarray:
    images = tf.convert_to_tensor(images)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        maps, logits = looked_at(images, training=False)  # (N, h, w, C), (N, classes)
        if classes is None:
            classes = tf.argmax(logits, axis=1)
        scores = tf.gather(logits, classes, axis=1, batch_dims=1)  # (N,)
    gradients = tape.gradient(scores, maps)
    if gradients is None:
        raise ValueError("The answer does not depend on that layer's maps.")
    weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1, keepdims=True))
    heat = tf.image.resize(heat, images.shape[1:3])[..., 0]  # (N, H, W)
    largest = tf.reduce_max(heat, axis=(1, 2), keepdims=True)
    return tf.math.divide_no_nan(heat, largest).numpy()


def plot_class_activation(
    pictures: Any,
    heat: Any,
    titles: Sequence[str],
    path: str | os.PathLike | None = None,
) -> Figure:
    """Draw pictures, each beside what `class_activation` gives laid over it.

    Args:
        pictures: Raw, `(N, H, W, 3)` in 0..255.
        heat: `(N, H, W)` in 0..1.
        titles: One a picture, such as "cat 98 %".
        path: Of a file, if it is to be saved.

    Raises:
        ValueError: There are not as many of one as of the others, or none.
    """
    if not len(pictures) == len(heat) == len(titles) > 0:
        raise ValueError(
            "There must be a picture, a heat map and a title each, one or more. "
            f"Received: {len(pictures)}, {len(heat)}, {len(titles)}"
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
        plain, over = grid[row, 2 * column : 2 * column + 2]
        raw = np.clip(picture, 0, 255).astype("uint8")
        plain.imshow(raw)
        # A dollar would begin a formula.
        plain.set_title(title.replace("$", r"\$"), fontsize=9, loc="left")
        over.imshow(raw)
        shown = over.imshow(map_, cmap="jet", vmin=0, vmax=1, alpha=0.5)
    figure.colorbar(
        shown, ax=list(grid.flat), label="speaks for the class", shrink=0.8, pad=0.01
    )
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure
