"""The paper's three claims, checked on a run's own numbers. Each comparison is written so that NaN fails it."""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from fastmlp.common.statistics import CONFIDENCE, summarize

Results = Mapping[str, Any]
Claim = dict[str, Any]

WINDOW = 10  # epochs looked at on either side of the learning rate's drop
NORMAL = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)  # the half-width of the interval, in standard errors
CALMER = 0.5  # the share of its former wobble that a calmed loss keeps at most


def check_claims(results: Results) -> list[Claim]:
    """The claims in order: {"claim": sentence, "holds": bool or None (not decided), "numbers": sentence}."""
    return [_fits_training_set_better(results), _generalises_better(results), _drop_shows(results)]


def number(value: float | None) -> float:
    """The value, NaN where there is none: strict JSON has no NaN and writes null."""
    return math.nan if value is None else float(value)


def wobble(losses: Sequence[float | None]) -> float:
    """The standard deviation of the changes from epoch to epoch: a steady slope counts for nothing."""
    return float(np.std(np.diff([number(loss) for loss in losses])))


def _fits_training_set_better(results: Results) -> Claim:
    original, augmented = (_row(results, model) for model in ("original", "augmented"))
    claim = "The original model fits its training set better than the augmented one fits its own."
    if "over_seeds" in results:
        accuracy, loss = (_lead(results, "original", cell) for cell in ("train_accuracy", "train_loss"))
        return _claim_over_seeds(claim, results, [accuracy, loss])
    images, augmented_images = (results["data"][name] for name in ("train_images", "augmented_images"))
    chance = _chance_of_two(original["train_accuracy"], augmented["train_accuracy"], images, augmented_images)
    leads = _beyond_chance(original["train_accuracy"] - augmented["train_accuracy"], chance)
    numbers = (
        f"Train accuracy {original['train_accuracy']:.2%} against {augmented['train_accuracy']:.2%} "
        f"({_chance_text(chance)}), train loss {original['train_loss']:.3f} against {augmented['train_loss']:.3f}."
    )
    return _claim_of_one_seed(claim, leads and original["train_loss"] < augmented["train_loss"], numbers)


def _generalises_better(results: Results) -> Claim:
    original, augmented = (_row(results, model) for model in ("original", "augmented"))
    images = results["data"]["test_images"]
    gain = augmented["test_accuracy"] - original["test_accuracy"]
    claim = "The augmented model generalises better: its test accuracy is higher."
    if "over_seeds" in results:
        standard_error = 100 * _standard_error(original["test_accuracy"], images)
        error = f"the standard error of either, over {images:,} images, is {standard_error:.2f}"
        return _claim_over_seeds(claim, results, [_lead(results, "augmented", "test_accuracy")], error)
    chance = _chance_of_test(results)
    numbers = (
        f"Test accuracy {augmented['test_accuracy']:.2%} against {original['test_accuracy']:.2%}, "
        f"a gain of {points(gain)} over {images:,} images ({_chance_text(chance)}); "
        f"train minus test accuracy: {points(_gap(augmented))} augmented, {points(_gap(original))} original."
    )
    return _claim_of_one_seed(claim, _beyond_chance(gain, chance), numbers)


# One seed: a lead counts where chance in the choice of the images would rarely make one as large.


def _beyond_chance(lead: float, chance: float) -> bool | None:
    """None where the lead is within what chance makes."""
    if lead > chance:
        return True
    return None if abs(lead) <= chance else False


def _chance_of_test(results: Results) -> float:
    """How far apart chance brings the test accuracies of two equally good models, in 95% of choices of images.

    Both models see the same images, so only those count that one model alone got right (McNemar 1947, with Edwards'
    correction). Results without their number are taken as those of two independent sets of images.
    """
    images = results["data"]["test_images"]
    if "only_right" in results:
        return (NORMAL * math.sqrt(sum(results["only_right"].values())) + 1) / images
    original, augmented = (_row(results, model)["test_accuracy"] for model in ("original", "augmented"))
    return _chance_of_two(original, augmented, images, images)


def _chance_of_two(one: float, other: float, images: int, other_images: int) -> float:
    """The same of accuracies on independent images."""
    return NORMAL * math.hypot(_standard_error(one, images), _standard_error(other, other_images))


def _chance_text(chance: float) -> str:
    return f"chance alone stays below {100 * chance:.2f} points in {CONFIDENCE:.0%} of cases"


