"""The fully convolutional DenseNet: a class for each pixel (Jegou et al. 2017).

"The One Hundred Layers Tiramisu: Fully Convolutional DenseNets for Semantic
Segmentation", arXiv 1611.09326:

    stem -> [dense block -> transition down]* -> bottleneck
         -> [transition up, skip connection, dense block]* -> classifier

On the way down a dense block's maps go on together with its input, and both are what
the skip connection passes to the way up. On the way up only the new maps of a block go
on to the next transition (section 3.1): with its input their number would explode.
"""

from collections.abc import Sequence
from typing import Any

import keras

from keras_densenet.layers import (
    ChannelSlice,
    DenseBlock,
    SkipConnection,
    Transition,
    check_growth_rate,
    checked_data_format,
    he_convolution,
    of_rank,
)
from keras_densenet.model_arguments import (
    check_classes,
    check_init_features,
    check_size,
    checked_blocks,
)
from keras_densenet.tensor import Tensor
from keras_densenet.variants import FC_VARIANTS

INITIALIZER = "he_uniform"


def FCDenseNet(  # noqa: N802, a function that reads as the network it makes
    depth: int | None = None,
    growth_rate: int | None = None,
    *,
    blocks: Sequence[int] | None = None,
    init_features: int = 48,
    classes: int = 11,
    input_shape: tuple = (224, 224, 3),
    classifier_activation: str | None = "softmax",
    dropout_rate: float = 0.2,
    memory_efficient: bool | str = False,
    sync_batchnorm: bool = False,
    name: str | None = None,
) -> keras.Model:
    """Build an FC-DenseNet, which tells the class of each pixel.

    The defaults give FC-DenseNet103 with the 11 classes of CamVid. Convolutions have no
    bias, which batch norm would take away, except the last one; the authors' code has
    them everywhere. Weights are drawn from He's uniform distribution, by fan-in, as in
    the paper: the classifier reads maps that no batch norm has scaled.

    Args:
        depth: 56, 67 or 103, the networks of the paper; 103 if neither it nor `blocks`
            is given.
        growth_rate: k, the number of feature maps that each dense layer adds, >= 1;
            None for the paper's: 12 of depth 56, else 16.
        blocks: Instead of a depth, the number of dense layers in each block, in the
            order of use: those on the way down, the bottleneck, and as many on the way
            up, such as `(4, 5, 7, 5, 4)`.
        init_features: Number of feature maps that the 3x3 convolution at the beginning
            makes, >= 1.
        classes: Number of classes, >= 1.
        input_shape: `(H, W, channels)` of pictures; `(T, channels)` of signals and
            `(D, H, W, channels)` of volumes make it a network of these. None as H and W
            for any size. The size need not be a multiple of anything, but with n
            blocks on the way down it is 2^n or more, 32 in the paper's networks.
        classifier_activation: "softmax" for one class a pixel, "sigmoid" for a
            probability of each class by itself, or None for logits.
        dropout_rate: Share of values dropped after each convolution of dense layers and
            of transitions down, in [0, 1); 0.2 in the paper.
        memory_efficient: What training computes again instead of storing it, with the
            same result: False for nothing, True for concatenation, normalization and
            ReLU, "full" for whole dense layers. The weights are the same in each.
        sync_batchnorm: Whether batch norms normalize over the batches of all replicas
            of a TensorFlow strategy, instead of over each replica's share.
        name: The model's name; by default it is made of the depth or the blocks.

    Returns:
        A `keras.Model` from pictures `(N, H, W, channels)`, standardized by channel, to
        class probabilities or logits of each pixel, `(N, H, W, classes)`; with layers
        `stem_conv`, `dense_block1`, `transition_down1`, ..., `transition_up1`, `skip1`,
        ..., `classifier`.

    Raises:
        ValueError: An argument is out of its range.

    Examples:
        >>> FCDenseNet(56, input_shape=(64, 96, 3)).output_shape
        (None, 64, 96, 11)
    """
    if blocks is None:
        depth = 103 if depth is None else depth
        growth_rate, layers_per_block = _of_depth(depth, growth_rate)
    else:
        layers_per_block = _checked_ways(checked_blocks(blocks, depth))
        growth_rate = 16 if growth_rate is None else growth_rate
    pools = len(layers_per_block) // 2
    check_growth_rate(growth_rate)
    check_init_features(init_features)
    check_classes(classes)
    check_size(input_shape, pools)
    _refuse_channels_first()
    inputs = keras.Input(input_shape, name="images")
    rank = len(input_shape) - 1
    stem = he_convolution(
        init_features,
        3,
        rank=rank,
        kernel_initializer=INITIALIZER,
        name="stem_conv",
    )
    x = stem(inputs)
    x = _down_and_up(
        x,
        layers_per_block,
        growth_rate,
        dropout_rate=dropout_rate,
        kernel_initializer=INITIALIZER,
        memory_efficient=memory_efficient,
        sync_batchnorm=sync_batchnorm,
    )
    x = _classifier(x, classes, classifier_activation)
    return keras.Model(inputs, x, name=name or _default_name(depth, layers_per_block))


