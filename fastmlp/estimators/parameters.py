"""MLPClassifier's parameters: what each of them may be, and the recipe that they add up to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils.validation import check_random_state

from fastmlp.common.errors import UsageError, did_you_mean
from fastmlp.network.optimizers import OPTIMIZERS
from fastmlp.network.parameters import DTYPES
from fastmlp.training.recipe import PRESETS, SCHEDULES, Recipe

Parameters = Mapping[str, Any]  # as `get_params` returns them


@dataclass(frozen=True)
class Constraint:
    """What a parameter must be, in words and as a test; where that is one of some names, those names."""

    words: str
    allows: Callable[[Any], bool]
    names: tuple[str, ...] = ()

    def or_none(self) -> Constraint:
        return Constraint(self.words, lambda value: value is None or self.allows(value), self.names)


def _one_of(names: Iterable[str]) -> Constraint:
    known = tuple(names)
    return Constraint(f"one of {', '.join(known)}", lambda value: isinstance(value, str) and value in known, known)


def _are_widths(value: Any) -> bool:
    widths = np.atleast_1d(value)
    return widths.size == 0 or (widths.ndim == 1 and widths.dtype.kind in "iu" and widths.min() >= 1)


def _is_random_state(value: Any) -> bool:
    return value in (None, np.random) or isinstance(value, np.random.RandomState) or (_is_whole(value) and value >= 0)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real)


COUNT = Constraint("a whole number from 1 on", lambda value: _is_whole(value) and value >= 1)
POSITIVE = Constraint("a positive number", lambda value: _is_number(value) and 0 < value < np.inf)
NOT_NEGATIVE = Constraint("a number from 0 on", lambda value: _is_number(value) and value >= 0)

CONSTRAINTS = {
    "hidden_layer_sizes": Constraint("whole numbers from 1 on", _are_widths),
    "preset": _one_of(PRESETS),
    "solver": _one_of(OPTIMIZERS).or_none(),
    "alpha": NOT_NEGATIVE.or_none(),
    "batch_size": COUNT.or_none(),
    "learning_rate": _one_of(SCHEDULES).or_none(),
    "learning_rate_init": POSITIVE.or_none(),
    "max_iter": COUNT.or_none(),
    "init": _one_of(("he", "paper")).or_none(),
    "random_state": Constraint("a whole number from 0 on, a RandomState or None", _is_random_state),
    "validation_fraction": Constraint("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value < 1),
    "n_iter_no_change": NOT_NEGATIVE,
    "tol": NOT_NEGATIVE,
    "dtype": _one_of(DTYPES),
    "threads": COUNT.or_none(),
}


def check_parameters(parameters: Parameters) -> None:
    """Raise UsageError for the first parameter that is not what it must be."""
    for name, constraint in CONSTRAINTS.items():
        value = parameters[name]
        if not constraint.allows(value):
            near = did_you_mean(str(value), constraint.names)
            raise UsageError(f"{name} must be {constraint.words}, not {value!r}{near}.")


def recipe_for(parameters: Parameters, rows: int) -> Recipe:
    """The preset's recipe, with what the parameters change, for training on that many rows."""
    preset, given = PRESETS[parameters["preset"]], parameters["standardize"]
    batch_size = min(preset.changed(batch_size=parameters["batch_size"]).batch_size, rows)
    alpha = parameters["alpha"]
    return preset.changed(
        epochs=parameters["max_iter"],
        batch_size=batch_size,
        learning_rate=parameters["learning_rate_init"],
        schedule=parameters["learning_rate"],
        optimizer=parameters["solver"],
        weight_decay=None if alpha is None else alpha / batch_size,
        init=parameters["init"],
        standardize=None if given is None else "each" if given else "none",
    ).for_rows(rows)


def widths_of(hidden_layer_sizes: Any) -> tuple[int, ...]:
    """The widths of the hidden layers, given as a sequence or as one number."""
    return tuple(np.atleast_1d(hidden_layer_sizes).tolist())


def seed_of(random_state: Any) -> int:
    """The integer itself, or one drawn from the RandomState."""
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31))
