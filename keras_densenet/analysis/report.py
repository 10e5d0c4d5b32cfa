"""The report of a run: one page that needs no network and no program but a browser."""

import base64
import datetime
import io
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from keras_densenet.analysis.curves import plot_curves, read_metrics
from keras_densenet.analysis.drawn_pictures import drawn
from keras_densenet.analysis.feature_reuse import (
    feature_reuse,
    observe_feature_reuse,
    plot_feature_reuse,
)
from keras_densenet.analysis.gradient_flow import gradient_flow, plot_gradient_flow
from keras_densenet.analysis.predictions import (
    LabelPredictions,
    Mistake,
    Predictions,
    plot_confusion,
    plot_reliability,
)
from keras_densenet.analysis.profile import MEMORY_MODES, Profile, profile
from keras_densenet.tensor import Tensor
from keras_densenet.whole_file import whole_file

THUMBNAIL = 160  # pixels of the longer side of a mistake's picture
SEVERAL_LABELS = (
    "pictures have several labels or none, so that no class is taken for another. Each "
    "label is looked at by itself: it is given where its probability is 1/2 or more."
)
MANY_CLASSES = 10  # with more classes than this the top-5 error is shown, too


def write_report(
    path: str | os.PathLike,
    model: keras.Model,
    predictions: Predictions | LabelPredictions,
    *,
    title: str,
    pictures: str = "test",
    run: str | os.PathLike | None = None,
    batch: tuple[Tensor, Tensor] | None = None,
) -> Path:
    """Write one self-contained HTML page about a trained network.

    It shows learning curves, what the network confuses, its worst mistakes as pictures,
    how far its confidence can be believed, which layers use which features, how
    gradients flow, what the network costs, and what it was made with. All pictures are
    inside the page, which has no script and loads nothing from other hosts.

    Args:
        path: Path of the page, such as "report.html". Its folder is made.
        model: The network. A part that cannot be drawn is replaced by the reason.
        predictions: The network's predictions for labeled pictures. Of several labels a
            picture there are scores for each label.
        title: Title of the page.
        pictures: Name of the set that the pictures belong to, such as "test".
        run: Folder of the run, whose `metrics.csv` and `config.yaml` are shown if they
            exist.
        batch: Standardized pictures and labels whose gradients are shown.

    Returns:
        The path.

    Raises:
        IsADirectoryError: The path is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(
            f"{path} is a folder. Give the path of the page, such as "
            f"{path / 'report.html'}."
        )
    costs = _drawn_or_reason(lambda: {"profile": profile(model)})
    of_run = _run(Path(run)) if run else {}
    environment = Environment(
        loader=PackageLoader("keras_densenet.analysis", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(
        title=title,
        pictures=f"{len(predictions.labels):,} {pictures} pictures",
        facts=_facts(
            predictions, pictures, costs.get("profile"), of_run.get("metrics", {})
        ),
        curves=of_run.get("curves"),
        config=of_run.get("config"),
        scores=predictions.class_scores(),
        **_of_classes(predictions),
        reuse=_drawn_or_reason(lambda: _reuse(model)),
        gradients=_drawn_or_reason(lambda: _gradients(model, batch)) if batch else None,
        costs=costs | {"modes": MEMORY_MODES},
        versions=_versions(),
        written=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    )
    with whole_file(path) as beside:
        beside.write_text(page, encoding="utf-8")
    return path


def _drawn_or_reason(draw: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what `draw` returns, or under "why_not" the reason that it cannot draw."""
    try:
        return draw()
    except ValueError as error:  # analysis raises it for networks that it cannot read
        return {"why_not": str(error)}


def _of_classes(predictions: Predictions | LabelPredictions) -> dict[str, Any]:
    """Return what is drawn where each picture is of one class, or why it is not."""
    if isinstance(predictions, LabelPredictions):
        return {"several_labels": SEVERAL_LABELS}
    names = predictions.class_names
    return {
        "several_labels": "",
        "confusion": _embedded(plot_confusion(predictions)),
        "confused": predictions.most_confused(),
        "mistakes": [_shown(mistake, names) for mistake in predictions.mistakes],
        "reliability": _embedded(plot_reliability(predictions.reliability())),
    }


