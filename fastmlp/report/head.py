"""The report of one model, trained or evaluated: its figures, mistakes and confidence; nothing of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastmlp.common.files import write_text
from fastmlp.common.statistics import accuracy_error
from fastmlp.datasets import LeftOut
from fastmlp.report import figures, judgement
from fastmlp.report.blocks import counted, facts, picture, spaced, spoken, total
from fastmlp.report.document import Block, Document, Highlights, Paragraph, Section, Table, to_html, to_markdown

Results = Mapping[str, Any]

MOST_CLASSES = 20  # that the table of the data names


def write(results: Results, out: Path) -> None:
    """OUT/figures/*.png, OUT/report.html and OUT/report.md, of what the results.json of a model or evaluation holds."""
    document = _document(results, out)
    write_text(out / "report.md", to_markdown(document))
    write_text(out / "report.html", to_html(document))


def _document(results: Results, out: Path) -> Document:
    trained = "history" in results
    kind = "training" if trained else "evaluation"
    return Document(
        title=f"{_network(results)} on {spoken(results['data']['dataset'])}",
        overline=f"fastmlp {results['environment'].get('fastmlp', '')} · {kind} report",
        opening=[Paragraph(_what_was_done(results), "lead"), *_notices(results), _highlights(results)],
        sections=[
            *([Section("Training", _training(results, out))] if trained else []),
            *([Section("Folds", [_folds(results["over_folds"])])] if "over_folds" in results else []),
            Section("Classes", judgement.per_class_table(results["evaluation"])),
            Section("Mistakes", _mistakes(results, out)),
            Section("Confidence", _confidence(results, out)),
            Section("Data", [facts(_data(results))]),
            Section("Configuration", [facts(results["config"])]),
            Section("Environment", [facts(results["environment"])]),
        ],
    )


def _network(results: Results) -> str:
    sizes = "-".join(map(str, results["config"]["sizes"]))
    return f"A {sizes} network"


def _evaluation(results: Results) -> Mapping[str, Any]:
    (evaluation,) = results["evaluation"].values()
    return evaluation


def _what_was_done(results: Results) -> str:
    config, data, samples = results["config"], results["data"], _evaluation(results)["samples"]
    if "history" not in results:
        mirrored = _evaluation(results).get("views") == "mirror"
        views = ", by the mean of its answers to each image and to its mirror image" if mirrored else ""
        return f"{_network(results)} was evaluated on {counted(samples, 'row')} of {spoken(data['dataset'])}{views}."
    things = "row" if data["extractor"] is None else "image"
    features = "" if data["extractor"] is None else f"{spoken(data['extractor']['name'])} features of "
    tier = results["tier"]
    return (
        f"{_network(results)} was trained for {_epochs(results)} on {features}"
        f"{counted(data['rows']['training'], things)} of {spoken(data['dataset'])}, by the "
        f"{config['backend']} backend (tier {tier['number']}, {tier['name']}), and tested on "
        f"{counted(samples, things)}."
    )


def _epochs(results: Results) -> str:
    """How many, and under early stopping which one is kept."""
    (history,) = results["history"].values()
    trained, scores = counted(len(history["epoch"]), "epoch"), history.get("validation_accuracy")
    return f"{trained}, of which number {scores.index(max(scores)) + 1} is kept," if scores else trained


def _notices(results: Results) -> list[Paragraph]:
    data, trained_on = results["data"], _evaluation(results).get("rows_trained_on")
    said = [data.get("note"), str(LeftOut(**data.get("left_out", {}))), *data.get("notices", [])]
    if trained_on:
        rows = counted(trained_on, "row")
        said.append(f"{rows} tested on equal rows that the model was trained on, so these figures are too good.")
    return [Paragraph(text, "notice") for text in said if text]


def _highlights(results: Results) -> Highlights:
    evaluation = _evaluation(results)
    accuracy = evaluation["accuracy"]
    error = accuracy_error(accuracy, evaluation["samples"])
    seconds = results.get("seconds", {})
    return Highlights((
        (f"{accuracy:.2%}", f"test accuracy, standard error {100 * error:.2f} points", "augmented"),
        (f"{evaluation['loss']:.3f}", "test loss", "plain"),
        (f"{evaluation['calibration_error']:.2%}", "calibration error", "plain"),
        *([(figures.duration(total(seconds)), "for all stages", "plain")] if seconds else []),
    ))  # fmt: skip


def _training(results: Results, out: Path) -> list[Block]:
    row = results["figures"]
    cells = [_cell(name, value) for name, value in row.items()]
    table = Table(("", *(spaced(name) for name in row)), [(results["model"], *cells)], "numbers", ["plain"])
    note = "Train figures: one full pass over the training set once training has ended. Loss: mean cross-entropy."
    drawn = figures.draw_training(results)
    caption = (
        "Loss and accuracy after each epoch, training set dashed, test set solid; dotted lines mark drops of the "
        "learning rate. The first epochs may start outside the frame."
    )
    curves = picture(out, "training", drawn, "The training.", caption, "Loss and accuracy by epoch, training and test.")
    return [table, Paragraph(note), curves]


def _cell(name: str, value: float) -> str:
    return f"{value:.3%}" if name.endswith("accuracy") else f"{value:.4f}"


def _folds(over_folds: Results) -> Table:
    """The figures of every fold's model, and their mean and standard deviation."""
    names = list(over_folds["folds"][0])
    rows = [(str(number), *(_cell(*pair) for pair in row.items())) for number, row in enumerate(over_folds["folds"], 1)]
    means, stds = ([_cell(name, over_folds[name][statistic]) for name in names] for statistic in ("mean", "std"))
    rows += [("mean", *means), ("standard deviation", *stds)]
    return Table(("fold", *(spaced(name) for name in names)), rows, "numbers", ["plain"] * len(rows))


def _mistakes(results: Results, out: Path) -> list[Block]:
    """The most frequent mistakes, and the confusion matrix where there are not too many classes."""
    evaluation = _evaluation(results)
    blocks: list[Block] = [judgement.mistakes_table(evaluation)] if evaluation["mistakes"] else [Paragraph("None.")]
    if not judgement.has_matrix(results["evaluation"]):
        return [*blocks, Paragraph("results.json has all pairs of classes that occur.")]
    drawn = judgement.draw_confusion(results["evaluation"])
    caption = "The percentage of each true class (row) of the test set that was predicted as each class (column)."
    title, description = "Which class is mistaken for which.", "The confusion matrix on the test set."
    return [*blocks, picture(out, "confusion", drawn, title, caption, description)]


def _confidence(results: Results, out: Path) -> list[Block]:
    drawn = judgement.draw_reliability(results["evaluation"])
    caption = (
        "Left: how often answers of a confidence are right; on the dotted line as often as they say. Right: how many "
        "answers are so confident. The calibration error is the mean distance from the line (Guo et al. 2017)."
    )
    description = "Accuracy against confidence on the test set, and the share of rows by confidence."
    return [picture(out, "reliability", drawn, "Calibration.", caption, description)]


def _data(results: Results) -> dict[str, Any]:
    """The data in a few lines: of many classes and features only how many there are."""
    data, test = dict(results["data"]), _evaluation(results)["test_set"]
    names = data.pop("class_names")
    classes = f"{len(names):,}: {', '.join(names[:MOST_CLASSES])}{', ...' if len(names) > MOST_CLASSES else ''}"
    told = ("dataset", "trained_on", "rows", "label_column", "extractor")
    shown = {name: data[name] for name in told if data.get(name) is not None}
    return {**shown, "classes": classes, "digest of the test rows": test["rows"]}
