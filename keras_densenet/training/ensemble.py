"""Several networks as one: their probabilities are averaged."""

import os
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np

from keras_densenet.callbacks.run import preprocessing_of
from keras_densenet.checkpoint_file import is_whole, read_state
from keras_densenet.devices.precision import dtype_policy, put_averages_into
from keras_densenet.errors import MisconfigurationError
from keras_densenet.model_output import ModelOutput, is_functional, output_of
from keras_densenet.tensor import Tensor
from keras_densenet.training.image_classifier import ImageClassifier

Member: TypeAlias = ImageClassifier | keras.Model | str | os.PathLike

LEAST = np.finfo("float32").tiny  # a probability whose logarithm is taken,
LARGEST = 1 - 1e-7  # and one whose logit is


def ensemble(members: Sequence[Member], name: str = "ensemble") -> keras.Model:
    """Return one network that answers the mean of several networks' probabilities.

    Such as those of several seeds, or of a cross-validation's folds (Lakshminarayanan
    et al. 2017). It is a `keras.Model` as any other: calibrate it, report on it, export
    it, with the data of the first member. It is not to be trained.

    Where members are checkpoints whose pictures were standardized otherwise than the
    first one's, theirs are standardized anew within the network.

    Args:
        members: Two or more: what was trained, models, or paths of checkpoints.
        name: The network's name.

    Returns:
        A network that takes what the first member takes, and ends in a softmax or in
        sigmoids as all members do. It has copies of their weights.

    Raises:
        MisconfigurationError: There are fewer than two; one is not trained, or no file
            of a model; they do not take and answer the same, or nobody knows whether
            what they answer is probabilities; they have other classes, or their
            pictures became the network's size otherwise.
    """
    if isinstance(members, str | os.PathLike | keras.Model) or len(members) < 2:
        raise MisconfigurationError(
            "ensemble takes two networks or more: kd.ensemble([module, "
            f"'other/best.keras']). Received: {members!r}"
        )
    models = [_model_of(member) for member in members]
    facts = [_facts(member) for member in members]
    output = _common_output(models)
    _refuse_other_facts(facts)
    pictures = keras.Input(models[0].input_shape[1:], name="images")
    answers = []
    for number, (model, own) in enumerate(zip(models, facts, strict=True), 1):
        copy = _copy(model, f"member{number}")
        numbers = copy(_prepared(pictures, facts[0], own))
        answers.append(output_of(model).activated(numbers))
    mean = keras.layers.Average(name="mean", dtype="float32")(answers)
    logits, last = keras.ops.log(keras.ops.maximum(mean, LEAST)), "softmax"
    if output.is_of_each_class:
        logits -= keras.ops.log1p(-keras.ops.minimum(mean, LARGEST))
        last = "sigmoid"
    probabilities = keras.layers.Activation(last, name="answer", dtype="float32")(
        logits
    )
    return keras.Model(pictures, probabilities, name=name)


def _model_of(member: Member) -> keras.Model:
    if isinstance(member, ImageClassifier):
        if member.model is None:
            raise MisconfigurationError(
                "A member of the ensemble is not trained yet: call fit first, or give "
                "the path of its checkpoint."
            )
        return _known(member.model)
    if isinstance(member, keras.Model):
        return _known(member)
    path = Path(member)
    if not path.is_file() or not is_whole(path):
        raise MisconfigurationError(
            f"{path} is no whole .keras file: give the path of a checkpoint, such as "
            "trainer.checkpoint_callback.best_model_path."
        )
    model = _loaded(path)
    put_averages_into(model)
    return _known(model)


def _loaded(path: Path) -> keras.Model:
    """Return a checkpoint's model, with its optimizer, which has averages of weights.

    Keras gives a model a loss scale optimizer where the policy that is set asks for it,
    and passes over what does not fit the optimizer that it has made.
    """
    with zipfile.ZipFile(path) as archive:
        is_scaled = b'"mixed_float16"' in archive.read("config.json")
    policy = "mixed_float16" if is_scaled else keras.config.dtype_policy().name
    with _told_of_unknown_code(str(path)), dtype_policy(policy):
        return keras.models.load_model(path)