# --- the graph -------------------------------------------------------------------


def _down_and_up(
    x: Tensor, layers_per_block: Sequence[int], growth_rate: int, **options: Any
) -> Tensor:
    blocks = [
        DenseBlock(
            num_layers,
            growth_rate,
            bottleneck=False,
            name=f"dense_block{i}",
            **options,
        )
        for i, num_layers in enumerate(layers_per_block, start=1)
    ]
    pools = len(blocks) // 2
    skips = []
    for i, block in enumerate(blocks[:pools], start=1):
        x = block(x)
        skips.append(x)
        down = Transition(1.0, pooling="max", name=f"transition_down{i}", **options)
        x = down(x)
    for i, block in enumerate(blocks[pools:-1], start=1):
        new_maps = ChannelSlice(begin=x.shape[-1], name=f"new_maps{i}")
        x = _upsampling(new_maps(block(x)), name=f"transition_up{i}")
        x = SkipConnection(name=f"skip{i}")([x, skips.pop()])
    return blocks[-1](x)


def _upsampling(x: Tensor, name: str) -> Tensor:
    """Double the size: 2 n + 1 pixels of n, of which the skip connection cuts some."""
    rank = len(x.shape) - 2
    return getattr(keras.layers, f"Conv{rank}DTranspose")(
        x.shape[-1],
        3,
        strides=2,
        padding="valid",
        use_bias=False,
        kernel_initializer=INITIALIZER,
        name=name,
    )(x)


def _classifier(x: Tensor, classes: int, activation: str | None) -> Tensor:
    # In the precision of the weights: 16-bit logits would make a coarse loss.
    dtype = keras.config.dtype_policy().variable_dtype
    return of_rank("Conv", len(x.shape) - 2)(
        classes,
        1,
        activation=activation,
        kernel_initializer=INITIALIZER,
        dtype=dtype,
        name="classifier",
    )(x)


def _default_name(depth: int | None, layers_per_block: Sequence[int]) -> str:
    if depth is not None:
        return f"fc_densenet{depth}"
    return f"fc_densenet_{'_'.join(map(str, layers_per_block))}"


# --- checks of the arguments -----------------------------------------------------


def _of_depth(depth: int, growth_rate: int | None) -> tuple[int, Sequence[int]]:
    """Return the growth rate, and how many layers each block has."""
    if depth not in FC_VARIANTS:
        raise ValueError(
            f"The paper's FC-DenseNets have depth {', '.join(map(str, FC_VARIANTS))}. "
            "Choose one of them, or say blocks, such as (4, 5, 7, 5, 4). Received: "
            f"depth={depth!r}."
        )
    usual_rate, layers_per_block = FC_VARIANTS[depth]
    return usual_rate if growth_rate is None else growth_rate, layers_per_block


def _checked_ways(blocks: Sequence[int]) -> Sequence[int]:
    if len(blocks) % 2 == 0 or len(blocks) < 3:
        raise ValueError(
            "blocks are those on the way down, the bottleneck, and as many on the way "
            "up as down: an odd number of 3 or more, such as (4, 5, 7, 5, 4). "
            f"Received: blocks={tuple(blocks)}."
        )
    return blocks


def _refuse_channels_first() -> None:
    if checked_data_format(None) == "channels_first":
        raise ValueError(
            "FCDenseNet tells the classes along the last axis. Use 'channels_last' "
            "(keras.config.set_image_data_format('channels_last'))."
        )
