"""The difference of two models on the same rows, compared with scipy.stats."""

import numpy as np
import pytest
from scipy import stats

from fastmlp.common.statistics import accuracy_error, paired_difference


@pytest.mark.parametrize("rows", [2, 20, 5000])
def test_against_scipy(rows: int, rng: np.random.Generator) -> None:
    one, other = rng.random(rows) < 0.8, rng.random(rows) < 0.75
    one[0], other[0] = True, False
    told = paired_difference(one, other)
    difference = one.astype(float) - other
    assert told["mean"] == pytest.approx(difference.mean())
    assert told["standard_error"] == pytest.approx(stats.sem(difference))
    alone, against = int((one & ~other).sum()), int((other & ~one).sum())
    assert told["p_value"] == pytest.approx(stats.binomtest(alone, alone + against).pvalue)
    assert paired_difference(other, one)["p_value"] == told["p_value"]


@pytest.mark.parametrize("hits", [[True], [True, True, False]])
def test_models_that_agree_do_not_differ(hits: list[bool]) -> None:
    told = paired_difference(np.array(hits), np.array(hits))
    assert told == {"mean": 0.0, "standard_error": 0.0, "p_value": 1.0}


def test_the_error_of_an_accuracy() -> None:
    assert accuracy_error(0.5, 100) == pytest.approx(0.05)
    assert accuracy_error(1.0, 100) == 0
