"""MLPClassifier's parameters: what each of them may be, and the recipe that they add up to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils.validation import check_random_state

from fastmlp import backends
from fastmlp.common.errors import UsageError, did_you_mean
from fastmlp.network.optimizers import OPTIMIZERS
from fastmlp.network.parameters import DTYPES
from fastmlp.training.as_sklearn import LARGEST_BATCH
from fastmlp.training.recipe import PRESETS, SCHEDULES, Recipe

LARGEST = 2**31
AS_SKLEARN = "sklearn"  # the preset that is scikit-learn's own training
SEEDS_END = 2**32  # the paper's generator takes no larger seeds
Parameters = Mapping[str, Any]  # as `get_params` returns them


@dataclass(frozen=True)
class Constraint:
    """What a parameter must be, in words and as a test; where that is one of some names, those names."""

    words: str
    allows: Callable[[Any], bool]
    names: tuple[str, ...] = ()

    def or_none(self) -> Constraint:
        return Constraint(self.words, lambda value: value is None or self.allows(value), self.names)

    def or_(self, name: str) -> Constraint:
        return Constraint(
            f"{self.words}, or {name}", lambda value: self.allows(value) or _is_name(value, (name,)), (name,)
        )


def one_of(names: Iterable[str]) -> Constraint:
    known = tuple(names)
    return Constraint(f"one of {', '.join(known)}", lambda value: _is_name(value, known), known)


def _only(meant: Any) -> Constraint:
    """Of a parameter whose one value says what the presets of ours do anyway."""
    words = "None" if meant is None else f"None or {meant!r}"
    return Constraint(
        f'{words} unless preset="sklearn"', lambda value: type(value) is type(meant) and value == meant
    ).or_none()


def _is_name(value: Any, known: tuple[str, ...]) -> bool:
    return isinstance(value, str) and value in known


def _are_widths(value: Any) -> bool:
    widths = value.tolist() if isinstance(value, np.ndarray) else value
    widths = widths if isinstance(widths, Sequence) and not isinstance(widths, str | bytes) else [widths]
    return all(is_whole(width) and 1 <= width < LARGEST for width in widths)


def _are_class_weights(value: Any) -> bool:
    named = value is None or (isinstance(value, str) and value == "balanced")
    return named or (isinstance(value, dict) and all(is_number(w) and 0 <= w < np.inf for w in value.values()))


def _is_backend(value: Any) -> bool:
    name = value.partition(":")[0] if isinstance(value, str) else ""
    return name in (backends.AUTO, *backends.OURS) or name in backends.names()


def _is_random_state(value: Any) -> bool:
    generator = value is None or value is np.random or isinstance(value, np.random.RandomState)
    return generator or (is_whole(value) and 0 <= value < SEEDS_END)


def is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return np.inf


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


COUNT = Constraint("a whole number from 1 on", lambda value: is_whole(value) and 1 <= value < LARGEST)
POSITIVE = Constraint("a positive number", lambda value: is_number(value) and 0 < _as_float(value) < np.inf)
NOT_NEGATIVE = Constraint("a number from 0 on", lambda value: is_number(value) and value >= 0)
FINITE = Constraint("a number from 0 on", lambda value: is_number(value) and 0 <= _as_float(value) < np.inf)
WIDTHS = Constraint("whole numbers from 1 on", _are_widths)
FLAG = Constraint("True or False", _is_flag)
VERBOSITY = Constraint(
    "True, False or a whole number from 0 on", lambda value: _is_flag(value) or (is_whole(value) and value >= 0)
)
SHARE = Constraint("a number from 0 to less than 1", lambda value: is_number(value) and 0 <= value < 1)

NO_MOMENTUM = Constraint('None unless solver="momentum" or preset="sklearn"', lambda value: value is None)

CONSTRAINTS = {
    "hidden_layer_sizes": WIDTHS.or_none(),
    "activation": _only("relu"),
    "backend": Constraint("auto, numpy, numba, torch, torch:DEVICE or cupy", _is_backend, tuple(backends.OURS)),
    "preset": one_of((*PRESETS, AS_SKLEARN)),
    "solver": one_of(OPTIMIZERS).or_none(),
    "alpha": FINITE.or_none(),
    "label_smoothing": SHARE.or_none(),
    "batch_size": COUNT.or_("auto").or_none(),
    "learning_rate": one_of(SCHEDULES).or_none(),
    "learning_rate_init": POSITIVE.or_none(),
    "max_iter": COUNT.or_none(),
    "init": one_of(("he", "paper")).or_none(),
    "standardize": FLAG.or_none(),
    "shuffle": FLAG,
    "random_state": Constraint("a whole number from 0 on, below 2**32, a RandomState or None", _is_random_state),
    "early_stopping": FLAG,
    "validation_fraction": SHARE,
    "n_iter_no_change": NOT_NEGATIVE,
    "tol": NOT_NEGATIVE,
    "class_weight": Constraint(
        'a dict of numbers from 0 on, "balanced" or None', _are_class_weights, names=("balanced",)
    ),
    "warm_start": FLAG,
    "power_t": _only(None),
    "verbose": VERBOSITY,
    "momentum": SHARE.or_none(),
    "nesterovs_momentum": FLAG.or_none(),
    "beta_1": _only(0.9),
    "beta_2": _only(0.999),
    "epsilon": _only(1e-8),
    "max_fun": _only(None),
    "dtype": one_of(DTYPES).or_none(),
    "threads": COUNT.or_none(),
}


def check_parameters(parameters: Parameters) -> None:
    """Raise UsageError for the first parameter that is not what it must be."""
    for name, constraint in CONSTRAINTS.items():
        check(name, parameters[name], constraint)
    if parameters["solver"] != "momentum":
        for name in ("momentum", "nesterovs_momentum"):
            check(name, parameters[name], NO_MOMENTUM)


def check(name: str, value: Any, constraint: Constraint) -> None:
    """Raise UsageError, which names the parameter, for a value that it may not have."""
    if not constraint.allows(value):
        near = did_you_mean(str(value), constraint.names)
        raise UsageError(f"{name} must be {constraint.words}, not {value!r}{near}.")


def recipe_for(parameters: Parameters, rows: int, features: int, counted: int | None = None) -> Recipe:
    """The preset's recipe, with what the parameters change, for training on that many rows of so many features.

    counted: how many rows the weight decay is for, where that is another number.
    """
    preset, given = PRESETS[parameters["preset"]], parameters["standardize"]
    wanted = LARGEST_BATCH if parameters["batch_size"] == "auto" else parameters["batch_size"]
    batch_size = min(preset.changed(batch_size=wanted).batch_size, rows)
    alpha, smoothing, rate = (parameters[name] for name in ("alpha", "label_smoothing", "learning_rate_init"))
    widths = parameters["hidden_layer_sizes"]
    return preset.changed(
        epochs=parameters["max_iter"],
        batch_size=batch_size,
        learning_rate=None if rate is None else float(rate),
        schedule=parameters["learning_rate"],
        optimizer=parameters["solver"],
        weight_decay=None if alpha is None else float(alpha) / batch_size,
        label_smoothing=None if smoothing is None else float(smoothing),
        momentum=parameters["momentum"],
        nesterov=parameters["nesterovs_momentum"],
        init=parameters["init"],
        standardize=None if given is None else "each" if given else "none",
        hidden_layer_sizes=None if widths is None else widths_of(widths),
    ).for_data(rows, features, counted)


def widths_of(hidden_layer_sizes: Any) -> tuple[int, ...]:
    """The widths of the hidden layers, given as a sequence or as one number."""
    return tuple(np.atleast_1d(hidden_layer_sizes).tolist())


def seed_of(random_state: Any) -> int:
    """The integer itself, or one drawn from the RandomState."""
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31))
