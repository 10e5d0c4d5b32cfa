"""The networks of the paper (arXiv 1608.06993) as functional Keras models.

    stem -> [dense block -> transition]* -> dense block -> BN -> ReLU
         -> global average pooling -> classifier

`DenseNet` makes them all, and any of blocks of your own. By a depth it is a network for
small images (CIFAR, SVHN: section 3, "Implementation Details"), and `DenseNetBC` is it
with bottlenecks and compression. `DenseNet121` and its siblings are those for ImageNet
(Table 1).
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
from keras.layers import Dense, ReLU

from keras_densenet.layers import (
    BatchNorm,
    DenseBlock,
    Stem,
    Transition,
    check_compression,
    check_growth_rate,
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
from keras_densenet.variants import IMAGENET_VARIANTS
from keras_densenet.weights import load as load_weights

SMALL_IMAGE_BLOCKS = 3  # on 32x32, 16x16 and 8x8 maps: what a depth is divided among
STEMS = {"small": 0, "imagenet": 2}  # name: how often it halves height and width


def DenseNet(  # noqa: N802, a function that reads as the network it makes
    depth: int | None = None,
    growth_rate: int = 12,
    *,
    blocks: Sequence[int] | None = None,
    bottleneck: bool = False,
    compression: float = 1.0,
    bn_size: int = 4,
    stem: Literal["small", "imagenet"] = "small",
    init_features: int | None = None,
    weights: str | os.PathLike | None = None,
    include_top: bool = True,
    classes: int = 10,
    input_shape: tuple = (32, 32, 3),
    pooling: str | None = None,
    classifier_activation: str | None = "softmax",
    output_stride: int | None = None,
    dropout_rate: float = 0.0,
    memory_efficient: bool | str = False,
    sync_batchnorm: bool = False,
    name: str | None = None,
) -> keras.Model:
    """Build a DenseNet of three equal blocks, by its depth, or of any blocks.

    The defaults give the paper's basic network for small images (k = 12, L = 40, 1.0M
    parameters), with dense blocks on 32x32, 16x16 and 8x8 maps; `bottleneck=True` makes
    it a DenseNet-B, `compression < 1` a DenseNet-C.

    Args:
        depth: L, the number of layers with weights: 3 n + 4, or 6 n + 4 with
            bottlenecks, for n >= 1 dense layers in each of three blocks; 40 if neither
            it nor `blocks` is given.
        growth_rate: k, the number of feature maps that each dense layer adds, >= 1.
        blocks: Instead of a depth, the number of dense layers in each block, such as
            `(6, 12, 24, 16)`: one block or more, each of one layer or more.
        bottleneck: Whether a 1x1 convolution begins each dense layer.
        compression: theta in (0, 1], the share of maps that a transition keeps.
        bn_size: Maps that the 1x1 convolution makes, divided by k, >= 1; the paper's 4.
        stem: What comes before the blocks: "small" for a 3x3 convolution; "imagenet"
            for a 7x7 convolution with stride 2, BN, ReLU and 3x3 max pooling with
            stride 2, which leave a quarter of height and width.
        init_features: Number of feature maps that the stem makes, >= 1; None for the
            paper's, 2k for a DenseNet-BC and for the "imagenet" stem, else 16.
        weights: None for random weights; a file of this package, torchvision, timm or
            MONAI; or "imagenet" for those that `keras.applications` has of DenseNet
            121, 169 and 201. See `keras_densenet.weights.load`.
        include_top: Whether the network ends in the classifier.
        classes: Number of classes, >= 1.
        input_shape: `(H, W, channels)` of pictures; `(T, channels)` of signals and
            `(D, H, W, channels)` of volumes make it a network of these, all else being
            the same in one and in three dimensions. None as H and W for any size. Each
            transition halves the size: with the "small" stem and three blocks H and W
            are 4 or more, with the "imagenet" stem and four blocks 29 or more. The
            network expects standardized pictures: zero mean and unit variance in each
            channel over the training set.
        pooling: Without the classifier: "avg" or "max" over each map, or None for the
            maps themselves.
        classifier_activation: "softmax" for one class a picture, "sigmoid" for a
            probability of each class by itself, or None for logits.
        output_stride: Height and width of the input divided by those of the last maps:
            None for what the stem and all transitions make of them, which is 32 with
            the "imagenet" stem and four blocks. With less, such as 16 or 8, the last
            transitions keep the size, and the blocks after them are dilated instead
            (Yu and Koltun 2016). The weights are the same; and in inference so is every
            second pixel of the maps at 16, and every fourth at 8, where height and
            width are multiples of 32.
        dropout_rate: Share of values dropped after each convolution except the first,
            in [0, 1); the paper's 0.2 is for training without augmentation. Torchvision
            and MONAI drop after the last convolution of each dense layer alone, not
            after bottlenecks and transitions.
        memory_efficient: What training computes again instead of storing it, with the
            same result: False for nothing, True for concatenation, normalization and
            ReLU, "full" for whole dense layers and the "imagenet" stem. The weights are
            the same in each.
        sync_batchnorm: Whether batch norms normalize over the batches of all replicas
            of a TensorFlow strategy, instead of over each replica's share.
        name: The model's name; by default it is made of depth or blocks, and of the
            growth rate.

    Returns:
        A `keras.Model` from pictures `(N, H, W, channels)` to class probabilities or
        logits `(N, classes)`, without the classifier to maps `(N, h, w, C)` or vectors
        `(N, C)`; with layers `stem_conv` (`stem` with the "imagenet" stem),
        `dense_block1`, `transition1`, ...

    Raises:
        ValueError: An argument is out of its range (of a depth the error names the
            nearest valid ones), or the weights are those of another network, or cannot
            be downloaded or read.
        FileNotFoundError: There is no such file of weights.

    Examples:
        >>> DenseNet(blocks=(2, 3), growth_rate=8, bottleneck=True, bn_size=2).name
        'densenet_2_3_k8'
    """
    if blocks is None:
        depth = 40 if depth is None else depth
        layers_per_block = [_layers_per_block(depth, bottleneck)] * SMALL_IMAGE_BLOCKS
    else:
        layers_per_block = checked_blocks(blocks, depth)
    check_classes(classes)
    check_growth_rate(growth_rate)
    check_compression(compression)
    _check_stem(stem, init_features)
    transitions = len(layers_per_block) - 1
    halvings = _halvings(output_stride, transitions, STEMS[stem])
    check_size(input_shape, halvings, STEMS[stem])
    _check_top(include_top, pooling)
    bc = bottleneck and compression < 1
    if init_features is None:
        # Section 3: "a convolution with 16 (or twice the growth rate for DenseNet-BC)".
        init_features = 2 * growth_rate if bc or stem == "imagenet" else 16
    inputs = keras.Input(input_shape, name="images")
    x = _stem(
        inputs,
        stem,
        init_features,
        memory_efficient=memory_efficient,
        sync_batchnorm=sync_batchnorm,
    )
    x = _dense_blocks(
        x,
        layers_per_block,
        growth_rate,
        bottleneck,
        bn_size,
        compression,
        halvings,
        dropout_rate=dropout_rate,
        memory_efficient=memory_efficient,
        sync_batchnorm=sync_batchnorm,
    )
    x = _pool(x, "avg" if include_top else pooling)
    if include_top:
        x = _classifier(x, classes, classifier_activation)
    name = name or _default_name(depth, layers_per_block, growth_rate, bc)
    model = keras.Model(inputs, x, name=name)
    if weights is not None:
        load_weights(model, weights)
    return model


def DenseNetBC(  # noqa: N802
    depth: int | None = None,
    growth_rate: int = 12,
    compression: float = 0.5,
    classes: int = 10,
    input_shape: tuple = (32, 32, 3),
    dropout_rate: float = 0.0,
    memory_efficient: bool | str = False,
    sync_batchnorm: bool = False,
    name: str | None = None,
    *,
    blocks: Sequence[int] | None = None,
    bn_size: int = 4,
    stem: Literal["small", "imagenet"] = "small",
    init_features: int | None = None,
    weights: str | os.PathLike | None = None,
    include_top: bool = True,
    pooling: str | None = None,
    classifier_activation: str | None = "softmax",
    output_stride: int | None = None,
) -> keras.Model:
    """Build a DenseNet-BC: bottlenecks (B) and compression (C).

    The defaults give the paper's DenseNet-BC for small images (k = 12, L = 100): 0.8M
    parameters, 4.51 % error on CIFAR-10+. Arguments, result and errors are those of
    `DenseNet`; the depth is 6 n + 4, or 100 if neither it nor `blocks` is given, and
    the stem makes 2k feature maps.

    Examples:
        >>> DenseNetBC(depth=100, growth_rate=12).output_shape
        (None, 10)
    """
    if depth is None and blocks is None:
        depth = 100
    return DenseNet(bottleneck=True, **locals())  # the arguments are all its locals


def _imagenet_densenet(variant: str) -> Callable[..., keras.Model]:
    growth_rate, blocks = IMAGENET_VARIANTS[variant]

    def build(
        weights: str | os.PathLike | None = None,
        include_top: bool = True,
        classes: int = 1000,
        input_shape: tuple = (224, 224, 3),
        pooling: str | None = None,
        classifier_activation: str | None = "softmax",
        *,
        output_stride: int | None = None,
        dropout_rate: float = 0.0,
        memory_efficient: bool | str = False,
        sync_batchnorm: bool = False,
        name: str = variant.lower(),
    ) -> keras.Model:
        return DenseNet(
            blocks=blocks,
            growth_rate=growth_rate,
            bottleneck=True,
            compression=0.5,
            stem="imagenet",
            weights=weights,
            include_top=include_top,
            classes=classes,
            input_shape=input_shape,
            pooling=pooling,
            classifier_activation=classifier_activation,
            output_stride=output_stride,
            dropout_rate=dropout_rate,
            memory_efficient=memory_efficient,
            sync_batchnorm=sync_batchnorm,
            name=name,
        )

    build.__name__ = build.__qualname__ = variant
    build.__doc__ = _IMAGENET_DOC.format(
        variant, growth_rate, ", ".join(map(str, blocks))
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
            `(T, channels)` makes it a network of signals, `(D, H, W, channels)` one of
            volumes.
        pooling: Without the classifier: "avg" or "max" over each map, or None for the
            maps themselves.
        classifier_activation: "softmax" for one class a picture, "sigmoid" for a
            probability of each class by itself, or None for logits.
        output_stride: Height and width of the input divided by those of the last maps:
            32, or None for it; or 16 or 8 (or 4), for which the last transitions keep
            the size, and the blocks after them are dilated. The weights are the same.
        dropout_rate: Share of values dropped after each convolution except the first,
            in [0, 1); 0 in the paper.
        memory_efficient: What training computes again instead of storing it, with the
            same result: False for nothing, True for concatenation, normalization and
            ReLU, "full" for whole dense layers and the stem. The weights are the same
            in each.
        sync_batchnorm: Whether batch norms normalize over the batches of all replicas
            of a TensorFlow strategy, instead of over each replica's share.
        name: The model's name.

    Returns:
        A `keras.Model` from pictures `(N, H, W, channels)`, standardized by channel,
        to class probabilities or logits `(N, classes)`, without the classifier to maps
        `(N, h, w, C)` or vectors `(N, C)`.

    Raises:
        ValueError: An argument is out of its range, or the weights are those of another
            network, or cannot be downloaded or read.
        FileNotFoundError: There is no such file of weights.
    """