@contextmanager
def _told_of_unknown_code(whose: str) -> Iterator[None]:
    """Tell what to do where Keras cannot make a model from its configuration."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras goes on half loaded
            yield
    except (TypeError, ValueError, UserWarning) as error:
        first: BaseException = error
        while first.__context__:
            first = first.__context__
        raise MisconfigurationError(
            f"{whose} cannot be made again: decorate classes and functions of your "
            "own with @keras.saving.register_keras_serializable(), and import them. "
            f"Keras says: {str(first).partition('. ')[0]}."
        ) from error


def _known(model: keras.Model) -> keras.Model:
    """Return a model, refusing one whose inside or answers are not known."""
    kind = output_of(model).kind
    if not is_functional(model) or not model.built or kind == "unknown":
        raise MisconfigurationError(
            f"{model.name} cannot be a member of an ensemble: members are functional "
            "or sequential models that begin with keras.Input, and end in a softmax, "
            "in sigmoids, or in logits with a loss that says which."
        )
    return model


def _common_output(models: Sequence[keras.Model]) -> ModelOutput:
    """Return what all models answer; they must take and answer the same."""
    outputs = [output_of(model) for model in models]
    found = {
        (model.input_shape[1:], model.output_shape[1:], output.is_of_each_class)
        for model, output in zip(models, outputs, strict=True)
    }
    if len(found) > 1:
        described = [
            f"{model.name}: {model.input_shape[1:]} to {model.output_shape[1:]}, "
            f"{output.kind}"
            for model, output in zip(models, outputs, strict=True)
        ]
        raise MisconfigurationError(
            "Networks of an ensemble must take pictures of one shape and answer the "
            "same classes, all by a softmax or all by sigmoids. Received: "
            f"{described}"
        )
    return outputs[0]


def _facts(member: Member) -> dict[str, Any]:
    """Return what is known of a member's classes and of how pictures are prepared."""
    if isinstance(member, keras.Model):
        return {}
    if isinstance(member, ImageClassifier):
        if member.data is None:
            return {}
        names = list(member.data.class_names)
        return {"class_names": names, **preprocessing_of(member.data)}
    state = read_state(Path(member))
    if state is None:
        return {}
    names = list(state.origin.get("class_names", ()))
    return {"class_names": names, **state.preprocessing}


def _refuse_other_facts(facts: Sequence[Mapping[str, Any]]) -> None:
    """Refuse members whose answers mean something else, or whose pictures differ."""
    for name in ("class_names", "fit"):
        found = [fact[name] for fact in facts if fact.get(name)]
        if any(value != found[0] for value in found):
            raise MisconfigurationError(
                f"Networks of an ensemble must have the same {name}. Received: "
                f"{', '.join(map(str, found))}"
            )

    known = [(f["mean"], f["std"]) for f in facts if "mean" in f and "std" in f]
    if "mean" not in facts[0] and any(one != known[0] for one in known):
        raise MisconfigurationError(
            "Pictures of an ensemble are standardized as for its first member. That "
            "does not say how, and the others were trained with several ways: let the "
            "first one be a checkpoint or an ImageClassifier. Received: mean and std "
            f"{known}"
        )


def _prepared(pictures: Tensor, first: Mapping, own: Mapping) -> Tensor:
    """Return pictures as a member reads them, from those of the first member."""
    known = [first.get("mean"), first.get("std"), own.get("mean"), own.get("std")]
    if None in known or known[:2] == known[2:]:
        return pictures
    mean, std, own_mean, own_std = map(np.array, known)
    scale, offset = std / own_std, (mean - own_mean) / own_std
    return keras.layers.Rescaling(scale.tolist(), offset.tolist())(pictures)


def _copy(model: keras.Model, name: str) -> keras.Model:
    """Return a copy with another name: two layers of a network must not share one."""
    with _told_of_unknown_code(model.name):
        copy = type(model).from_config({**model.get_config(), "name": name})
    copy.set_weights(model.get_weights())
    return copy
