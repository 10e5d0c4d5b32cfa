"""The results of a search: its trials as a table and as pictures."""

import csv
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from keras_densenet.tuning.progress import shown
from keras_densenet.whole_file import whole_file


class Record(NamedTuple):
    """One trial.

    Attributes:
        trial: Its number, from 1.
        status: "COMPLETED", "FAILED", or "RUNNING" where the search was ended.
        score: The objective in its best epoch; None if the trial was not completed.
        epochs: Number of epochs that it trained, without those of earlier rungs.
        seconds: Time that it took.
        begun_by: Number of the trial that trained the epochs before, if any.
        parameters: Number of its network's parameters.
        multiply_adds: Multiply-adds of its network for one picture.
        values: The values that were tried, by name.
        message: The reason if it failed, else "".
    """

    trial: int
    status: str
    score: float | None
    epochs: int
    seconds: float
    begun_by: int | None
    parameters: int
    multiply_adds: int | None
    values: dict[str, Any]
    message: str


def with_score(records: Sequence[Record]) -> list[tuple[Record, float]]:
    """Return the trials that have a score, each with its score."""
    return [(record, record.score) for record in records if record.score is not None]


def write_table(records: Sequence[Record], path: str | os.PathLike) -> None:
    """Write the trials as CSV, a line for each."""
    facts = [name for name in Record._fields if name not in ("values", "message")]
    names = list(records[0].values) if records else []
    with whole_file(path) as beside, beside.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*facts, *names, "message"])
        for record in records:
            row = [getattr(record, name) for name in facts]
            chosen = [_rounded(record.values.get(name)) for name in names]
            writer.writerow([*row, *chosen, record.message])


def _rounded(value: Any) -> Any:
    """Round 0.30000000000000004 to 0.3."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def pareto_front(records: Sequence[Record], highest: bool = True) -> list[Record]:
    """Return the trials that no trial with as few parameters beats.

    Args:
        records: The trials; those without a score are left out.
        highest: Whether a high score is good.
    """
    sign = 1 if highest else -1
    front: list[Record] = []
    best = -float("inf")
    pairs = with_score(records)
    for record, score in sorted(pairs, key=lambda p: (p[0].parameters, -sign * p[1])):
        if sign * score > best:
            best = sign * score
            front.append(record)
    return front


def plot_front(
    records: Sequence[Record],
    objective: str,
    path: str | os.PathLike | None = None,
    highest: bool = True,
) -> Figure:
    """Draw the score against the parameters, and the Pareto front."""
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axis = figure.subplots()
    places = [(record.parameters, score) for record, score in with_score(records)]
    axis.plot(*zip(*places, strict=True), "o", alpha=0.5, label="trials")
    front = with_score(pareto_front(records, highest))
    places = [(record.parameters, score) for record, score in front]
    style: Any = {"where": "post", "color": "tab:red", "label": "Pareto front"}
    axis.step(*zip(*places, strict=True), "o-", **style)
    for (record, _), place in zip(front, places, strict=True):
        offset: Any = {"xytext": (4, -12), "textcoords": "offset points"}
        axis.annotate(f"{record.trial}", place, fontsize=8, **offset)
    axis.set(xscale="log", xlabel="parameters", ylabel=objective)
    axis.grid(alpha=0.3)
    axis.legend()
    return _saved(figure, path)


def plot_coordinates(
    records: Sequence[Record],
    places: Sequence[dict[str, float]],
    objective: str,
    path: str | os.PathLike | None = None,
    highest: bool = True,
) -> Figure:
    """Draw each trial as a line through its values, colored by its score.

    Args:
        records: The trials, of which at least one has a score.
        places: For each trial a dictionary of where each value lies in its range, 0..1.
        objective: Name of the score.
        path: Where to save the picture, if at all.
        highest: Whether a high score is good. Good trials are light, and drawn on top.

    Returns:
        The figure.
    """
    place_of = {r.trial: place for r, place in zip(records, places, strict=True)}
    pairs = sorted(with_score(records), key=lambda pair: pair[1], reverse=not highest)
    names = list(places[0])
    figure = Figure(figsize=(max(6, 1.5 * len(names) + 2), 4.6), layout="constrained")
    axis = figure.subplots()
    scores = [score for _, score in pairs]
    limits = Normalize(min(scores), max(scores))
    colors = ScalarMappable(limits, cmap="viridis" if highest else "viridis_r")
    for record, score in pairs:
        heights = [place_of[record.trial][name] for name in names]
        color = colors.get_cmap()(limits(score))
        axis.plot(range(len(names)), heights, color=color, alpha=0.8)
    for at, name in enumerate(names):
        axis.axvline(at, color="black", linewidth=0.8)
        tried = {place_of[r.trial][name]: shown(r.values[name]) for r, _ in pairs}
        for height, label, side in _ends(tried):
            offset = (0, -4 if side == "top" else 4)
            style: Any = {"textcoords": "offset points", "ha": "center", "va": side}
            axis.annotate(label, (at, height), offset, fontsize=8, **style)
    axis.set_ylim(-0.1, 1.1)
    axis.set_yticks([])
    axis.set_xticks(range(len(names)), names)
    figure.colorbar(colors, ax=axis, label=objective)
    return _saved(figure, path)


def _ends(tried: dict[float, str]) -> list[tuple[float, str, str]]:
    """Return the least and the largest tried value, each with its place and side."""
    lowest, highest = min(tried), max(tried)
    if lowest == highest:
        return [(lowest, tried[lowest], "top")]
    return [(lowest, tried[lowest], "top"), (highest, tried[highest], "bottom")]


def _saved(figure: Figure, path: str | os.PathLike | None) -> Figure:
    if path:
        figure.savefig(path, dpi=150)
    return figure
