"""Stronger augmentation than the paper's: mixup, cutmix, cutout, RandAugment.

It is off by default. The layers are Keras's. Left alone, each draws from a generator of
its own, and what it does depends on what it did before. Here each is given the
generator `Drawn` instead, whose numbers depend on the seed of the picture or of the
batch alone, so that a training can be resumed.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import keras
import tensorflow as tf

from keras_densenet.tensor import Tensor

OPTIONS = ("mixup", "cutmix", "cutout", "rand_augment")
OPERATIONS = 2  # of RandAugment, for each picture
EACH, WHICH, MIX, CUTOUT = range(4)  # each draws from a seed of its own


class Drawn(keras.random.SeedGenerator):
    """A generator whose seeds are a function of one seed and of how many were drawn.

    Args:
        seed: Two integers, shape `(2,)`.
    """

    def __init__(self, seed: Tensor) -> None:
        # Keras's own would make a variable, which has a state.
        self.seed = seed
        self.drawn = 0

    def next(self, ordered: bool = True) -> Tensor:
        """Return the next seed."""
        self.drawn += 1
        return tf.random.fold_in(self.seed, self.drawn)


class StrongAugmentation:
    """Mixup, cutmix, cutout and RandAugment, each if it is asked for.

    Args:
        classes: Number of classes.
        options: The strength of each, 0..1. One that is missing is not done:

            mixup: Alpha of mixup (Zhang et al. 2018); 0.2 is common.
            cutmix: Alpha of cutmix (Yun et al. 2019); 1.0 is common. If mixup is asked
                for, too, each batch has one of the two.
            cutout: Side of the square that is painted in mean color, as a share of
                the picture's (DeVries and Taylor 2017); 0.5 on CIFAR-10. Keras's lies
                within the picture, where the paper's may hang over its edge.
            rand_augment: Strength of two operations a picture (Cubuk et al. 2019).

    Attributes:
        mixes: Whether labels are mixed. Then they are probabilities `(N, classes)` in
            all datasets, and the loss is `keras.losses.CategoricalCrossentropy`, the
            metric `keras.metrics.CategoricalAccuracy`: `ImageClassifier` sees to it.

    Raises:
        ValueError: `options` has another name, or a strength that is not in 0..1.
    """

    def __init__(self, classes: int, options: Mapping[str, float] | None) -> None:
        options = dict(options or {})
        refuse_unknown(options)
        mixup, cutmix, cutout, rand_augment = (options.get(name, 0) for name in OPTIONS)
        self.classes = classes
        self._mixing = [keras.layers.MixUp(mixup, **_PLAIN)] if mixup else []
        if cutmix:
            self._mixing.append(keras.layers.CutMix((cutmix, cutmix), **_PLAIN))
        area = (cutout**2, cutout**2)
        erasing = partial(keras.layers.RandomErasing, (1, 1), area, 0.0, **_PLAIN)
        self._cutout = erasing() if cutout else None
        self._each = _operations(rand_augment) if rand_augment else []
        self.mixes = mixes_labels(options)

    def picture(self, image: Tensor, seed: Tensor) -> Tensor:
        """Change one picture by RandAugment.

        Args:
            image: `(H, W, channels)` in 0..255, gray or RGB.
            seed: Two integers, shape `(2,)`.

        Returns:
            float32 `(H, W, channels)` in 0..255, or `image` if nothing is to be done.
        """
        if not self._each:
            return image
        changed = tf.cast(image, tf.float32)[tf.newaxis]
        for turn in range(OPERATIONS):
            drawn = tf.random.fold_in(tf.random.fold_in(seed, EACH), turn)
            which = tf.random.stateless_uniform(
                [], drawn, maxval=len(self._each), dtype=tf.int32
            )
            kinds: list[Callable] = [
                partial(_changed, layer, changed, tf.random.fold_in(drawn, 1))
                for layer in self._each
            ]
            changed = tf.ensure_shape(tf.switch_case(which, kinds), changed.shape)
        return tf.clip_by_value(changed[0], 0.0, 255.0)

    def pictures(self, images: Tensor, seed: Tensor) -> Tensor:
        """Change each picture of a batch, as `picture` does, by a seed of its own."""
        if not self._each:
            return images
        numbers = tf.range(tf.shape(images)[0])
        return tf.map_fn(
            lambda n: self.picture(images[n], tf.random.fold_in(seed, n)),
            numbers,
            fn_output_signature=tf.TensorSpec(images.shape[1:], tf.float32),
        )

    def batch(
        self, images: Tensor, labels: Tensor, seed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Change a whole batch by cutout, then by mixup or cutmix.

        Args:
            images: `(N, H, W, channels)`, standardized: cutout paints with 0, the mean
                color.
            labels: Class numbers `(N,)`.
            seed: Two integers, shape `(2,)`.

        Returns:
            The pictures, and the labels as `labels` returns them.
        """
        labels = self.labels(labels)
        if self._cutout is not None:
            drawn = tf.random.fold_in(seed, CUTOUT)
            images = _changed(self._cutout, images, drawn)
        if not self._mixing:
            return images, labels
        drawn = tf.random.fold_in(seed, MIX)
        kinds = [
            partial(_mixed, layer, images, labels, drawn) for layer in self._mixing
        ]
        which = tf.random.stateless_uniform(
            [], tf.random.fold_in(seed, WHICH), maxval=len(kinds), dtype=tf.int32
        )
        mixed, shares = tf.switch_case(which, kinds)
        return tf.ensure_shape(mixed, images.shape), shares

    def labels(self, labels: Tensor) -> Tensor:
        """Return class numbers `(N,)`; where they mix, probabilities `(N, classes)`."""
        return tf.one_hot(labels, self.classes) if self.mixes else labels


