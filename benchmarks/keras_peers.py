"""DenseNet-BC as other Keras code builds it, to be measured beside ours."""

from collections.abc import Callable
from typing import Any

import keras
from keras.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    GlobalAveragePooling2D,
)


def functional(depth: int, growth_rate: int, image_size: int) -> keras.Model:
    """Build DenseNet-BC layer by layer in the functional API, with Keras's own BN."""

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
        return AveragePooling2D(2)(x)

    return _network(depth, growth_rate, image_size, dense_block, transition)


def applications(depth: int, growth_rate: int, image_size: int) -> keras.Model:
    """Build DenseNet-BC from the blocks of `keras.applications.DenseNet121`."""
    from keras.src.applications import densenet

    def dense_block(x: Any, num_layers: int, name: str) -> Any:
        for i in range(num_layers):
            x = densenet.conv_block(x, growth_rate, name=f"{name}_layer{i}")
        return x

    def transition(x: Any, name: str) -> Any:
        return densenet.transition_block(x, 0.5, name=name)

    return _network(depth, growth_rate, image_size, dense_block, transition)


def _network(
    depth: int,
    growth_rate: int,
    image_size: int,
    dense_block: Callable[[Any, int, str], Any],
    transition: Callable[[Any, str], Any],
) -> keras.Model:
    inputs = keras.Input((image_size, image_size, 3))
    x = _conv(inputs, 2 * growth_rate, 3)
    for i in range(3):
        x = transition(x, f"transition{i}") if i else x
        x = dense_block(x, (depth - 4) // 6, f"block{i}")
    x = GlobalAveragePooling2D()(_bn_relu(x))
    return keras.Model(inputs, Dense(10, activation="softmax")(x))


def _bn_relu(x: Any) -> Any:
    x = BatchNormalization(epsilon=1e-5, momentum=0.9)(x)
    return Activation("relu")(x)


def _conv(x: Any, filters: int, kernel_size: int) -> Any:
    return Conv2D(
        filters,
        kernel_size,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
    )(x)
