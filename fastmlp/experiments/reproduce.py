"""The paper in one call: both models, Table 1, the claims, figures and the report."""

from __future__ import annotations

from typing import Any

from fastmlp import paper, report
from fastmlp.common.beside import Beside
from fastmlp.common.clock import compiling
from fastmlp.common.files import claimed, write_json
from fastmlp.experiments.bad_images import list_bad_images
from fastmlp.experiments.config import Config
from fastmlp.experiments.feature_sets import ImageFeatures
from fastmlp.experiments.machine import Machine
from fastmlp.experiments.models import Models
from fastmlp.experiments.results import SCHEMA, before_training, describe, node, on_test_images, over_seeds, write
from fastmlp.report.blocks import Unsaved
from fastmlp.training.member import Member


def reproduce(config: Config, begun: float | None = None) -> dict[str, Any]:
    """Run the whole experiment; write results.json, the report, its figures and both models to config.folder.

    begun: see `Machine`.
    """
    machine = Machine(config.backend, config.threads, begun)
    with claimed(config.folder):
        return _reproduce(config, machine)


def _reproduce(config: Config, machine: Machine) -> dict[str, Any]:
    imported = Beside(report.prepare)
    features = ImageFeatures(config, machine)
    models = Models(config, machine, features.by_model())
    kernels = models.compile_beside()
    _ = models.window  # too little memory is refused before anything is extracted
    drawing = _draw_beside(models, features, imported)
    features.stores()  # all of them, before any training
    list_bad_images(features.images.dataset.left_out.images, config.folder)
    with compiling():
        kernels.join()
    with machine.timed("report"):
        first = drawing.join()  # so that nothing slows the training down
    trained = models.train()
    with machine.timed("evaluate"):
        results = _evaluated(models, features, trained)
    with machine.timed("write"):
        for name, member in trained.items():
            row, evaluation = results["table1"][name], results["evaluation"][name]
            write(models, name, member, row, evaluation, config.folder / name)
    with machine.timed("report"):
        drawn = report.draw(results, config.folder, first)
        results["seconds"] = machine.seconds_so_far()
        report.write(results, config.folder, drawn)
    results["seconds"] = machine.seconds_so_far()  # the report itself, which cannot tell it, included
    write_json(config.folder / "results.json", results)
    return results


def _draw_beside(models: Models, features: ImageFeatures, imported: Beside[None]) -> Beside[list[Unsaved]]:
    """Begin to draw the figures that need no trained model, beside whatever comes before the training."""
    known = before_training(models, features)  # after data are read and the extractor is open
    with models.machine.timed("report"):
        sheet = features.images.sheet()  # here, as it takes the device

    def draw() -> list[Unsaved]:
        imported.join()
        return report.draw_first(known, sheet)

    return Beside(draw)


def _evaluated(models: Models, features: ImageFeatures, trained: dict[str, Member]) -> dict[str, Any]:
    """What results.json holds, but for the time of each stage."""
    results = {
        "schema": SCHEMA,
        "table1": {name: models.table_rows(name, [member.network])[0] for name, member in trained.items()},
        **describe(models, features, trained[paper.MODELS[0]].network.tier),
        "history": {name: member.history.as_dict() for name, member in trained.items()},
        **on_test_images(models, {name: member.network for name, member in trained.items()}),
        "node": node(models, trained[paper.MODELS[0]].network),
    }
    if models.config.seeds > 1:
        results["over_seeds"] = over_seeds(models, results["table1"])
    results["claims"] = report.check_claims(results)
    return results
