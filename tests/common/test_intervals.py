"""Mean, standard deviation and interval, compared with scipy.stats, and the interval's coverage."""

import numpy as np
import pytest
from scipy import stats

from fastmlp.common.statistics import summarize


@pytest.mark.parametrize("count", [2, 3, 5, 30])
def test_against_scipy(count, rng):
    values = rng.normal(0.8, 0.01, count).tolist()
    summary = summarize(values)
    error = stats.sem(values)
    low, high = stats.t.interval(0.95, count - 1, loc=np.mean(values), scale=error)
    assert summary["values"] == values
    assert [summary[name] for name in ("mean", "std", "low", "high")] == pytest.approx(
        [np.mean(values), np.std(values, ddof=1), low, high], rel=1e-12
    )


def test_five_values_by_hand():
    summary = summarize([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (summary["mean"], summary["std"]) == pytest.approx((3, 2.5**0.5))
    assert summary["high"] - 3 == pytest.approx(2.7764451 * (2.5 / 5) ** 0.5)  # t(0.975, 4), from any table


def test_it_covers_the_mean_19_times_in_20(rng):
    draws = [summarize(row) for row in rng.standard_normal((2000, 4)).tolist()]
    covered = np.mean([draw["low"] < 0 < draw["high"] for draw in draws])
    assert covered == pytest.approx(0.95, abs=3 * (0.95 * 0.05 / 2000) ** 0.5)


def test_one_value_has_no_spread():
    assert summarize([0.5]) == {"mean": 0.5, "std": None, "low": None, "high": None, "values": [0.5]}
