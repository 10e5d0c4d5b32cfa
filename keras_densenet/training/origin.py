"""Whose a checkpoint is: its run, and the data that it was trained on.

What a checkpoint keeps of it, in its `RunState.origin`:

    run               a number of the run, by chance, which its config.yaml has, too
    data              class and arguments of the data module, as in config.yaml
    pictures          the data module's `fingerprint`
    class_names, input_shape
    scheduled_steps   steps that the learning rate's schedule was made for
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_densenet.callbacks.run import preprocessing_of
from keras_densenet.checkpoint_file import RunState
from keras_densenet.data import DataModule, Datasets
from keras_densenet.data.crops import fit_of
from keras_densenet.data.pictures import size_of
from keras_densenet.errors import MisconfigurationError
from keras_densenet.training.plan import Plan
from keras_densenet.training.run_config import defaults_of, described

# Arguments that do not change what is trained. The order is the checkpoint's: its seed
# is taken back. Of pictures that are left out, the fingerprint tells; of mean, std and
# fit, which may be left to the class or to the size, how pictures are prepared.
_HARMLESS = frozenset(
    {
        *("seed", "workers", "num_workers", "num_parallel_calls", "prefetch"),
        *("verbose", "download", "check_files", "on_error", "mean", "std", "fit"),
    }
)
# Where the pictures lie does not matter as long as they are the same.
_PLACES = frozenset(("root", "folder", "data_dir", "manual_dir"))

SHOWN = 8  # values of a long list that an error names


def new_run() -> str:
    """Return a number for a run, by chance, that no other one has."""
    return uuid.uuid4().hex[:12]


def origin_of(run: str, plan: Plan) -> dict[str, Any]:
    """Return what a checkpoint keeps of its run and data: numbers and texts.

    Args:
        run: The run's number.
        plan: Of the fit.
    """
    return {
        "run": run,
        "scheduled_steps": plan.scheduled_steps,
        **origin_of_data(plan.data, plan.fingerprint),
    }


def origin_of_data(data: DataModule, pictures: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells data from others: numbers and texts.

    Args:
        data: They are set up.
        pictures: Their fingerprint.
    """
    return {"data": described(data), "pictures": pictures, **_facts(data)}


def other_data(
    kept: Mapping[str, Any], now: Mapping[str, Any], kind: type[DataModule]
) -> list[str]:
    """Say in words what would be trained on otherwise than before.

    Args:
        kept: What `origin_of_data` returned before.
        now: What it returns now.
        kind: The class of the data.
    """
    return [
        *_other_arguments(kept, now, defaults_of(kind)),
        *_other_pictures(kept["pictures"], now["pictures"]),
        *_other_values(kept, now, ("class_names", "input_shape")),
    ]


def _facts(data: DataModule) -> dict[str, Any]:
    """Return what any data say of themselves, and a network depends on."""
    facts: dict[str, Any] = {"input_shape": list(data.input_shape)}
    if isinstance(data, Datasets) and not data.are_named:
        return facts  # to count its classes all batches would be read
    if getattr(data, "class_names", None) is not None:
        facts["class_names"] = list(map(str, data.class_names))
    return facts


def refuse_other_training(path: Path, state: RunState, plan: Plan) -> None:
    """Refuse to go on with data that would be trained on in another way.

    Args:
        path: Of the checkpoint.
        state: What it has of its run.
        plan: Of the fit that would go on.

    Raises:
        MisconfigurationError: It names each difference.
    """
    kept = state.origin
    differences = [*_other_preparation(state.preprocessing, plan.data)]
    if kept:  # no file of before, and no plain .keras file
        now = origin_of_data(plan.data, plan.fingerprint)
        differences += other_data(kept, now, type(plan.data))
    if differences:
        raise MisconfigurationError(
            f"The run of {path} would go on with other data than it was trained on: "
            f"{'; '.join(differences)}. Go on with the same data, resized and "
            "standardized as they were, or begin a run of its own, with ckpt_path=None."
        )


def other_validation(state: RunState, plan: Plan) -> str:
    """Say that a run that goes on is validated on other pictures; "" where not."""
    before = state.origin.get("pictures", {}).get("val")
    if before is None or before == plan.fingerprint.get("val", before):
        return ""
    return (
        "Other than before: the pictures to validate on, of which there were "
        f"{before.get('pictures')}."
    )


