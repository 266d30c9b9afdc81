"""The report of a reproduction: figures, one self-contained HTML page, the same in Markdown, and Table 1 as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastmlp import paper
from fastmlp.common.files import write_text
from fastmlp.datasets import LeftOut
from fastmlp.report import figures, judgement
from fastmlp.report.blocks import Unsaved, counted, facts, flat, picture, shown, spaced, spoken, stages, total, unsaved
from fastmlp.report.claims import Results, check_claims, number, points
from fastmlp.report.document import (
    Block,
    Document,
    Highlights,
    Paragraph,
    Picture,
    Section,
    Table,
    Verdict,
    to_html,
    to_markdown,
)
from fastmlp.report.style import prepare
from fastmlp.report.table1 import HEADER, cells, seed_note, seed_rows

__all__ = ["check_claims", "draw", "draw_first", "prepare", "table1_text", "write"]

PAPERS_ROW = "The paper's own row is CIFAR-10 with ResNet-18 features"
MOST_NAMED = 3  # mistakes that are equally frequent
SAME_EXTRACTORS = ("resnet18", "torchvision:resnet18")


class Drawn(NamedTuple):
    """The blocks of a report that have figures in them, drawn before its time is taken."""

    figures: Sequence[Block]
    judgement: Sequence[Block]


def draw_first(known: Results, sheet: figures.AugmentationSheet) -> list[Unsaved]:
    """Figures 1 and 2, of which training changes nothing; known: of the results `config` and `data`."""
    labels = ", ".join(label for label, _ in sheet.rows[1:])
    sizes = [known["data"]["features"], *known["config"]["hidden_layer_sizes"], len(known["data"]["class_names"])]
    return [
        unsaved(
            "figure1-augmentations", figures.draw_sheet(sheet), "Figure 1. The augmentations.",
            "The first row shows images as they are, each row below one augmentation of them; each copy in the "
            "training set has one of these, drawn by chance.",
            f"A sheet of sample images: the originals, then {labels}.",
        ),
        unsaved(
            "figure2-network", figures.draw_network(known), "Figure 2. The network.",
            "Only the layers right of the frozen extractor learn. Tall layers show their ends.",
            f"A fully connected network with layers of {', '.join(str(size) for size in sizes)} nodes.",
        ),
    ]  # fmt: skip


def draw(results: Results, out: Path, first: Sequence[Unsaved]) -> Drawn:
    """OUT/figures/*.png, those of `draw_first` too, but not the chart of time; each file is whole or absent."""
    out = Path(out)
    drawn = [*(each.saved(out) for each in first), *_node(results, out), _training(results, out)]
    return Drawn(drawn, [*_confusions(results, out), _reliability(results, out)])


def write(results: Results, out: Path, drawn: Drawn) -> None:
    """OUT/report.html and OUT/report.md, with the chart of results["seconds"]; each file is whole or absent."""
    document = _document(results, Path(out), drawn)
    write_text(Path(out) / "report.md", to_markdown(document))
    write_text(Path(out) / "report.html", to_html(document))


def table1_text(results: Results) -> str:
    """Table 1, both models beside the paper's own figures, as aligned plain text."""
    rows: list[tuple[str, ...]] = [("", "", *HEADER)]
    for model in paper.MODELS:
        rows.append((model, "this run", *cells(results["table1"][model])))
        rows += [("", label, *row) for label, row in seed_rows(results, model)]
        rows.append(("", "paper", *cells(paper.TABLE1[model])))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, *([f"\n{_caution(results)}"] if _departures(results) else [])])


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.ljust(width) if column < 2 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


# Is this the paper's run?


def _departures(results: Results) -> dict[str, tuple[Any, Any]]:
    """The settings in which the run is not the paper's: name -> (here, the paper's)."""
    config = {**results["config"], "window_rows": results["data"].get("window_rows")}
    if config["extractor"] in SAME_EXTRACTORS:
        config["extractor"] = paper.RUN["extractor"]
    settings = {name: (config[name], value) for name, value in paper.RUN.items() if name in config}
    return {name: (here, papers) for name, (here, papers) in settings.items() if shown(here) != shown(papers)}


def _caution(results: Results) -> str:
    """Why the numbers are not to be compared blindly."""
    departures = _departures(results).items()
    parts = [f"{spaced(name)} {shown(here)}, not {shown(papers)}" for name, (here, papers) in departures]
    return f"{PAPERS_ROW}. This run departs from it, so the two are not to be compared one by one: {'; '.join(parts)}."


# The document.


def _document(results: Results, out: Path, drawn: Drawn) -> Document:
    config = results["config"]
    title = f"{spoken(config['dataset'])} on {spoken(config['extractor'])} features"
    return Document(
        title=f"{title[0].upper()}{title[1:]}, with and without augmentation",
        overline=f"fastmlp {results['environment'].get('fastmlp', '')} · reproduction report",
        opening=_opening(results),
        sections=(
            Section("Table 1", _table1(results)),
            Section("The paper's claims", [Verdict(**claim) for claim in results["claims"]]),
            Section("Figures", drawn.figures),
            Section("Mistakes and confidence", drawn.judgement),
            Section("Classes", judgement.per_class_table(results["evaluation"])),
            Section("Time", _time(results, out)),
            Section("Configuration", [_configuration(results)]),
            Section("Environment", [facts(results["environment"])]),
        ),
    )


def _opening(results: Results) -> list[Paragraph | Highlights]:
    blocks: list[Paragraph | Highlights] = [Paragraph(_what_was_run(results), "lead")]
    if results["data"].get("note"):
        blocks.append(Paragraph(results["data"]["note"]))
    if left_out := LeftOut(**results["data"].get("left_out", {})):
        blocks.append(Paragraph(f"Left out of the data: {left_out}; results.json has the list."))
    if _departures(results):
        blocks.append(Paragraph(_caution(results), "notice"))
    return [*blocks, _highlights(results)]


def _what_was_run(results: Results) -> str:
    config, data, tier = results["config"], results["data"], results["tier"]
    sizes = "-".join(str(size) for size in (data["features"], *config["hidden_layer_sizes"], len(data["class_names"])))
    return (
        f"A {sizes} network was trained for {counted(config['epochs'], 'epoch')} on {spoken(config['extractor'])} "
        f"features of {spoken(config['dataset'])} by the {config['backend']} backend (tier {tier['number']}, "
        f"{tier['name']}), once on the {data['train_images']:,} original images and once on "
        f"{data['augmented_images']:,} with augmented copies; both models were tested on the same "
        f"{data['test_images']:,} images."
    )


def _highlights(results: Results) -> Highlights:
    original, augmented = (number(results["table1"][model]["test_accuracy"]) for model in paper.MODELS)
    return Highlights((
        (f"{original:.2%}", "test accuracy, original", "original"),
        (f"{augmented:.2%}", "test accuracy, augmented", "augmented"),
        (points(augmented - original).removesuffix(" points"), "points from augmentation", "plain"),
        (figures.duration(total(results["seconds"])), "for all stages", "plain"),
    ))  # fmt: skip


def _table1(results: Results) -> list[Table | Paragraph]:
    rows, kinds = [], []
    for model in paper.MODELS:
        over_seeds = seed_rows(results, model)
        rows += [(model, *cells(results["table1"][model])), *((label, *row) for label, row in over_seeds)]
        rows.append(("the paper's", *cells(paper.TABLE1[model])))
        kinds += [model, *["paper"] * len(over_seeds), "paper"]
    note = (
        "Train figures: one full pass over the model's own training set after the last epoch. Loss: mean cross-entropy."
    )
    return [Table(("", *HEADER), rows, "numbers", kinds), Paragraph(note), *seed_note(results)]


def _training(results: Results, out: Path) -> Picture:
    caption = (
        "Loss and accuracy after each epoch, training set dashed, test set solid; dotted lines mark drops of the "
        "learning rate. The first epochs may start outside the frame."
    )
    description = (
        "Loss and accuracy by epoch for both models, on training and test set; Table 1 holds their final values."
    )
    drawn = figures.draw_training(results)
    return picture(out, "figure4-training", drawn, "Figure 4. The training.", caption, description)


def _node(results: Results, out: Path) -> list[Picture]:
    """The paper's Figure 3; none of a network without a hidden layer."""
    node = results.get("node")
    if node is None:
        return []
    title, inputs = "Figure 3. A node.", counted(results["data"]["features"], "feature")
    caption = (
        f"Hidden unit {node['unit']} of the original model, the one with the largest outgoing weights, on the test "
        f"image that excites it most, number {node['image']} ({node['class']}). It multiplies {inputs} by its "
        "weights, adds the products and its bias, and passes on what is above zero. The largest products are shown one "
        "by one, the others summed: those that add to the sum, and those that subtract from it (dashed)."
    )
    description = (
        f"A node: {inputs} by their weights and the bias add up to {node['sum']:.3g}; ReLU makes it "
        f"{node['activation']:.3g}."
    )
    return [picture(out, "figure3-node", figures.draw_node(node), title, caption, description)]


def _confusions(results: Results, out: Path) -> list[Picture | Paragraph]:
    """Both models' confusion matrices, if there are not too many classes, and their most frequent mistakes."""
    worst, evaluations = _worst_confusions(results), results["evaluation"]
    if not judgement.has_matrix(evaluations):
        return [Paragraph(worst)]
    caption = "The percentage of each true class (row) of the test set that was predicted as each class (column)."
    title, description = "Which class is mistaken for which.", "Confusion matrices of both models on the test set."
    drawn = judgement.draw_confusion(evaluations)
    return [picture(out, "confusion", drawn, title, f"{caption} {worst}", description)]


def _reliability(results: Results, out: Path) -> Picture:
    caption = (
        "Left: how often answers of a confidence are right; on the dotted line as often as they say. Right: how many "
        "answers are so confident. The calibration error is the mean distance from the line (Guo et al. 2017)."
    )
    drawn = judgement.draw_reliability(results["evaluation"])
    description = "Accuracy against confidence on the test set, and the share of images by confidence, for both models."
    return picture(out, "reliability", drawn, "How well confidence is founded.", caption, description)


def _time(results: Results, out: Path) -> list[Picture]:
    seconds = stages(results["seconds"])
    described = ", ".join(f"{spaced(stage)} {figures.duration(value)}" for stage, value in seconds.items())
    caption = f"{figures.duration(total(seconds))} in all on the {results['config']['backend']} backend."
    if results["data"].get("reused_features"):
        caption += f" Features that an earlier run had stored: {', '.join(results['data']['reused_features'])}."
    return [picture(out, "seconds", figures.draw_seconds(results), "Time by stage.", caption, f"{described}.")]


def _worst_confusions(results: Results) -> str:
    """For each model, the mistake it makes most often."""
    worst = {model: _most_frequent(results["evaluation"][model]["mistakes"]) for model in paper.MODELS}
    sentences = [f"{model}: {mistakes}" for model, mistakes in worst.items() if mistakes]
    return f"Most frequent mistakes: {'; '.join(sentences)}." if sentences else "Neither model made a mistake."


def _most_frequent(mistakes: Sequence[Mapping[str, Any]]) -> str:
    """The first of the mistakes, which are in order of their counts, and those that are as frequent."""
    first = [one for one in mistakes if one["count"] == mistakes[0]["count"]]
    if len(first) > MOST_NAMED:
        images = counted(first[0]["count"], "image")
        return "none is made twice" if first[0]["count"] == 1 else f"{len(first)} kinds, {images} each"
    return ", ".join(
        f"{one['true']} mistaken for {one['predicted']}, {counted(one['count'], 'image')}" for one in first
    )


def _configuration(results: Results) -> Table:
    """Each setting beside the paper's, where it has one; then the tier."""
    departures = _departures(results)
    rows, kinds = [], []
    for name, value in flat(results["config"]):
        rows.append((spaced(name), shown(value), shown(paper.RUN[name]) if name in paper.RUN else ""))
        kinds.append("departs" if name in departures else "same")
    tier = results["tier"]
    rows.append(("tier", f"{tier['number']}, {tier['name']}: {tier['reason']}", ""))
    return Table(("setting", "this run", "the paper's"), rows, "facts", [*kinds, "same"])
