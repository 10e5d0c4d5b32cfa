"""Which candidate comes next: keras-tuner's oracles, within a budget and safe on disk.

With these a search that is killed loses nothing. keras-tuner's own write their files in
place, and take a trial that has ended for one that is running until the next begins.
"""

import json
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial
from keras_tuner.oracles import (
    BayesianOptimizationOracle,
    HyperbandOracle,
    RandomSearchOracle,
)
from sklearn.exceptions import ConvergenceWarning

from keras_densenet.whole_file import whole_file

DRAWS = 300  # attempts to draw within the budget before the search ends
CANDIDATES = 64  # draws within the budget, where the optimum lies outside of it
ENDED = ("COMPLETED", "FAILED")


class _WithinBudget(keras_tuner.Oracle):
    """Proposes candidates within the budget, until the time is over.

    Attributes:
        fits: A function that says whether values are within the budget.
        ends_at: Value of `time.monotonic()` after which no trial begins.
    """

    fits: Callable[[Mapping[str, Any]], bool]
    ends_at: float = float("inf")
    _retry_queue: list[str]

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Propose the next trial, or end the search."""
        if time.monotonic() >= self.ends_at:
            # Trials of other workers go on to their end, and then the search stops.
            return {"status": "IDLE" if self.ongoing_trials else "STOPPED"}
        return super().populate_space(trial_id)

    def _random_values(self) -> dict[str, Any] | None:
        for _ in range(DRAWS):
            values = super()._random_values()
            if values is None or self.fits(values):
                return values
        return None

    # --- on disk -------------------------------------------------------------------

    def save(self) -> None:
        """Write the state of the search."""
        write_json(Path(self._get_oracle_fname()), self.get_state())

    def _save_trial(self, trial: Trial) -> None:
        folder = Path(self._get_trial_dir(trial.trial_id))
        write_json(folder / "trial.json", trial.get_state())

    def reload(self) -> None:
        """Load the state of a search, which may have been ended at any moment."""
        super().reload()
        ended = [id_ for id_, trial in self.trials.items() if trial.status in ENDED]
        self.end_order += [id_ for id_ in ended if id_ not in self.end_order]
        again = [id_ for id_ in self._retry_queue if id_ not in ended]
        self._retry_queue = list(dict.fromkeys(again))
        for id_ in self.trials.keys() - set(self.start_order):
            # The trial's file was written and the oracle's was not: it did not begin,
            # and will be drawn again.
            del self.trials[id_]
            Path(self._get_trial_dir(id_), "trial.json").unlink()


def write_json(path: Path, state: dict[str, Any]) -> None:
    """Write a state as a JSON file, completely or not at all."""
    with whole_file(path) as beside:
        beside.write_text(json.dumps(state))


class RandomOracle(_WithinBudget, RandomSearchOracle):
    """Draws at random."""


class HalvingOracle(_WithinBudget, HyperbandOracle):
    """Draws at random, and trains the better ones for longer: Hyperband."""


class BayesianOracle(_WithinBudget, BayesianOptimizationOracle):
    """Proposes what a Gaussian process expects to be good."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Propose the optimum, or else the best of some draws within the budget."""
        with warnings.catch_warnings():
            # With few trials, or equal scores, no length scale is the best.
            warnings.simplefilter("ignore", ConvergenceWarning)
            response = super().populate_space(trial_id)
        values = response.get("values")
        if not values or (self.fits(values) and not self._duplicate(values)):
            return response
        drawn = [self._random_values() for _ in range(CANDIDATES)]
        candidates = [values for values in drawn if values]
        if not candidates:
            return {"status": "STOPPED"}
        space = self._nonfixed_space()
        places = [[hp.value_to_prob(c[hp.name]) for hp in space] for c in candidates]
        mean, deviation = self.gpr.predict(np.array(places), return_std=True)
        best = int(np.argmin(mean - self.beta * deviation))  # keras-tuner minimizes
        return {"status": "RUNNING", "values": candidates[best]}