def _claim_of_one_seed(claim: str, holds: bool | None, numbers: str) -> Claim:
    remark = " The lead is within chance: more --seeds may decide." if holds is None else ""
    return {"claim": claim, "holds": holds, "numbers": numbers + remark}


# Several seeds.


class Lead(NamedTuple):
    """How far one model is better than the other in a cell of Table 1, seed by seed: positive where it is."""

    cell: str
    summary: dict[str, Any]

    @property
    def holds(self) -> bool | None:
        """None where the interval of the mean lead has 0 in it."""
        if self.summary["low"] > 0:
            return True
        return None if self.summary["high"] > 0 else False

    @property
    def sentence(self) -> str:
        shown = points if self.cell.endswith("accuracy") else "{:+.3f}".format
        mean, low, high = (shown(self.summary[name]) for name in ("mean", "low", "high"))
        return f"{self.cell.replace('_', ' ')} {mean} (95% interval {low.removesuffix(' points')} to {high})"


def _lead(results: Results, better: str, cell: str) -> Lead:
    table = results["over_seeds"]["table1"]
    other = "original" if better == "augmented" else "augmented"
    sign = -1 if cell.endswith("loss") else 1
    pairs = zip(table[better][cell]["values"], table[other][cell]["values"], strict=True)
    return Lead(cell, summarize([sign * (one - two) for one, two in pairs]))


def _claim_over_seeds(claim: str, results: Results, leads: Sequence[Lead], remark: str = "") -> Claim:
    """It holds if every lead's interval lies above 0, and fails if one lies below; else the seeds leave it open."""
    verdicts = [lead.holds for lead in leads]
    holds = False if False in verdicts else None if None in verdicts else True
    parts = "; ".join([*(lead.sentence for lead in leads), *filter(None, [remark])])
    numbers = f"Mean lead over {len(results['over_seeds']['seeds'])} seeds, compared seed by seed: {parts}."
    return {
        "claim": claim,
        "holds": holds,
        "numbers": numbers if holds is not None else f"{numbers} An interval has 0 in it: more --seeds may decide.",
    }


# The learning rate.


def _drop_shows(results: Results) -> Claim:
    drop = results["config"].get("learning_rate_drop")
    epoch = drop["every"] if drop else 0
    where = f"at epoch {epoch}" if drop else "in the curves"
    claim = f"The drop of the learning rate shows {where}: the test loss wobbles less than half as much after it."
    reason = _why_untested(results, epoch)
    if reason:
        return {"claim": claim, "holds": None, "numbers": reason}
    before_after = {model: _wobbles(curves, epoch) for model, curves in results["history"].items()}
    parts = [
        f"{before:#.2g} before and {after:#.2g} after ({model})" for model, (before, after) in before_after.items()
    ]
    return {
        "claim": claim,
        "holds": all(after < CALMER * before for before, after in before_after.values()),
        "numbers": f"Standard deviation of the test loss's changes from epoch to epoch, over {WINDOW} epochs: "
        f"{', '.join(parts)}.",
    }


def _why_untested(results: Results, epoch: int) -> str:
    """Why the drop after `epoch` (0: there is none) can't be judged; empty if it can."""
    if epoch == 0:
        return "This run's learning rate has no step down."
    if epoch < WINDOW:
        return f"The {epoch} epochs before the first drop are fewer than the {WINDOW} needed."
    epochs = min(len(curves["epoch"]) for curves in results["history"].values())
    if epochs < epoch + WINDOW:
        return f"The test takes {epoch + WINDOW} epochs and this run has {epochs}."
    return ""


def _wobbles(curves: Mapping[str, Sequence[float | None]], epoch: int) -> tuple[float, float]:
    """The test loss's wobble in the epochs up to `epoch` and in those that follow; the step between is in neither."""
    losses = curves["test_loss"]
    return wobble(losses[epoch - WINDOW : epoch]), wobble(losses[epoch : epoch + WINDOW])


def points(difference: float) -> str:
    """A difference of accuracies in percentage points: +0.54 points."""
    return f"{100 * difference:+.2f} points"


def _row(results: Results, model: str) -> dict[str, float]:
    return {name: number(value) for name, value in results["table1"][model].items()}


def _gap(row: Mapping[str, float]) -> float:
    return row["train_accuracy"] - row["test_accuracy"]


def _standard_error(accuracy: float, images: int) -> float:
    """Binomial: of the accuracy over that many independent images."""
    return math.sqrt(accuracy * (1 - accuracy) / images)
