"""What a served network can be asked: the signatures of a SavedModel.

Each takes and returns batches of any size. All share one function from pictures to
answers, so that the graph is stored once, as the weights are.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_densenet.data import resize_to_input, standardize
from keras_densenet.decisions import Decisions
from keras_densenet.export.decoding import COLORS, decode
from keras_densenet.export.inference import Network

EXAMPLE_FEATURE = "image/encoded"  # of a tf.Example, as TensorFlow's data sets name it
AT_ONCE = 4  # pictures decoded; each takes memory
NEVER = 1.01  # no probability is as high; of infinity 8 bits leave nothing to others
SERVED = ("logits", "probabilities", "decisions")
SERVED_OF_PIXELS = ("probabilities", "class_map")  # logits would be as many again


class Preprocessing(NamedTuple):
    """What evaluation does to a picture before the network sees it.

    What pictures alone have is None of signals and volumes, and where no picture is to
    be resized.

    Attributes:
        input_shape: `(H, W, channels)` of what the network sees, or `(T, channels)` or
            `(D, H, W, channels)`; None for any size. Of a picture one channel is gray,
            three are RGB, four RGBA.
        mean: Mean of each channel: in 0..255, of signals and volumes in their units.
        std: Standard deviation of each channel, likewise.
        short_side: Pixels that a picture's short side is resized to before its center
            is cut out, by "crop" alone.
        method: How `tf.image.resize` resizes: "bicubic" or "bilinear".
        fit: How a picture becomes H times W: "crop", "pad" or "squash", as
            `resize_to_input` takes it.
    """

    input_shape: tuple
    mean: Sequence[float]
    std: Sequence[float]
    short_side: int | None = None
    method: str | None = None
    fit: str | None = None

    @property
    def is_of_pictures(self) -> bool:
        """Whether it is of pictures, whose values are in 0..255."""
        return len(self.input_shape) == 3

    @property
    def takes_files(self) -> bool:
        """Whether pictures that come as files can be prepared for the network."""
        *size, channels = self.input_shape
        return self.is_of_pictures and None not in size and channels in COLORS

    def resized(self, image: Any) -> Any:
        """Return a picture in the network's size: float32 `(H, W, channels)`."""
        size, short_side, method = self.input_shape[:-1], self.short_side, self.method
        if None in size or short_side is None or method is None:
            raise ValueError(
                "Only pictures for a network of a known size can be resized: give "
                "short_side and method, and an input_shape without None. Received: "
                f"input_shape={self.input_shape}, short_side={short_side}, "
                f"method={method!r}"
            )
        return resize_to_input(image, size, short_side, method, self.fit)

    def raw(self, standardized: Any) -> Any:
        """Return arrays as they were before they were standardized."""
        mean, std = (np.array(values, "float32") for values in (self.mean, self.std))
        raw = standardized * std + mean
        return raw.round().clip(0, 255) if self.is_of_pictures else raw

    def decoded(self, encoded: Any) -> Any:
        """Return the pictures of files `(N,)`: float32 `(N, H, W, channels)`.

        They are in 0..255.
        """
        with tf.device("cpu:0"):
            return tf.map_fn(
                lambda file: self.resized(decode(file, self.input_shape[-1])),
                encoded,
                fn_output_signature=tf.TensorSpec(self.input_shape, tf.float32),
                parallel_iterations=AT_ONCE,
            )


class Signature(NamedTuple):
    """A function that is served, and what it takes."""

    function: Any  # a tf.function
    takes: tf.TensorSpec

    @classmethod
    def of(cls, function: Callable[[Any], Any], takes: tf.TensorSpec) -> "Signature":
        """Return the signature of a function, which is traced without AutoGraph."""
        traced = tf.function(function, input_signature=[takes], autograph=False)
        return cls(traced, takes)


