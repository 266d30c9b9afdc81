"""The whole experiment in one call: both models, Table 1, the claims, figures and the report."""

from __future__ import annotations

from typing import Any

from fastmlp import report
from fastmlp.common.files import claimed, write_json
from fastmlp.experiments.config import Config
from fastmlp.experiments.experiment import Experiment

SCHEMA = 1


def reproduce(config: Config) -> dict[str, Any]:
    """The whole experiment; results.json, the report, its figures and both models are written to config.folder."""
    experiment = Experiment(config)
    with claimed(config.folder):
        return _reproduce(experiment)


def _reproduce(experiment: Experiment) -> dict[str, Any]:
    config = experiment.config
    experiment.extract()
    trained = experiment.train_all()
    results = {
        "schema": SCHEMA,
        "table1": {name: experiment.table_rows(name, [network])[0] for name, (network, _) in trained.items()},
        **experiment.describe(),
        "history": {name: history.as_dict() for name, (_, history) in trained.items()},
        "confusion": {name: experiment.confusion(network) for name, (network, _) in trained.items()},
    }
    if config.seeds > 1:
        results["over_seeds"] = experiment.over_seeds(results["table1"])
    results["seconds"] = {stage: round(seconds, 3) for stage, seconds in experiment.seconds.items()}
    results["claims"] = report.check_claims(results)
    report.write(results, config.folder, experiment.sheet())
    write_json(config.folder / "results.json", results)
    return results
