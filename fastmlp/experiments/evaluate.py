"""An evaluation of a model that is kept: its figures and a report in a folder of its own."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastmlp.common import environment
from fastmlp.common.files import claimed, write_json
from fastmlp.datasets.base import LeftOut
from fastmlp.experiments.bad_images import list_bad_images
from fastmlp.experiments.results import SCHEMA
from fastmlp.models.predictor import Predictor
from fastmlp.report import head


def write_evaluation(model: Predictor, figures: dict[str, Any], rows: str, out: Path, left_out: LeftOut) -> None:
    """Write results.json and the report of what `Predictor.evaluate` found.

    rows: the name of those it was given; left_out: what was not among them.
    """
    config = model.config
    results = {
        "schema": SCHEMA,
        "model": str(model.folder),
        "config": {
            "sizes": config["sizes"],
            "backend": str(model.backend),
            **config["recipe"],
            "seed": config["seed"],
            "dtype": config["dtype"],
        },
        "data": {"dataset": rows, "trained_on": config["dataset"], "class_names": model.class_names}
        | ({"left_out": asdict(left_out)} if left_out else {}),
        "environment": environment.describe(),
        "evaluation": {model.folder.name: figures},
    }
    with claimed(out):
        list_bad_images(left_out.images, out)
        head.write(results, out)
        write_json(out / "results.json", results)