class Serving:
    """What can be asked of any network that is served, and how pictures reach it.

    Args:
        preprocessing: What is done to a picture before the network sees it.
        class_names: One name for each class.
        top_k: How many of the most probable classes are named, k.
        decisions: Temperatures and thresholds of the labels; None for none.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        class_names: Sequence[str],
        top_k: int,
        decisions: Decisions | None = None,
    ) -> None:
        self.preprocessing = preprocessing
        self.class_names = list(class_names)
        self.top_k = top_k
        self.decisions = decisions
        shape = [None, *preprocessing.input_shape]
        self._images = tf.TensorSpec(shape, tf.float32, name="images")
        self._files = tf.TensorSpec([None], tf.string, name="image_bytes")
        self._examples = tf.TensorSpec([None], tf.string, name="inputs")
        self._decoded = Signature.of(preprocessing.decoded, self._files).function

    def signatures(self, network: Network) -> dict[str, Signature]:
        """Return the signatures of a network by their names.

        All outputs are float32 but `classes` (string) and `class_ids` (int32):

            serve          images (N, H, W, channels), float32, gray, RGB or RGBA in
                           0..255 -> logits (N, classes), probabilities (N, classes)
            predict_bytes  image_bytes (N,), files -> the same and the most probable:
                           classes, scores, class_ids (N, k)
            classify       inputs (N,), tf.Examples with "image/encoded" -> classes,
                           scores
            embed          images -> features (N, D), logits

        Signals are images (N, T, channels), volumes (N, D, H, W, channels), in their
        own units.

        Of a network that answers for each pixel `serve` and `predict_bytes` return
        probabilities (N, H, W, classes) and the most probable class as class_map
        (N, H, W), int32, in the network's size; there are no `classify` and `embed`.

        With decisions, `serve` and `predict_bytes` also return decisions (N, classes),
        bool: whether each label is given. Probabilities are then those at the
        temperatures, and logits are as they were.

        There are no `predict_bytes` and `classify` for a network that takes other than
        1, 3 or 4 channels, pictures of any size, or no pictures, and no `embed` where
        the last layer is not a classifier that is known.
        """
        answers = Signature.of(partial(self._answers, network), self._images).function
        served = {"serve": Signature.of(partial(_serve, answers), self._images)}
        if self.preprocessing.takes_files:
            of_files = Signature.of(partial(self._of_files, answers), self._files)
            served["predict_bytes"] = of_files
        given = answers.get_concrete_function().structured_outputs
        if "predict_bytes" in served and "class_map" not in given:
            classify = partial(_classify, served["predict_bytes"].function)
            served["classify"] = Signature.of(classify, self._examples)
        if "features" in given:
            served["embed"] = Signature.of(partial(_embed, answers), self._images)
        return served

    def answers(self, network: Network, images: Any) -> dict[str, Any]:
        """Return all that a network answers to raw pictures, one or more."""
        mean, std = self.preprocessing.mean, self.preprocessing.std
        answer = network.answers(standardize(images, mean, std))
        logits = answer["logits"]
        if len(logits.shape) > 2:
            answer["class_map"] = tf.argmax(logits, -1, tf.int32)
        return answer | self._decided(network, logits)

    def _decided(self, network: Network, logits: Any) -> dict[str, Any]:
        """Return the probabilities of logits, and what is decided by them."""
        if self.decisions is None:
            return {"probabilities": network.activation(logits)}
        temperatures = tf.constant(self.decisions.temperatures, logits.dtype)
        probabilities = network.activation(logits / temperatures)
        finite = np.minimum(self.decisions.thresholds, NEVER)
        thresholds = tf.constant(finite, probabilities.dtype)
        return {
            "probabilities": probabilities,
            "decisions": probabilities >= thresholds,
        }

    def _answers(self, network: Network, images: Any) -> dict[str, Any]:
        """Return all answers to any number of pictures; signatures choose from them."""
        count = tf.shape(images)[0]
        # A server does not hold requests to the shape that it is told of.
        with tf.control_dependencies([self._has_our_size(images)]):
            images = tf.identity(images)
        # oneDNN's convolutions fail on no pictures at all: then there is one.
        unpadded = [[0, 0]] * len(self.preprocessing.input_shape)
        some = tf.pad(images, [[0, tf.maximum(1 - count, 0)], *unpadded])
        answer = self.answers(network, some)
        return {name: values[:count] for name, values in answer.items()}

    def _has_our_size(self, images: Any) -> Any:
        """Return an assertion that pictures have the network's size.

        Others could be taken for more or fewer pictures of that size.
        """
        expected = [-1 if n is None else n for n in self.preprocessing.input_shape]
        fixed = tf.constant(expected)
        found = tf.shape(images)[1:]
        fits = tf.reduce_all((found == fixed) | (fixed == -1))
        named = ["any" if n is None else n for n in self.preprocessing.input_shape]
        shape = ", ".join(map(str, ["N", *named]))
        what = f"images must have shape ({shape}). Received, without N:"
        return tf.debugging.Assert(fits, [what, found])

    def _of_files(self, answers: Callable, image_bytes: Any) -> dict[str, Any]:
        answer = _serve(answers, self._decoded(image_bytes))
        if "class_map" in answer:
            return answer
        scores, ids = tf.math.top_k(answer["probabilities"], self.top_k)
        # A constant, where a lookup table would need to be initialised.
        names = tf.gather(tf.constant(self.class_names, tf.string), ids)
        return answer | {"classes": names, "scores": scores, "class_ids": ids}


def _serve(answers: Callable, images: Any) -> dict[str, Any]:
    answer = answers(images)
    return _only(answer, *served_of(answer))


def served_of(answer: dict[str, Any]) -> list[str]:
    """Return the names of what is served of all that a network answers."""
    names = SERVED_OF_PIXELS if "class_map" in answer else SERVED
    return [name for name in names if name in answer]


def _embed(answers: Callable, images: Any) -> dict[str, Any]:
    return _only(answers(images), "features", "logits")


def _classify(of_files: Callable, inputs: Any) -> dict[str, Any]:
    feature = {EXAMPLE_FEATURE: tf.io.FixedLenFeature([], tf.string)}
    files = tf.io.parse_example(inputs, feature)[EXAMPLE_FEATURE]
    return _only(of_files(files), "classes", "scores")


def _only(answer: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: answer[name] for name in names}
