"""The scale of features: standardise them before training, or warn that gradient descent may not cope with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastmlp.common.errors import UsageError
from fastmlp.features.tables import RowArray
from fastmlp.network.trainer import Trainer
from fastmlp.training.recipe import Recipe
from fastmlp.training.samples import Samples

MOST_SPREAD = 100  # times the median of the features' standard deviations
LEAST_SIZE, MOST_SIZE = 1e-3, 100.0  # of features, root mean square
SAMPLED_ROWS = 1024  # for the features' mean and spread: their standard error is then about 3% of the spread


def standardize(networks: Sequence[Trainer], recipes: Sequence[Recipe], samples: Samples, rows: Sequence[int]) -> None:
    """Have each network whose recipe says "together" standardise its features, by its own first rows' statistics.

    Subtracts each feature's mean, and divides by one spread for all, the root of the mean variance; both of evenly
    spaced rows. Centring speeds training up (LeCun et al. 1998, section 4.3); a single spread preserves the features'
    relative weights, which a rare feature's own spread would not. Samples that were standardised before they were
    placed stay as they are. Raises UsageError for a recipe that standardises each feature, or brings rows to unit
    length, if these were not.
    """
    if samples.scaling is not None:
        return
    for network, recipe, count in zip(networks, recipes, rows, strict=True):
        if recipe.standardize in ("each", "unit"):
            raise UsageError(f'The recipe standardises "{recipe.standardize}": place the samples with their scaling.')
        if recipe.standardize == "together":
            spaced = samples.spaced_rows(network.backend, count, SAMPLED_ROWS)
            mean = spaced.mean(axis=0)
            spread = float(np.sqrt(np.mean((spaced - mean) ** 2)))
            network.standardize(mean, 1 / spread if spread > 0 else 1.0)


def odd_scale(features: RowArray, centred: bool = False) -> str | None:
    """What is odd about the scale of features (n, d), if gradient descent may not cope with it, else None.

    It looks at evenly spaced rows. centred: the mean will be subtracted, and one spread divided by, before training.
    """
    rows = np.asarray(features[:: max(1, len(features) // SAMPLED_ROWS)], np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # infinity is found elsewhere
        spreads, size = rows.std(axis=0), np.sqrt(np.mean(rows**2))
    spreads = spreads[spreads > 0]
    if len(spreads) and spreads.max() > MOST_SPREAD * np.median(spreads):
        low, high = np.median(spreads), spreads.max()
        return f"have spreads as different as {low:.2g} and {high:.2g}, and may not train well"
    if not centred and len(spreads) and not LEAST_SIZE <= size <= MOST_SIZE:
        return f"are of the size of {size:.2g}, and may not train well"
    return None