DenseNet121 = _imagenet_densenet("DenseNet121")
DenseNet169 = _imagenet_densenet("DenseNet169")
DenseNet201 = _imagenet_densenet("DenseNet201")
DenseNet264 = _imagenet_densenet("DenseNet264")
DenseNet161 = _imagenet_densenet("DenseNet161")
DenseNet232k48 = _imagenet_densenet("DenseNet232k48")
DenseNet264k48 = _imagenet_densenet("DenseNet264k48")


# --- the graph -------------------------------------------------------------------


def _stem(x: Tensor, stem: str, filters: int, **options: Any) -> Tensor:
    if stem == "imagenet":
        return Stem(filters, name="stem", **options)(x)
    return he_convolution(filters, 3, rank=_rank(x), name="stem_conv")(x)


def _rank(x: Tensor) -> int:
    """Return 1 for signals `(N, T, C)`, 2 for pictures, 3 for volumes."""
    return len(x.shape) - 2


def _dense_blocks(
    x: Tensor,
    layers_per_block: Sequence[int],
    growth_rate: int,
    bottleneck: bool,
    bn_size: int,
    compression: float,
    halvings: int,
    **options: Any,
) -> Tensor:
    dilation_rate = 1
    for i, num_layers in enumerate(layers_per_block, start=1):
        if i > 1:
            strides = 2 if i - 1 <= halvings else 1
            x = Transition(
                compression,
                strides=strides,
                dilation_rate=dilation_rate,
                name=f"transition{i - 1}",
                **options,
            )(x)
            dilation_rate *= 2 // strides
        x = DenseBlock(
            num_layers,
            growth_rate,
            bottleneck=bottleneck,
            bn_size=bn_size,
            dilation_rate=dilation_rate,
            name=f"dense_block{i}",
            **options,
        )(x)
    x = BatchNorm(synchronized=options["sync_batchnorm"], name="final_bn")(x)
    return ReLU(name="final_relu")(x)


