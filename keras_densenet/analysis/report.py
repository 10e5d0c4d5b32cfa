"""The report of a run: one page that needs no network and no program but a browser."""

import datetime
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from keras_densenet.analysis.curves import plot_curves, read_metrics
from keras_densenet.analysis.embedded import (
    drawn_how,
    drawn_or_reason,
    embedded,
    thumbnail,
)
from keras_densenet.analysis.feature_reuse import (
    feature_reuse,
    observe_feature_reuse,
    plot_feature_reuse,
)
from keras_densenet.analysis.gradient_flow import gradient_flow, plot_gradient_flow
from keras_densenet.analysis.intervals import Interval
from keras_densenet.analysis.label_report import facts_of_labels, parts_of_labels
from keras_densenet.analysis.mask_predictions import MaskPredictions
from keras_densenet.analysis.mask_report import facts_of_masks, parts_of_masks
from keras_densenet.analysis.predictions import (
    LabelPredictions,
    Mistake,
    Predictions,
    plot_confusion,
    plot_reliability,
)
from keras_densenet.analysis.profile import MEMORY_MODES, Profile, profile
from keras_densenet.decisions import Decisions
from keras_densenet.tensor import Tensor
from keras_densenet.whole_file import whole_file

MANY_CLASSES = 10  # with more classes than this the top-5 error is shown, too


def write_report(
    path: str | os.PathLike,
    model: keras.Model,
    predictions: Predictions | LabelPredictions | MaskPredictions,
    *,
    title: str,
    pictures: str = "test",
    run: str | os.PathLike | None = None,
    batch: tuple[Tensor, Tensor] | None = None,
    decisions: Decisions | None = None,
) -> Path:
    """Write one self-contained HTML page about a trained network.

    It shows learning curves, what the network confuses, its worst mistakes as pictures,
    how far its confidence can be believed, which layers use which features, how
    gradients flow, what the network costs, and what it was made with. Signals are drawn
    as curves and volumes as slices, see `plot_class_activation`. All pictures are
    inside the page, which has no script and loads nothing from other hosts.

    Args:
        path: Path of the page, such as "report.html". Its folder is made.
        model: The network. A part that cannot be drawn is replaced by the reason.
        predictions: The network's predictions for labeled pictures. Of several labels a
            picture there are scores for each label; of masks there are those of each
            class's pixels, and the masks over some pictures.
        title: Title of the page.
        pictures: Name of the set that the pictures belong to, such as "test".
        run: Folder of the run, whose `metrics.csv` and `config.yaml` are shown if they
            exist.
        batch: Standardized pictures and labels whose gradients are shown.
        decisions: Temperatures and thresholds that the predictions were made with.

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
    costs = drawn_or_reason(lambda: {"profile": profile(model)})
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
        pictures=f"{len(predictions):,} {pictures} pictures",
        facts=_facts(
            predictions, pictures, costs.get("profile"), of_run.get("metrics", {})
        ),
        curves=of_run.get("curves"),
        config=of_run.get("config"),
        chosen=_chosen(decisions),
        **_of_answers(model, predictions),
        reuse=drawn_or_reason(lambda: _reuse(model)),
        gradients=drawn_or_reason(lambda: _gradients(model, batch)) if batch else None,
        costs=costs | {"modes": MEMORY_MODES},
        versions=_versions(),
        written=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    )
    with whole_file(path) as beside:
        beside.write_text(page, encoding="utf-8")
    return path


def _chosen(decisions: Decisions | None) -> str:
    """Say how probabilities and thresholds were chosen."""
    if decisions is None:
        return ""
    by = f"by {decisions.pictures:,} validation pictures"
    if not decisions.of_each_label:
        return f"Logits are divided by {decisions.temperatures[0]:.3f}, chosen {by}."
    return f"Temperatures and thresholds were chosen {by}, and by {decisions.rule}."


def _of_answers(
    model: keras.Model, predictions: Predictions | LabelPredictions | MaskPredictions
) -> dict[str, Any]:
    """Return what is drawn of classes, of labels or of masks; the others are None."""
    nothing = dict.fromkeys(("classes", "labels", "masks"))
    if isinstance(predictions, MaskPredictions):
        return nothing | {"masks": parts_of_masks(predictions)}
    if isinstance(predictions, LabelPredictions):
        return nothing | {"labels": parts_of_labels(model, predictions)}
    names = predictions.class_names
    of_classes = {
        "scores": predictions.class_scores(),
        "confusion": embedded(plot_confusion(predictions)),
        "confused": predictions.most_confused(),
        "mistakes": [_shown(mistake, names) for mistake in predictions.mistakes],
        **drawn_how([mistake.picture for mistake in predictions.mistakes]),
        "reliability": embedded(plot_reliability(predictions.reliability())),
    }
    return nothing | {"classes": of_classes}


def _scores(
    predictions: Predictions | LabelPredictions | MaskPredictions, pictures: str
) -> dict[str, str]:
    if isinstance(predictions, MaskPredictions):
        return facts_of_masks(predictions)
    if isinstance(predictions, LabelPredictions):
        return facts_of_labels(predictions)
    scores = {f"{pictures} error": _error(predictions.error_interval())}
    if len(predictions.class_names) > MANY_CLASSES:
        scores["top-5 error"] = f"{100 * (1 - predictions.top_k_accuracy(5)):.2f} %"
    scores["cross-entropy"] = f"{predictions.cross_entropy:.3f}"
    calibration = predictions.reliability().expected_calibration_error
    scores["calibration error"] = f"{100 * calibration:.1f} %"
    return scores


def _error(interval: Interval) -> str:
    value, low, high = (100 * number for number in interval)
    return f"{value:.2f} % ({low:.2f} to {high:.2f})"


def _facts(
    predictions: Predictions | LabelPredictions | MaskPredictions,
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
        found["curves"] = embedded(curves) if curves else None
    if config.is_file():
        found["config"] = config.read_text(encoding="utf-8", errors="replace")
    return found


def _reuse(model: keras.Model) -> dict[str, Any]:
    matrices = feature_reuse(model)
    picture = embedded(plot_feature_reuse(matrices, observations=False))
    return {"picture": picture, "observations": observe_feature_reuse(matrices)}


def _gradients(model: keras.Model, batch: tuple[Tensor, Tensor]) -> dict[str, Any]:
    # The model's own loss: the default would take logits for probabilities.
    loss = getattr(model, "loss", None)
    flow = gradient_flow(model, batch, loss if callable(loss) else None)
    picture = embedded(plot_gradient_flow({model.name: flow}))
    return {"picture": picture, "count": len(batch[1])}


def _shown(mistake: Mistake, class_names: Sequence[str]) -> dict[str, str]:
    return {
        "picture": thumbnail(mistake.picture),
        "label": class_names[mistake.label],
        "answer": class_names[mistake.answer],
        "probability": f"{mistake.probability:.0%}",
    }


def _versions() -> str:
    packages = ("keras-densenet", "tensorflow", "keras")
    return ", ".join(f"{package} {version(package)}" for package in packages)