def refuse_other_answers(path: Path, state: RunState, data: DataModule) -> None:
    """Refuse to ask a network about pictures that it was not trained to answer about.

    Args:
        path: Of the checkpoint.
        state: What it has of its run.
        data: What it is asked about.

    Raises:
        MisconfigurationError: The names of the classes differ, or how pictures are
            prepared; it names both.
    """
    _refuse_wrong_answers(str(path), state.origin, state.preprocessing, data)


def refuse_to_answer_about(name: str, trained_on: DataModule, data: DataModule) -> None:
    """Refuse the same of a network that was trained in this process.

    Args:
        name: Of the network.
        trained_on: What it was trained on.
        data: What it is asked about.

    Raises:
        MisconfigurationError: The names of the classes differ, or how pictures are
            prepared; it names both.
    """
    if data is not trained_on:
        kept, prepared = _facts(trained_on), preprocessing_of(trained_on)
        _refuse_wrong_answers(name, kept, prepared, data)


def _refuse_wrong_answers(
    name: str, kept: Mapping, prepared: Mapping, data: DataModule
) -> None:
    differences = [
        *_other_values(kept, _facts(data), ("class_names",)),
        *_other_preparation(prepared, data),
    ]
    if differences:
        raise MisconfigurationError(
            f"{name} would answer about {type(data).__name__} wrongly: "
            f"{'; '.join(differences)}. Give the data that it was trained on, or data "
            "with the same classes, mean, std and fit; or the checkpoint that these "
            "data are for."
        )


def of_which_data(state: RunState | None) -> str:
    """Return what a checkpoint was trained on, such as "Digits"; "" where unknown."""
    data = state.origin.get("data", {}) if state else {}
    if not isinstance(data, dict):
        return ""
    name = data.get("class_path", "").rpartition(".")[2]
    places = [str(v) for k, v in data.get("init_args", {}).items() if k in _PLACES if v]
    return " of ".join([name, *places[:1]])


# --- differences, in words -------------------------------------------------------


def _other_arguments(
    kept: Mapping, now: Mapping, defaults: Mapping[str, Any]
) -> Iterator[str]:
    """Say which arguments the data module was made with before."""
    before, given = kept["data"], now["data"]
    if not (isinstance(before, dict) and isinstance(given, dict)):
        return
    if before["class_path"] != given["class_path"]:
        yield _was("the data module", before["class_path"], given["class_path"])
        return
    harmless = _HARMLESS | (_PLACES if kept["pictures"] else frozenset())
    was, is_ = (
        {name: it["init_args"].get(name, defaults[name]) for name in defaults}
        for it in (before, given)
    )
    yield from _other_values(was, is_, [n for n in defaults if n not in harmless])


def _other_preparation(kept: Mapping, data: DataModule) -> Iterator[str]:
    """Say how pictures were prepared before, if otherwise."""
    # Files of before do not say how pictures became the network's size: there was one
    # way for squares, and one for others.
    before = {"fit": fit_of(None, size_of(data)), **kept} if kept else {}
    yield from _other_values(before, preprocessing_of(data), ("mean", "std", "fit"))


def _other_pictures(kept: Mapping, now: Mapping) -> Iterator[str]:
    """Say whether the pictures to train on are others."""
    before, given = kept.get("train", {}), now.get("train", {})
    many = before.get("pictures"), given.get("pictures")
    if many[0] != many[1]:
        yield _was("the number of pictures to train on", *many)
    elif before != given:
        yield "the pictures to train on are others, as many as they were"


def _other_values(kept: Mapping, now: Mapping, names: Iterable[str]) -> Iterator[str]:
    """Say which values are others, of those that both have."""
    for name in names:
        if name in kept and name in now and kept[name] != now[name]:
            yield _was(name, kept[name], now[name])


def _was(name: str, before: Any, now: Any) -> str:
    if not (isinstance(before, list) and isinstance(now, list)):
        return f"{name} was {before!r} and is {now!r}"
    if len(before) != len(now):
        return f"{name} was {_listed(before)} and is {_listed(now)}"
    # Of long lists what differs, and not what does not.
    pairs = [pair for pair in zip(before, now, strict=True) if pair[0] != pair[1]]
    was, is_ = zip(*pairs, strict=True)
    return f"{name} was {_listed(was)} and is {_listed(is_)}"


def _listed(values: Sequence[Any]) -> str:
    more = f", ... ({len(values)} in all)" if len(values) > SHOWN else ""
    return f"[{', '.join(map(repr, values[:SHOWN]))}{more}]"
