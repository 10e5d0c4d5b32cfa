"""The networks of the paper (arXiv 1608.06993) as functional Keras models.

    stem -> [dense block -> transition]* -> dense block -> BN -> ReLU
         -> global average pooling -> classifier

`DenseNet` and `DenseNetBC` are the small-image networks (CIFAR, SVHN: section 3,
"Implementation Details"), `DenseNet121` and its siblings those for ImageNet (Table 1).
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras.layers import (
    Dense,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPooling2D,
    ReLU,
    ZeroPadding2D,
)

from keras_densenet.layers import (
    BatchNorm,
    DenseBlock,
    Transition,
    channel_axis,
    check_growth_rate,
    checked_data_format,
    he_convolution,
)
from keras_densenet.tensor import Tensor
from keras_densenet.weights import load as load_weights

# Name: growth rate k, dense layers in each block. The first four are Table 1; 161 is
# the authors' release; the last two are the technical report's (arXiv 1707.06990).
IMAGENET_VARIANTS = {
    "DenseNet121": (32, (6, 12, 24, 16)),
    "DenseNet169": (32, (6, 12, 32, 32)),
    "DenseNet201": (32, (6, 12, 48, 32)),
    "DenseNet264": (32, (6, 12, 64, 48)),
    "DenseNet161": (48, (6, 12, 36, 24)),
    "DenseNet232k48": (48, (6, 12, 48, 48)),
    "DenseNet264k48": (48, (6, 12, 64, 48)),
}

SMALL_IMAGE_BLOCKS = 3  # on 32x32, 16x16 and 8x8 maps
IMAGENET_BLOCKS = 4  # on 56x56, 28x28, 14x14 and 7x7 maps


def DenseNet(  # noqa: N802, a function that reads as the network it makes
    depth: int = 40,
    growth_rate: int = 12,
    *,
    bottleneck: bool = False,
    compression: float = 1.0,
    classes: int = 10,
    input_shape: tuple = (32, 32, 3),
    dropout_rate: float = 0.0,
    memory_efficient: bool | str = False,
    sync_batchnorm: bool = False,
    name: str | None = None,
) -> keras.Model:
    """Build a DenseNet for small images: three dense blocks on 32x32, 16x16, 8x8.

    The defaults give the paper's basic network (k = 12, L = 40, 1.0M parameters);
    `bottleneck=True` makes it a DenseNet-B, `compression < 1` a DenseNet-C.

    Args:
        depth: L, the number of layers with weights: 3 n + 4, or 6 n + 4 with
            bottlenecks, for n >= 1 dense layers a block.
        growth_rate: k, the number of feature maps that each dense layer adds, >= 1.
        bottleneck: Whether a 1x1 convolution to 4k maps begins each dense layer.
        compression: theta in (0, 1], the share of maps that a transition keeps.
        classes: Number of classes, >= 1.
        input_shape: `(H, W, channels)`, H and W of 4 or more, or None for any size. The
            network expects standardized pictures: zero mean and unit variance in each
            channel over the training set.
        dropout_rate: Share of values dropped after each convolution except the first,
            in [0, 1); the paper's 0.2 is for training without augmentation.
        memory_efficient: What training computes again instead of storing it, with the
            same result: False for nothing, True for concatenation, normalization and
            ReLU, "full" for whole dense layers. The weights are the same in each.
        sync_batchnorm: Whether batch norms normalize over the batches of all replicas
            of a TensorFlow strategy, instead of over each replica's share.
        name: The model's name; by default it is made of depth and growth rate.

    Returns:
        A `keras.Model` from pictures `(N, H, W, channels)` to class probabilities
        `(N, classes)`, with layers `stem_conv`, `dense_block1`, `transition1`, ...

    Raises:
        ValueError: An argument is out of its range. Of a depth the error names the
            nearest valid ones.
    """
    _check_classes(classes)
    check_growth_rate(growth_rate)
    _check_size(input_shape, halvings=SMALL_IMAGE_BLOCKS - 1)
    layers_per_block = [_layers_per_block(depth, bottleneck)] * SMALL_IMAGE_BLOCKS
    bc = bottleneck and compression < 1
    inputs = keras.Input(input_shape, name="images")
    # Section 3: "a convolution with 16 (or twice the growth rate for DenseNet-BC)".
    x = he_convolution(2 * growth_rate if bc else 16, 3, name="stem_conv")(inputs)
    x = _dense_blocks(
        x,
        layers_per_block,
        growth_rate,
        bottleneck,
        compression,
        dropout_rate=dropout_rate,
        memory_efficient=memory_efficient,
        sync_batchnorm=sync_batchnorm,
    )
    outputs = _classifier(_pool(x, "avg"), classes, "softmax")
    default_name = f"densenet{'_bc' if bc else ''}_{depth}_{growth_rate}"
    return keras.Model(inputs, outputs, name=name or default_name)


def DenseNetBC(  # noqa: N802
    depth: int = 100,
    growth_rate: int = 12,
    compression: float = 0.5,
    classes: int = 10,
    input_shape: tuple = (32, 32, 3),
    dropout_rate: float = 0.0,
    memory_efficient: bool | str = False,
    sync_batchnorm: bool = False,
    name: str | None = None,
) -> keras.Model:
    """Build a DenseNet-BC for small images: bottlenecks (B) and compression (C).

    The defaults give the paper's DenseNet-BC (k = 12, L = 100): 0.8M parameters, 4.51 %
    error on CIFAR-10+. Arguments, result and errors are those of `DenseNet`; the depth
    is 6 n + 4, the stem makes 2k feature maps.

    Example:
        >>> DenseNetBC(depth=100, growth_rate=12).output_shape
        (None, 10)
    """
    return DenseNet(
        depth,
        growth_rate,
        bottleneck=True,
        compression=compression,
        classes=classes,
        input_shape=input_shape,
        dropout_rate=dropout_rate,
        memory_efficient=memory_efficient,
        sync_batchnorm=sync_batchnorm,
        name=name,
    )


def _imagenet_densenet(variant: str) -> Callable[..., keras.Model]:
    growth_rate, layers_per_block = IMAGENET_VARIANTS[variant]

    def build(
        weights: str | os.PathLike | None = None,
        include_top: bool = True,
        classes: int = 1000,
        input_shape: tuple = (224, 224, 3),
        pooling: str | None = None,
        classifier_activation: str | None = "softmax",
        *,
        dropout_rate: float = 0.0,
        memory_efficient: bool | str = False,
        sync_batchnorm: bool = False,
        name: str = variant.lower(),
    ) -> keras.Model:
        _check_classes(classes)
        _check_size(input_shape, halvings=IMAGENET_BLOCKS - 1, stem_halvings=2)
        _check_top(include_top, pooling)
        inputs = keras.Input(input_shape, name="images")
        x = _imagenet_stem(inputs, 2 * growth_rate, sync_batchnorm)
        x = _dense_blocks(
            x,
            layers_per_block,
            growth_rate,
            True,
            0.5,
            dropout_rate=dropout_rate,
            memory_efficient=memory_efficient,
            sync_batchnorm=sync_batchnorm,
        )
        x = _pool(x, "avg" if include_top else pooling)
        if include_top:
            x = _classifier(x, classes, classifier_activation)
        model = keras.Model(inputs, x, name=name)
        if weights is not None:
            load_weights(model, weights)
        return model

    build.__name__ = build.__qualname__ = variant
    build.__doc__ = _IMAGENET_DOC.format(
        variant, growth_rate, ", ".join(map(str, layers_per_block))
    )
    return build


_IMAGENET_DOC = """Build {} for ImageNet (Table 1): k = {}, blocks of
    {} dense layers, bottlenecks, compression 0.5.

    Args:
        weights: None for random weights; "imagenet" for those that
            `keras.applications` has of DenseNet 121, 169 and 201, and downloads; or a
            file of this package, keras.applications, torchvision or timm. See
            `keras_densenet.weights.load`.
        include_top: Whether the network ends in the classifier.
        classes: Number of classes, >= 1.
        input_shape: `(H, W, channels)`, H and W of 29 or more, or None for any size.
        pooling: Without the classifier: "avg" or "max" over each map, or None for the
            maps themselves.
        classifier_activation: "softmax", or None for logits.
        dropout_rate: Share of values dropped after each convolution except the first,
            in [0, 1); 0 in the paper.
        memory_efficient: What training computes again instead of storing it, with the
            same result: False for nothing, True for concatenation, normalization and
            ReLU, "full" for whole dense layers. The weights are the same in each.
        sync_batchnorm: Whether batch norms normalize over the batches of all replicas
            of a TensorFlow strategy, instead of over each replica's share.
        name: The model's name.

    Returns:
        A `keras.Model` from pictures `(N, H, W, channels)`, standardized by channel,
        to class probabilities `(N, classes)`.

    Raises:
        ValueError: An argument is out of its range, or the weights are those of another
            network, or cannot be downloaded or read.
    """

DenseNet121 = _imagenet_densenet("DenseNet121")
DenseNet169 = _imagenet_densenet("DenseNet169")
DenseNet201 = _imagenet_densenet("DenseNet201")
DenseNet264 = _imagenet_densenet("DenseNet264")
DenseNet161 = _imagenet_densenet("DenseNet161")
DenseNet232k48 = _imagenet_densenet("DenseNet232k48")
DenseNet264k48 = _imagenet_densenet("DenseNet264k48")


# --- the graph -------------------------------------------------------------------


def _imagenet_stem(x: Tensor, filters: int, sync_batchnorm: bool) -> Tensor:
    # Padded as in Torch, with 3 on all sides; "same" would pad 2 before and 3 after.
    x = ZeroPadding2D(3, name="stem_pad")(x)
    x = he_convolution(filters, 7, "valid", strides=2, name="stem_conv")(x)  # H / 2
    x = BatchNorm(synchronized=sync_batchnorm, name="stem_bn")(x)
    x = ReLU(name="stem_relu")(x)
    x = ZeroPadding2D(1, name="stem_pool_pad")(x)  # after ReLU no value is below zero
    return MaxPooling2D(3, strides=2, name="stem_pool")(x)  # H / 4


def _dense_blocks(
    x: Tensor,
    layers_per_block: Sequence[int],
    growth_rate: int,
    bottleneck: bool,
    compression: float,
    **options: Any,
) -> Tensor:
    for i, num_layers in enumerate(layers_per_block, start=1):
        if i > 1:
            x = Transition(compression, name=f"transition{i - 1}", **options)(x)
        x = DenseBlock(
            num_layers,
            growth_rate,
            bottleneck=bottleneck,
            name=f"dense_block{i}",
            **options,
        )(x)
    x = BatchNorm(synchronized=options["sync_batchnorm"], name="final_bn")(x)
    return ReLU(name="final_relu")(x)


def _pool(x: Tensor, pooling: str | None) -> Tensor:
    if pooling == "avg":
        return GlobalAveragePooling2D(name="global_average_pool")(x)
    if pooling == "max":
        return GlobalMaxPooling2D(name="global_max_pool")(x)
    return x


def _classifier(x: Tensor, classes: int, activation: str | None) -> Tensor:
    # In the precision of the weights: 16-bit logits would make a coarse loss.
    dtype = keras.config.dtype_policy().variable_dtype
    return Dense(classes, activation=activation, dtype=dtype, name="classifier")(x)


# --- checks of the arguments -----------------------------------------------------


def _layers_per_block(depth: int, bottleneck: bool) -> int:
    """Solve depth = 3 n + 4, or 6 n + 4 with bottlenecks, for n."""
    step = SMALL_IMAGE_BLOCKS * (2 if bottleneck else 1)
    num_layers, rest = divmod(depth - 4, step)
    if num_layers >= 1 and rest == 0:
        return num_layers
    below = max(num_layers, 1) * step + 4
    nearest = f"{below} or {below + step}" if num_layers >= 1 else f"{below} (smallest)"
    network = "DenseNet with bottlenecks (B, BC)" if bottleneck else "DenseNet"
    raise ValueError(
        f"A {network} of three blocks has depth {step} n + 4. The nearest valid: "
        f"{nearest}. Received: depth={depth}."
    )


def _check_classes(classes: int) -> None:
    if classes < 1:
        raise ValueError(
            "classes, the number of classes that the network tells apart, must be 1 or "
            f"more. Received: classes={classes}."
        )


def _check_size(input_shape: tuple, halvings: int, stem_halvings: int = 0) -> None:
    """Refuse an input that would have no pixels left before the last block."""
    if len(input_shape) != 3:
        raise ValueError(
            "input_shape must have three entries, such as (32, 32, 3), without the "
            f"batch. Received: input_shape={input_shape}."
        )
    axis = channel_axis(checked_data_format(None)) - 1  # input_shape has no batch axis
    sizes = [size for i, size in enumerate(input_shape) if i != axis]
    # The stem's strides round a size up, the transitions' pooling rounds it down.
    smallest = (2**halvings - 1) * 2**stem_halvings + 1
    if any(size is not None and size < smallest for size in sizes):
        raise ValueError(
            f"The input is halved {halvings + stem_halvings} times, so it must be "
            f"{smallest}x{smallest} or larger. Enlarge the pictures, or use a network "
            "for small images (DenseNet, DenseNetBC: 4x4 or larger). "
            f"Received: input_shape={input_shape}."
        )


def _check_top(include_top: bool, pooling: str | None) -> None:
    if pooling not in (None, "avg", "max"):
        raise ValueError(
            "pooling must be 'avg', 'max', or None for the maps themselves. Received: "
            f"pooling={pooling!r}."
        )
    if include_top and pooling == "max":
        raise ValueError(
            "The classifier reads averages, so that pooling='max' needs "
            "include_top=False. Leave pooling out, or the classifier. Received: "
            "pooling='max', include_top=True."
        )