def mixes_labels(options: Mapping[str, float] | None) -> bool:
    """Return whether labels are mixed, and are probabilities.

    >>> mixes_labels({"cutmix": 1.0}), mixes_labels({"cutout": 0.5, "mixup": 0.0})
    (True, False)
    """
    options = options or {}
    return bool(options.get("mixup") or options.get("cutmix"))


# Whatever Keras's global policy and data format are.
_PLAIN = {"dtype": "float32", "data_format": "channels_last"}


def _operations(m: float) -> list:
    """Make the layers of `keras.layers.RandAugment`, of strength `m`.

    Keras's own draw for a whole batch; some of them move or brighten in one direction
    only, and some do the less, the stronger they should be.
    """
    layers = keras.layers
    # Pixels above a threshold in 255 (1 - m)..255 are inverted; Keras takes the lower
    # end as it is, and the upper one times 255.
    solarization = layers.Solarization(m, 1.0, **_PLAIN)
    solarization.threshold_factor = (255 * (1 - m), 1.0)
    return [
        layers.RandomShear(m, m, **_PLAIN),
        layers.RandomTranslation(m, m, **_PLAIN),
        layers.RandomRotation(m, **_PLAIN),
        layers.RandomBrightness(m, **_PLAIN),
        layers.RandomColorDegeneration(m, **_PLAIN),
        layers.RandomContrast((m, m), **_PLAIN),
        layers.RandomSharpness((0.5 - m / 2, 0.5 + m / 2), **_PLAIN),  # 0.5 is none
        layers.RandomPosterization((8 - round(7 * m), 8), **_PLAIN),  # bits kept
        solarization,
        layers.AutoContrast(**_PLAIN),
        layers.Equalization(**_PLAIN),
    ]


def _changed(layer: keras.Layer, images: Tensor, seed: Tensor) -> Tensor:
    change = layer.get_random_transformation(images, training=True, seed=Drawn(seed))
    return layer.transform_images(images, change, training=True)


def _mixed(
    layer: keras.Layer, images: Tensor, labels: Tensor, seed: Tensor
) -> tuple[Tensor, Tensor]:
    both = {"images": images, "labels": labels}
    change = layer.get_random_transformation(both, training=True, seed=Drawn(seed))
    return (
        layer.transform_images(images, change, training=True),
        layer.transform_labels(labels, change, training=True),
    )


def refuse_unknown(
    options: Mapping[str, float], input_shape: Sequence[int] = (32, 32, 3)
) -> None:
    """Refuse options of other names, strengths that are not in 0..1, and other colors.

    Args:
        options: As `StrongAugmentation` takes them.
        input_shape: Of the pictures, `(H, W, channels)`.

    Raises:
        ValueError: There are such, or they are for signals or volumes, which Keras's
            layers do not take; or RandAugment of pictures that are neither gray nor
            RGB: it would brighten and solarize alpha as it does colors.
    """
    wrong = {
        name: value
        for name, value in options.items()
        if name not in OPTIONS or not 0 <= value <= 1
    }
    if wrong:
        raise ValueError(
            f"strong takes {', '.join(OPTIONS)}, each in 0..1. Received: {wrong}"
        )
    if any(options.values()) and len(input_shape) in (2, 4):
        raise ValueError(
            f"{', '.join(OPTIONS)} are for pictures (H, W, channels), and these have "
            f"the shape {tuple(input_shape)}: leave strong out. augment=True shifts "
            "them, and mirrors them with mirror=."
        )
    channels = input_shape[-1]
    if options.get("rand_augment") and channels not in (1, 3):
        raise ValueError(
            "rand_augment changes gray and RGB pictures, of 1 or 3 channels, and here "
            f"are {channels}: leave it out of strong, which may have the others."
        )
