"""Probe protocols, a record each: the heads that a probe trains, how it trains them, and how it chooses one.

A protocol of one's own is a TOML file with the fields of `Protocol`, but for its name; what it leaves out has the
default below. "steps" and "epochs" say how long: the more of both.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.common.errors import DataError, UsageError, did_you_mean, first_line
from fastmlp.training.recipe import Recipe

NORMALIZE = {"raw": "none", "l2": "unit", "standard": "each"}  # what `Recipe.standardize` calls them
SUFFIX = ".toml"
FITTED = ("about", "strengths", "normalize")  # what a protocol of logistic regression has

POSITIVE = ("learning_rates", "strengths")
LEAST = {"weight_decays": 0, "widths": 0, "steps": 0, "warm_up": 0, "rates_for": 1, "first_every": 1}

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Protocol:
    """What a probe trains: a head of every learning rate, weight decay and width, each from every seed.

    about: what the protocol is, and where it comes from. widths: hidden units; 0: none, a linear head. normalize:
    "raw"; "l2", each row divided by its Euclidean length; "standard", each feature by its spread. steps: at least so
    many, in whole epochs; with `epochs`, the more of both. rates_for: the batch size that the learning rates are
    meant for: they are scaled in proportion to another's; None: they are not scaled. first_every: 1: all weight
    decays are tried; more: first every so many of them, then in halved steps those beside the best so far, down to
    one step. strengths: of the penalty, C in scikit-learn's terms: linear heads are fitted by logistic regression, at
    each of them, in place of all that is trained in epochs. The others are as `Recipe` has them.

    Raises UsageError for a value that it cannot take.
    """

    name: str
    about: str = ""
    learning_rates: Numbers = (0.01,)
    weight_decays: Numbers = (0.0,)
    widths: tuple[int, ...] = (0,)
    normalize: str = "raw"
    optimizer: str = "adam"
    momentum: float = 0.9
    nesterov: bool = False
    schedule: str = "cosine"
    warm_up: int = 0
    epochs: int = 1
    steps: int = 0
    batch_size: int = 128
    rates_for: int | None = None
    first_every: int = 1
    strengths: Numbers = ()

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, tuple):
                _check_list(name, value)
            elif name in LEAST and value is not None:
                _check_number(name, value)
        if self.normalize not in NORMALIZE:
            near = did_you_mean(self.normalize, NORMALIZE)
            raise UsageError(f"normalize must be one of {', '.join(NORMALIZE)}, not {self.normalize!r}{near}.")
        if self.strengths and self.widths != (0,):
            raise UsageError(f"strengths are those of linear heads: leave widths out, not {list(self.widths)}.")
        _ = self.recipe  # checks itself

    def as_dict(self) -> dict[str, Any]:
        """What it has, for probe.json; of a logistic regression nothing that is trained in epochs."""
        used = ("name", *FITTED) if self.strengths else [name for name in vars(self) if name != "strengths"]
        values = ((name, getattr(self, name)) for name in used)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values}

    @property
    def recipe(self) -> Recipe:
        """How its heads are trained, but for what they differ in."""
        return Recipe(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rates[0],
            schedule=self.schedule,
            warm_up=self.warm_up,
            optimizer=self.optimizer,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decays[0],
            standardize=NORMALIZE[self.normalize],
            least_steps=self.steps,
        )

    def rates(self, batch_size: int) -> Numbers:
        """The learning rates that batches of that size are trained with."""
        factor = 1 if self.rates_for is None else batch_size / self.rates_for
        return tuple(float(f"{rate * factor:.6g}") for rate in self.learning_rates)


def _check_list(name: str, values: tuple[float, ...]) -> None:
    if len(set(values)) < len(values) or not (values or name == "strengths"):
        raise UsageError(f"{name} must be one or more different numbers, not {list(values)}.")
    for value in values:
        _check_number(name, value)


def _check_number(name: str, value: float) -> None:
    if name in POSITIVE and not 0 < value < np.inf:
        raise UsageError(f"{name} must be positive numbers, not {value:g}.")
    if name in LEAST and not LEAST[name] <= value < np.inf:
        raise UsageError(f"{name} must be {LEAST[name]} or more, not {value:g}.")


SGD_RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="sgd-grid",
            about="The linear evaluation of DINOv2 and DINOv3 (dinov2/eval/linear.py): 13 learning rates, meant for "
            "batches of 256; gradient descent with momentum 0.9, no weight decay, a cosine to zero over 12,500 steps "
            "of 128 rows.",
            learning_rates=SGD_RATES,
            rates_for=256,
            optimizer="momentum",
            momentum=0.9,
            nesterov=False,
            schedule="cosine",
            steps=12_500,
            batch_size=128,
        ),
        Protocol(
            name="decay-grid",
            about="CLIP_benchmark's linear probe (clip_benchmark/metrics/linear_probe.py): AdamW at a learning rate "
            "of 0.1, a cosine to zero over 10 epochs in batches of 64, rows of unit length; of 97 weight decays from "
            "1e-6 to 100 first every sixteenth, then in halved steps those beside the best.",
            learning_rates=(0.1,),
            weight_decays=tuple(np.geomspace(1e-6, 1e2, 97).tolist()),
            first_every=16,
            normalize="l2",
            optimizer="adam",
            schedule="cosine",
            epochs=10,
            batch_size=64,
        ),
        Protocol(
            name="logistic",
            about="The logistic regression of DINOv2 (dinov2/eval/log_regression.py), with an L2 penalty, to "
            "convergence: 45 values of C from 1e-6 to 1e5, evenly spaced by their logarithms, as CLIP's linear probe "
            "(Radford et al. 2021, appendix A.3) searches 96 from 1e-6 to 1e6.",
            strengths=tuple(np.geomspace(1e-6, 1e5, 45).tolist()),
        ),
    )
}


def open_protocol(name: str) -> Protocol:
    """The protocol of that name, or in that TOML file.

    Raises UsageError if there is no such protocol, or for a file with anything else in it; DataError if it is missing.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    if not name.endswith(SUFFIX):
        near = did_you_mean(name, PROTOCOLS)
        raise UsageError(
            f"There is no protocol {name!r}{near}: choose one of {', '.join(PROTOCOLS)}, or give a file of your own, "
            "such as my.toml."
        )
    return _read(Path(name))


