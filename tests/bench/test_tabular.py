"""The study of the defaults on tables: what it draws, what it finds, and how a page shows it."""

from dataclasses import replace

import numpy as np
import pytest

from fastmlp.bench import readme, tabular
from fastmlp.bench.compare import comparisons
from fastmlp.bench.results import Measurement
from fastmlp.bench.tables import SPLITS, TABLES, Table

BY_NAME = {table.name: table for table in TABLES}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_splits_keep_the_shares_of_the_classes(table: Table) -> None:
    (X, y), (_, tested) = next(table.splits(0))
    assert np.isfinite(X).all()
    assert len(y) == table.rows if table.rows else 1.9 < len(y) / len(tested) < 2.1
    before, after = (np.mean(labels[:, None] == np.unique(y), axis=0) for labels in (y, tested))
    np.testing.assert_allclose(after, before, atol=1 / min(len(y), len(tested)))


def test_rows_are_drawn_from_the_seed() -> None:
    first, again, other = (next(BY_NAME["moons"].splits(seed)).train[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.fixture(scope="module")
def found() -> list[Measurement]:
    return list(tabular.measured([BY_NAME["wine"]]))


def test_every_contender_is_fitted_on_every_split(found: list[Measurement]) -> None:
    assert [one.contender for one in found] == list(tabular.CONTENDERS)
    for one in found:
        assert (one.facts["rows"], one.facts["features"], one.facts["classes"]) == (118, 13, 3)
        assert one.rounds == len(one.facts["accuracy"]) == len(one.facts["log_loss"]) == SPLITS
        assert one.median > 0


def test_the_page_shows_the_means_and_who_is_behind(found: list[Measurement]) -> None:
    accuracies = {"fastmlp": [0.9, 0.91, 0.92], "their MLP": [0.5] * 3, "their MLP, scaled": [0.92] * 3}
    made_up = [
        replace(one, facts=one.facts | {"accuracy": accuracies.get(one.contender, [0.8] * 3), "log_loss": [0.25]})
        for one in found
    ]
    (compared,) = comparisons(made_up)
    assert tabular.ahead(compared)["mean"] == pytest.approx(-1)
    page = tabular.text(made_up)
    assert "| wine | 118 | 13 | 3 | 91.0 | 50.0 | **92.0** | 80.0 | **-1.0 (-3.5 to +1.5)** |" in page
    assert "| wine | 118 | 13 | 3 | **0.250** | **0.250** |" in page


@pytest.mark.parametrize("name", ["wine", "blobs", "moons"])
def test_the_defaults_are_not_behind(name: str) -> None:
    """One split of small tables; the page has all of them, and five splits."""
    split = next(BY_NAME[name].splits(seed=7))
    ours, *theirs = (
        tabular.fitted(tabular.contender(one, seed=0), split)["accuracy"] for one in (tabular.OURS, *tabular.MLPS)
    )
    assert 100 * (max(theirs) - ours) <= tabular.MOST_BEHIND


def test_the_page_has_the_tables_of_the_newest_results() -> None:
    page = tabular.PAGE.read_text()
    assert page == tabular.page(page, readme.newest_runs(readme.FOLDER, tabular.SUITE))
