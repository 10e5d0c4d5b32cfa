"""DenseNet-BC as other Keras code builds it, to be measured beside ours."""

from collections.abc import Callable
from typing import Any

import keras
from keras.layers import Activation, BatchNormalization, Concatenate, Dense

IMAGENET = {121: (6, 12, 24, 16)}  # depth: dense layers in each block


def functional(depth: int, growth_rate: int, shape: tuple[int, ...]) -> keras.Model:
    """Build DenseNet-BC layer by layer in the functional API, with Keras's own BN.

    The layers are those of signals, pictures or volumes, as the shape says. Of depth
    121 it is DenseNet-121, with the stem of ImageNet.
    """

    def dense_block(x: Any, num_layers: int, name: str) -> Any:
        del name
        for _ in range(num_layers):
            z = _conv(_bn_relu(x), 4 * growth_rate, 1)
            new = _conv(_bn_relu(z), growth_rate, 3)
            x = Concatenate()([x, new])
        return x

    def transition(x: Any, name: str) -> Any:
        del name
        x = _conv(_bn_relu(x), x.shape[-1] // 2, 1)
        return _of_rank("AveragePooling", x)(2)(x)

    return _network(depth, growth_rate, shape, dense_block, transition)


def applications(depth: int, growth_rate: int, shape: tuple[int, ...]) -> keras.Model:
    """Build DenseNet-BC from the blocks of `keras.applications.DenseNet121`."""
    from keras.src.applications import densenet

    def dense_block(x: Any, num_layers: int, name: str) -> Any:
        for i in range(num_layers):
            x = densenet.conv_block(x, growth_rate, name=f"{name}_layer{i}")
        return x

    def transition(x: Any, name: str) -> Any:
        return densenet.transition_block(x, 0.5, name=name)

    return _network(depth, growth_rate, shape, dense_block, transition)


def _network(
    depth: int,
    growth_rate: int,
    shape: tuple[int, ...],
    dense_block: Callable[[Any, int, str], Any],
    transition: Callable[[Any, str], Any],
) -> keras.Model:
    inputs = keras.Input(shape)
    blocks = IMAGENET.get(depth)
    if blocks:
        x = _bn_relu(_conv(inputs, 64, 7, strides=2))
        x = _of_rank("MaxPooling", x)(3, strides=2, padding="same")(x)
    else:
        x = _conv(inputs, 2 * growth_rate, 3)
    for i, num_layers in enumerate(blocks or [(depth - 4) // 6] * 3):
        x = transition(x, f"transition{i}") if i else x
        x = dense_block(x, num_layers, f"block{i}")
    x = _of_rank("GlobalAveragePooling", inputs)()(_bn_relu(x))
    return keras.Model(inputs, Dense(10, activation="softmax")(x))


def _bn_relu(x: Any) -> Any:
    x = BatchNormalization(epsilon=1e-5, momentum=0.9)(x)
    return Activation("relu")(x)


def _conv(x: Any, filters: int, kernel_size: int, **options: Any) -> Any:
    return _of_rank("Conv", x)(
        filters,
        kernel_size,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        **options,
    )(x)


def _of_rank(kind: str, x: Any) -> Any:
    """Return Keras's layer of a kind for signals, pictures or volumes."""
    return getattr(keras.layers, f"{kind}{len(x.shape) - 2}D")