def _read(path: Path) -> Protocol:
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: check the path of the --protocol.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML ({first_line(error)}): fix it there.") from None
    known = {field.name: str(field.type) for field in fields(Protocol) if field.name != "name"}
    for name in values:
        if name not in known:
            near = did_you_mean(name, known)
            raise UsageError(f"{path} has the unknown key {name!r}{near}: a protocol has {', '.join(known)}.")
    strange = [name for name in values if name not in FITTED] if "strengths" in values else []
    if strange:
        raise UsageError(
            f"{path} has strengths, of logistic regression, which has no {strange[0]}: leave one of them out."
        )
    typed = {name: _typed(path, name, value, known[name]) for name, value in values.items()}
    try:
        return Protocol(name=path.stem, **typed)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _typed(path: Path, name: str, value: Any, kind: str) -> Any:
    """The value as that kind of field has it. Raises UsageError for another type."""
    if kind in LISTS and isinstance(value, list) and all(_is(one, LISTS[kind]) for one in value):
        return tuple(float(one) if kind == "Numbers" else one for one in value)
    if kind not in LISTS and _is(value, SCALARS[kind]):
        return value
    words = {**{kind: f"a list of {kinds}" for kind, kinds in LISTS.items()}, **SCALARS}[kind]
    raise UsageError(f"{path}: {name} must be {words}, not {value!r}: write {name} = {EXAMPLES[words]}.")


LISTS = {"Numbers": "numbers", "tuple[int, ...]": "whole numbers"}
SCALARS = {
    "str": "text",
    "float": "a number",
    "int": "a whole number",
    "int | None": "a whole number",
    "bool": "true or false",
}
EXAMPLES = {
    "a list of numbers": "[0.001, 0.01]",
    "a list of whole numbers": "[0, 64]",
    "text": '"..."',
    "a number": "0.9",
    "a whole number": "10",
    "true or false": "false",
}


def _is(value: Any, words: str) -> bool:
    """Whether a value of TOML is what the words say."""
    if words in ("text", "true or false"):
        return isinstance(value, str if words == "text" else bool)
    kinds = int if "whole" in words else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool)


def changed(protocol: Protocol, values: Mapping[str, Any]) -> Protocol:
    """The protocol with those values; None keeps one."""
    given: dict[str, Any] = {
        name: tuple(value) if name == "widths" else value for name, value in values.items() if value is not None
    }
    return replace(protocol, **given)