def _pool(x: Tensor, pooling: str | None) -> Tensor:
    if pooling == "avg":
        return of_rank("GlobalAveragePooling", _rank(x))(name="global_average_pool")(x)
    if pooling == "max":
        return of_rank("GlobalMaxPooling", _rank(x))(name="global_max_pool")(x)
    return x


def _classifier(x: Tensor, classes: int, activation: str | None) -> Tensor:
    # In the precision of the weights: 16-bit logits would make a coarse loss.
    dtype = keras.config.dtype_policy().variable_dtype
    return Dense(classes, activation=activation, dtype=dtype, name="classifier")(x)


def _default_name(
    depth: int | None, layers_per_block: Sequence[int], growth_rate: int, bc: bool
) -> str:
    """Return a network's name, of its depth if that is known, else of its blocks.

    >>> _default_name(None, (6, 12, 24, 16), 32, bc=True)
    'densenet_bc_6_12_24_16_k32'
    """
    kind = "densenet_bc" if bc else "densenet"
    if depth is not None:
        return f"{kind}_{depth}_{growth_rate}"
    return f"{kind}_{'_'.join(map(str, layers_per_block))}_k{growth_rate}"


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


def _check_stem(stem: str, init_features: int | None) -> None:
    if stem not in STEMS:
        raise ValueError(
            "stem must be 'small' (a 3x3 convolution) or 'imagenet' (a 7x7 convolution "
            "with stride 2, and pooling). Choose one of them. Received: "
            f"stem={stem!r}."
        )
    if init_features is not None:
        check_init_features(init_features)


def _halvings(output_stride: int | None, transitions: int, stem_halvings: int) -> int:
    """Return how many transitions halve height and width: the first ones."""
    strides = [2 ** (stem_halvings + i) for i in range(transitions + 1)]
    if output_stride is None:
        return transitions
    if output_stride not in strides:
        raise ValueError(
            "output_stride, by which height and width of the input are divided, can be "
            f"{', '.join(map(str, strides))} with this stem and these blocks, or None "
            f"for {strides[-1]}. Received: output_stride={output_stride!r}."
        )
    return strides.index(output_stride)


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
