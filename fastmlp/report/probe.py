"""The report of a probe: its protocol, every setting on the held-out rows, and the best head on the test rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastmlp.common.files import write_text
from fastmlp.common.statistics import accuracy_error
from fastmlp.report.blocks import counted, facts, picture, spoken, total
from fastmlp.report.document import Document, Highlights, Paragraph, Section, Table, to_html, to_markdown
from fastmlp.report.figures import duration
from fastmlp.report.sweep import cells, closing, draw_sweep, header

Results = Mapping[str, Any]

MOST_CLASSES = 20  # that the table of the data names


def write(results: Results, out: Path) -> None:
    """OUT/figures/probe.png, OUT/report.html and OUT/report.md, of what probe.json holds."""
    document = _document(results, out)
    write_text(out / "report.md", to_markdown(document))
    write_text(out / "report.html", to_html(document))


def _document(results: Results, out: Path) -> Document:
    protocol = results["protocol"]
    chart = picture(
        out, "probe", draw_sweep(results), "Accuracy on the held-out rows.",
        "A dot for each setting's mean, a dash for each of its heads; the ring is the choice. Poor settings may lie "
        "outside the frame; a cross is a head that diverged.",
        "Accuracy on the held-out rows of every setting.",
    )  # fmt: skip
    return Document(
        title=f"The probe {protocol['name']} on {spoken(results['config']['dataset'])}",
        overline=f"fastmlp {results['environment'].get('fastmlp', '')} · probe",
        opening=[
            Paragraph(protocol["about"] or "A protocol of one's own.", "lead"),
            *(Paragraph(text, "notice") for text in results["data"].get("notices", ())),
            _highlights(results),
        ],
        sections=[
            Section("The choice", [chart, *(Paragraph(sentence) for sentence in closing(results))]),
            Section("Every setting", [_table(results)]),
            Section("Protocol", [facts({name: one for name, one in protocol.items() if name != "about"})]),
            Section("Data", [facts(_data(results["data"]))]),
            Section("Configuration", [facts(results["config"])]),
            Section("Environment", [facts(results["environment"])]),
        ],
    )


def _highlights(results: Results) -> Highlights:
    chosen, rows = results["chosen"], results["data"]["test_rows"]
    error = accuracy_error(chosen["test_accuracy"], rows)
    return Highlights((
        (f"{chosen['test_accuracy']:.2%}", f"test accuracy, standard error {100 * error:.2f} points", "augmented"),
        (f"{results['settings'][0]['validation_accuracy']['mean']:.2%}", "on the held-out rows", "plain"),
        (counted(results["heads"], "head"), f"of {counted(len(results['settings']), 'setting')}", "plain"),
        (duration(total(results["seconds"])), "for all stages", "plain"),
    ))  # fmt: skip


def _table(results: Results) -> Table:
    rows = [cells(row) for row in results["settings"]]
    return Table(header(results), rows, "numbers", ["augmented", *["plain"] * (len(rows) - 1)])


def _data(data: Results) -> dict[str, Any]:
    names = data["class_names"]
    classes = f"{len(names):,}: {', '.join(names[:MOST_CLASSES])}{', ...' if len(names) > MOST_CLASSES else ''}"
    told = ("rows_trained_on", "held_out_rows", "test_rows", "label_column", "sources")
    return {**{name: data[name] for name in told if data.get(name) is not None}, "classes": classes}
