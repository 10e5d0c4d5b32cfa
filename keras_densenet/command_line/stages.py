"""The stages of the command line: what `python -m keras_densenet fit` and others do.

Their parameters are options. Needs neither Keras nor TensorFlow: `--help` is quick.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from keras_densenet.data import DataModule
    from keras_densenet.training import ImageClassifier, Trainer


TOP_OF_NEW = 5  # classes that are named of a picture that nobody has labeled


class Made(NamedTuple):
    """What a command line describes."""

    trainer: "Trainer"
    module: "ImageClassifier"
    data: "DataModule"


def fit(made: Made, ckpt_path: str | None = None) -> None:
    """Train, and keep checkpoints.

    Args:
        made: What to train.
        ckpt_path: Where to go on: a path, last or best.
    """
    made.trainer.fit(made.module, made.data, ckpt_path)


def validate(made: Made, ckpt_path: str | None = None) -> None:
    """Print loss and metrics on the validation pictures.

    Args:
        made: What to look at.
        ckpt_path: The checkpoint: a path, last or best.
    """
    made.trainer.validate(made.module, made.data, ckpt_path)


def test(made: Made, ckpt_path: str | None = None) -> None:  # noqa: PT028
    """Print loss and metrics on the test pictures.

    Args:
        made: What to look at.
        ckpt_path: The checkpoint: a path, last or best.
    """
    made.trainer.test(made.module, made.data, ckpt_path)


def calibrate(
    made: Made,
    ckpt_path: str | None = None,
    rule: str = "youden",
    temperature: bool = True,
) -> None:
    """Choose temperatures and thresholds by the validation pictures.

    Args:
        made: What to calibrate.
        ckpt_path: The checkpoint, which then keeps them: a path, last or best.
        rule: youden, f1, or such as sensitivity=0.9 or ppv=0.8.
        temperature: Whether temperatures are chosen, too.
    """
    made.trainer.calibrate(
        made.module, made.data, ckpt_path, rule=rule, temperature=temperature
    )


def predict(
    made: Made,
    ckpt_path: str | None = None,
    predictions: str = "predictions.csv",
    pictures: list[str] | None = None,
    views: Literal["flip", 10] | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> None:
    """Write the class of each picture to predict, or the probabilities of its labels.

    Args:
        made: What to ask.
        ckpt_path: The checkpoint: a path, last or best.
        predictions: The file to write, a line a picture; where each pixel has a class
            it is a folder of this name, without its ending, with a mask a picture.
        pictures: Pictures and folders of pictures, of which the five most probable
            classes are written; by default the data's test pictures, of which one is.
        views: flip for the mean with the mirror image, 10 for that of ten crops.
        on_error: What to do with broken ones of these pictures.
    """
    from keras_densenet.analysis import (
        write_class_maps,
        write_label_answers,
        write_predictions,
    )
    from keras_densenet.data import Pictures
    from keras_densenet.decisions import decisions_of

    data, top_k = made.data, 1
    if pictures is not None:
        data, top_k = Pictures(pictures, like=data, on_error=on_error), TOP_OF_NEW
    probabilities = made.trainer.predict(made.module, data, ckpt_path, views=views)
    names, files = data.class_names, data.predict_files()
    if made.data.labels == "pixels":
        predictions = str(Path(predictions).with_suffix(""))
        write_class_maps(predictions, probabilities, files)
    elif made.module.gives_several_labels:
        decisions = decisions_of(made.module.model) if made.module.model else None
        given = decisions.given(probabilities) if decisions else None
        write_label_answers(predictions, probabilities, names, files, given)
    else:
        write_predictions(predictions, probabilities, names, files, top_k)
    print(f"Wrote {predictions}")


def report(made: Made, ckpt_path: str | None = None, path: str | None = None) -> None:
    """Write a page about a run: curves, mistakes, feature reuse, costs.

    Args:
        made: What to report on.
        ckpt_path: The checkpoint: a path, last or best.
        path: Of the page; by default report.html in the run's folder.
    """
    made.trainer.report(made.module, made.data, ckpt_path, path)


def export(
    made: Made,
    export_dir: str,
    ckpt_path: str | None = None,
    format: Literal["savedmodel", "litert", "onnx"] = "savedmodel",  # noqa: A002
    quantize: Literal["dynamic", "int8"] | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
) -> None:
    """Write a SavedModel for TensorFlow Serving.

    Args:
        made: What to export.
        export_dir: Such as saved_models/cifar10, which gets a folder for this version;
            of other formats the file.
        ckpt_path: The checkpoint: a path, last or best.
        format: Of the file.
        quantize: Of litert.
        precision: Of a SavedModel.
    """
    made.trainer.export(
        made.module,
        export_dir,
        datamodule=made.data,
        ckpt_path=ckpt_path,
        format=format,
        quantize=quantize,
        precision=precision,
    )


STAGES: dict[str, Callable[..., None]] = {
    stage.__name__: stage
    for stage in (fit, validate, test, calibrate, predict, report, export)
}