def _scores(
    predictions: Predictions | LabelPredictions, pictures: str
) -> dict[str, str]:
    if isinstance(predictions, LabelPredictions):
        return {
            "mean AUROC": f"{predictions.mean_area:.3f}",
            "labels right": f"{100 * predictions.label_accuracy:.2f} %",
            "mean F1 of labels": f"{100 * predictions.mean_f1:.1f} %",
        }
    scores = {f"{pictures} error": f"{100 * (1 - predictions.accuracy):.2f} %"}
    if len(predictions.class_names) > MANY_CLASSES:
        scores["top-5 error"] = f"{100 * (1 - predictions.top_k_accuracy(5)):.2f} %"
    scores["cross-entropy"] = f"{predictions.cross_entropy:.3f}"
    calibration = predictions.reliability().expected_calibration_error
    scores["calibration error"] = f"{100 * calibration:.1f} %"
    return scores


def _facts(
    predictions: Predictions | LabelPredictions,
    pictures: str,
    costs: Profile | None,
    metrics: Mapping[str, list[float]],
) -> dict[str, str]:
    facts = _scores(predictions, pictures)
    if costs:
        facts["parameters"] = f"{costs.parameters:,}"
        if costs.multiply_adds is not None:
            facts["multiply-adds a picture"] = f"{costs.multiply_adds:,}"
    if metrics.get("epoch"):
        facts["epochs"] = f"{int(metrics['epoch'][-1]) + 1}"
    if metrics.get("images_per_second"):
        speed = np.nanmedian(metrics["images_per_second"])
        facts["images/s in training"] = f"{speed:,.0f}"
    return facts


def _run(folder: Path) -> dict[str, Any]:
    """Return the curves and the configuration of a run, if their files exist."""
    found: dict[str, Any] = {}
    metrics, config = folder / "metrics.csv", folder / "config.yaml"
    if metrics.is_file():
        found["metrics"] = read_metrics(metrics)
        curves = plot_curves(metrics)
        found["curves"] = _embedded(curves) if curves else None
    if config.is_file():
        found["config"] = config.read_text(encoding="utf-8", errors="replace")
    return found


def _reuse(model: keras.Model) -> dict[str, Any]:
    matrices = feature_reuse(model)
    picture = _embedded(plot_feature_reuse(matrices, observations=False))
    return {"picture": picture, "observations": observe_feature_reuse(matrices)}


def _gradients(model: keras.Model, batch: tuple[Tensor, Tensor]) -> dict[str, Any]:
    # The model's own loss: the default would take logits for probabilities.
    loss = getattr(model, "loss", None)
    flow = gradient_flow(model, batch, loss if callable(loss) else None)
    picture = _embedded(plot_gradient_flow({model.name: flow}))
    return {"picture": picture, "count": len(batch[1])}


def _shown(mistake: Mistake, class_names: Sequence[str]) -> dict[str, str]:
    return {
        "picture": _thumbnail(mistake.picture),
        "label": class_names[mistake.label],
        "answer": class_names[mistake.answer],
        "probability": f"{mistake.probability:.0%}",
    }


def _thumbnail(picture: np.ndarray) -> str:
    """Return a picture as an embedded PNG, scaled down if it is large."""
    image = Image.fromarray(drawn(picture))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    image.save(file, "PNG")
    return _data_address(file, "image/png")


def _embedded(figure: Figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="svg")
    return _data_address(file, "image/svg+xml")


def _data_address(file: io.BytesIO, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _versions() -> str:
    packages = ("keras-densenet", "tensorflow", "keras")
    return ", ".join(f"{package} {version(package)}" for package in packages)
