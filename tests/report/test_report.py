"""The report: what it says, what it looks like, and that nothing in it comes from outside."""

import math
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fastmlp import paper, report
from fastmlp.common.errors import UsageError
from fastmlp.models import metrics
from fastmlp.report import figures, judgement
from fastmlp.report.blocks import shown as words_of
from fastmlp.report.blocks import stages, total
from fastmlp.report.document import Document, Section, Verdict, to_html, to_markdown
from fastmlp.report.style import PALETTE
from fastmlp.report.stylesheet import DARK, LIGHT
from tests.drawn import cut_texts

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def fake_curves(rng, epochs, final, start=1.9):
    """Curves that fall to the model's final figures, with noise that follows the learning rate."""
    epoch = np.arange(1, epochs + 1)
    rate = 0.01 * 0.1 ** ((epoch - 1) // 100)
    progress = 1 - np.exp(-epoch / 18)
    curves = {"epoch": epoch.tolist(), "learning_rate": rate.tolist()}
    for name, value in final.items():
        first, noise = (0.35, 0.3) if "accuracy" in name else (start, 0.8)
        wobble = rng.standard_normal(epochs) * rate * noise * (1.0 if "test" in name else 0.15)
        curves[name] = (first + (value - first) * progress + wobble).tolist()
    return curves


def fake_confusion(rng, images, accuracy, classes):
    """Counts (classes, classes) with a few pairs of classes that are hard to tell apart."""
    odds = rng.gamma(0.6, size=(classes, classes))
    np.fill_diagonal(odds, 0)
    shares = (1 - accuracy) * odds / odds.sum(axis=1, keepdims=True) + accuracy * np.eye(classes)
    return np.array([rng.multinomial(images // classes, row) for row in shares]).tolist()


def evaluation_of(confusion, class_names):
    """The figures of sure answers with these counts of true (row) and predicted classes (column)."""
    labels, predicted = (np.repeat(places.ravel(), np.ravel(confusion)) for places in np.indices(np.shape(confusion)))
    logits = 3 * np.eye(len(class_names), dtype=np.float32)[predicted]
    return metrics.evaluate(metrics.Answers.of([logits], labels), class_names)


def fake_node(class_names):
    inputs = [{"feature": 100 + place, "value": 1.5 - place, "weight": 0.25} for place in range(6)]
    others = {"adding": {"count": 300, "sum": 12.25}, "subtracting": {"count": 206, "sum": -7.5}}
    sums = {"bias": -0.125, "sum": 2.5, "activation": 2.5}
    return {"unit": 17, "image": 4711, "class": class_names[0], "inputs": inputs, **others, **sums}


def fake_results(epochs=300, class_names=CLASSES):
    """A believable run, as experiment.py hands it over."""
    rng = np.random.default_rng(0)
    table = {
        "original": {"train_accuracy": 0.78312, "train_loss": 0.63124, "test_accuracy": 0.7004, "test_loss": 0.87631},
        "augmented": {"train_accuracy": 0.72455, "train_loss": 0.79321, "test_accuracy": 0.70981, "test_loss": 0.84107},
    }
    results = {
        "schema": 1,
        "table1": table,
        "config": {
            "dataset": "cifar10", "extractor": "patches", "backend": "numba", "preset": "paper", "epochs": epochs,
            "batch_size": 64, "learning_rate": 0.01, "learning_rate_drop": {"every": 100, "factor": 0.1}, "seed": 0,
            "dtype": "float32", "threads": 2, "limit": None, "hidden_layer_sizes": [64], "weights": None,
            "image_size": 224, "augmentation": {"padding": 4, "degrees": 15.0, "contrast": [0.6, 1.4]},
        },
        "data": {
            "name": "cifar10", "note": "", "class_names": list(class_names), "train_images": 50000,
            "augmented_images": 100000, "test_images": 10000, "features": 512,
        },
        "tier": {"number": 3, "name": "fused epoch", "reason": "512-64-10 in float32 fits the epoch kernel"},
        "environment": {
            "fastmlp": "0.1.0", "python": "3.11.7", "numpy": "2.4.6", "platform": "Linux-6.8-x86_64-with-glibc2.36",
            "cpu": "Intel(R) Xeon(R) Processor @ 2.90GHz", "cores": 2, "threads": {"blas": 2, "numba": 2},
        },
        "seconds": {
            "data": 0.8213, "augment": 4.31, "extract": 181.4, "train_original": 38.02, "train_augmented": 75.9,
            "evaluate": 0.34,
        },
        "history": {model: fake_curves(rng, epochs, row) for model, row in table.items()},
        "evaluation": {
            model: evaluation_of(fake_confusion(rng, 10000, row["test_accuracy"], len(class_names)), class_names)
            for model, row in table.items()
        },
        "node": fake_node(class_names),
    }  # fmt: skip
    results["claims"] = report.check_claims(results)
    return results


def fake_sheet(images=4):
    rng = np.random.default_rng(1)
    labels = ("original", "crop", "rotation", "cutout", "contrast + flip")
    return figures.AugmentationSheet(
        tuple((label, rng.integers(0, 256, (images, 3, 32, 32), dtype=np.uint8)) for label in labels)
    )


def draw(results, out, images=4):
    return report.draw(results, out, report.draw_first(results, fake_sheet(images)))


HOSTILE = (
    "<script>alert(1)</script>",
    "\x1b[31mred\x07",
    "a|b`*_[x](http://evil.example)",
    "$x^$",
    "\udcff\u202egnp",
    "猫",
)
NAMES = (
    "figure1-augmentations",
    "figure2-network",
    "figure3-node",
    "figure4-training",
    "confusion",
    "reliability",
    "seconds",
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of one report, and the results it was written from."""
    out, results = tmp_path_factory.mktemp("report"), fake_results()
    report.write(results, out, draw(results, out))
    return out, results


class Page(HTMLParser):
    """A page taken apart; fails on a tag that is closed out of turn."""

    VOID = ("meta", "br", "img", "hr", "link", "input")

    def __init__(self, text):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.tables: list[list[list[str]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


def page_of(folder):
    return Page((folder / "report.html").read_text())


# What is written.


def test_writes_these_files_and_leaves_no_other(written):
    out, _ = written
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert files == sorted(["report.html", "report.md", *(f"figures/{name}.png" for name in NAMES)])


@pytest.mark.parametrize("name", NAMES)
def test_figures_are_large_opaque_pictures_with_something_on_them(written, name):
    with Image.open(written[0] / f"figures/{name}.png") as image:
        assert image.width >= 768
        assert image.convert("RGBA").getchannel("A").getextrema() == (255, 255)
        counts = np.unique(np.asarray(image.convert("RGBA")).view("<u4"), return_counts=True)[1]
    assert len(counts) > 16
    assert counts.max() < 0.97 * counts.sum()


def test_page_loads_nothing(written):
    page = page_of(written[0])
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        for name in {"src", "href", "xlink:href", "srcset", "action"} & set(attributes):
            assert attributes[name].startswith(("data:image/png;base64,", "#"))
    html = (written[0] / "report.html").read_text()
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]*)\)", html))


def test_ids_are_unique_and_references_resolve(written):
    page = page_of(written[0])
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = [
        attributes["href"][1:] for _, attributes in page.elements if attributes.get("href", "").startswith("#")
    ]
    references += re.findall(r"url\(#([^)]*)\)", " ".join(str(attributes) for _, attributes in page.elements))
    assert references
    assert set(references) <= set(ids)


def test_figures_take_every_colour_from_the_page(written):
    page = page_of(written[0])
    drawn = [value for tag, attrs in page.elements if tag != "meta" for value in attrs.values() if value]
    assert not [value for value in drawn if re.search(r"#[0-9a-f]{6}\b", value)]
    used = set(re.findall(r"var\(--([a-z-]+)\)", " ".join(drawn)))
    assert {"original", "augmented", "ink", "muted"} <= used <= set(PALETTE)


def test_one_heading_a_title_and_described_figures(written):
    page = page_of(written[0])
    assert [tag for tag, _ in page.elements].count("h1") == 1
    pictures = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(pictures) == len(NAMES)
    assert all(picture["role"] == "img" and len(picture["aria-label"]) > 20 for picture in pictures)


def test_markdown_links_to_the_figures(written):
    out, _ = written
    links = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (out / "report.md").read_text())
    assert links == [f"figures/{name}.png" for name in NAMES]
    assert all((out / link).is_file() for link in links)


# The numbers.


def parsed(cells):
    """Fractions and losses from a row of Table 1."""
    return [float(cell.removesuffix("%")) / (100 if cell.endswith("%") else 1) for cell in cells]


def check_table1(rows, results):
    """Rows of cells whose last four are numbers: original, the paper's, augmented, the paper's."""
    expected = [table[model] for model in ("original", "augmented") for table in (results["table1"], paper.TABLE1)]
    assert len(rows) == 4
    for row, want in zip(rows, expected, strict=True):
        columns = ("train_accuracy", "train_loss", "test_accuracy", "test_loss")
        np.testing.assert_allclose(parsed(row[-4:]), [want[column] for column in columns], rtol=0, atol=5.01e-4)
        assert abs(parsed(row[-4:])[2] - want["test_accuracy"]) < 5.01e-6


def test_table1_holds_the_results_numbers(written):
    out, results = written
    check_table1(page_of(out).tables[0][1:], results)
    table = [
        line for line in (out / "report.md").read_text().split("## The paper's claims")[0].splitlines() if "|" in line
    ]
    check_table1([[cell.strip() for cell in line.strip("| ").split("|")] for line in table[2:]], results)
    check_table1([line.split() for line in report.table1_text(results).splitlines()[1:5]], results)


def test_table1_text_is_aligned():
    lines = report.table1_text(fake_results(1)).splitlines()[:5]
    assert len({len(line) for line in lines}) == 1
    assert lines[1].startswith("original   this run  ")
    assert lines[2].startswith("           paper  ")


def test_paper_digits_survive():
    results = fake_results(1)
    results["table1"] = paper.TABLE1
    text = report.table1_text(results)
    for value in ("85.546%", "0.417", "80.140%", "0.580", "80.128%", "0.562", "80.680%", "0.579"):
        assert text.count(value) == 2


def test_a_missing_number_is_shown_as_such():
    results = fake_results(1)
    results["table1"]["augmented"]["test_loss"] = None
    assert report.table1_text(results).splitlines()[3].endswith(" nan")


def paper_run():
    """The fake run under the paper's settings."""
    results = fake_results()
    results["config"] |= {"extractor": "torchvision:resnet18", "hidden_layer_sizes": (64,)}
    return results


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dataset": "digits"}, "dataset digits, not cifar10"),
        ({"extractor": "patches"}, "extractor patches, not resnet18"),
        ({"epochs": 20}, "epochs 20, not 300"),
        ({"limit": 1000}, "limit 1000, not none"),
        ({"learning_rate_drop": None}, "learning rate drop none, not every 100, factor 0.1"),
    ],
)
def test_a_run_that_is_not_the_papers_says_so(change, says):
    results = paper_run()
    assert "own row" not in report.table1_text(results)
    results["config"] |= change
    assert "CIFAR-10 with ResNet-18 features" in report.table1_text(results)
    assert report.table1_text(results).endswith(f": {says}.")


def test_page_shows_settings_environment_and_times(written):
    out, results = written
    page = page_of(out)
    cells = {row[0]: row[1:] for table in page.tables[1:] for row in table}
    assert cells["extractor"] == ["patches", "resnet18"]
    assert cells["learning rate drop"] == ["every 100, factor 0.1"] * 2
    assert cells["augmentation, contrast"] == ["0.6, 1.4", ""]
    assert cells["cpu"] == [results["environment"]["cpu"]]
    assert cells["threads, numba"] == ["2"]
    text = " ".join(page.text)
    for shown in (
        "patch features of CIFAR-10",
        "3 min 01 s",
        "38.0 s",
        "train augmented",
        "tier 3, fused epoch",
        "50,000",
        "5 min 01 s in all",
    ):
        assert shown in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.00 s"), (9.994, "9.99 s"), (59.9, "59.9 s"), (75.9, "1 min 16 s"), (7320, "2 h 02 min")],
)
def test_durations(seconds, text):
    assert figures.duration(seconds) == text


def test_each_verdict_is_a_word():
    verdicts = [Verdict(f"Claim {holds}.", holds, "Numbers.") for holds in (True, False, None)]
    document = Document("title", "overline", [], [Section("Claims", verdicts)])
    text = " ".join(Page(to_html(document)).text)
    assert re.findall("(Holds|Does not hold|Not decided) +Claim (True|False|None)", " ".join(text.split())) == [
        ("Holds", "True"),
        ("Does not hold", "False"),
        ("Not decided", "None"),
    ]
    assert "**Does not hold:** Claim False. Numbers." in to_markdown(document)


def test_claims_are_the_results_own(written):
    out, results = written
    text = " ".join(page_of(out).text)
    for claim in results["claims"]:
        assert claim["claim"] in text
        assert claim["numbers"] in text


# Hostile names.


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    results = fake_results(3, HOSTILE)
    # The worst name is the one the caption speaks of.
    results["evaluation"]["original"] = evaluation_of(
        np.diag([9] * 6) + 7 * (np.arange(36) == 2).reshape(6, 6), HOSTILE
    )
    results["config"]["dataset"] = "folder:/tmp/<b>x\x1b]0;owned\x07"
    results["data"]["note"] = "<img src=x onerror=alert(1)>"
    results["environment"]["cpu"] = '"><script>'
    out = tmp_path_factory.mktemp("hostile")
    report.write(results, out, draw(results, out, 1))
    return out, results


def test_hostile_names_stay_text_on_the_page(hostile):
    page = page_of(hostile[0])
    assert not {"script", "img", "b", "a"} & {tag for tag, _ in page.elements}
    text = " ".join(page.text)
    assert "<script>alert(1)</script> mistaken for a|b`*_[x](http://evil.example), 7 images" in text
    assert "猫" in text
    assert "$x^$" in text


def test_hostile_names_stay_text_in_markdown(hostile):
    markdown = (hostile[0] / "report.md").read_text()
    assert "<" not in markdown
    assert r"&lt;script&gt;alert(1)&lt;/script&gt; mistaken for a\|b\`\*\_\[x\](http://evil.example)" in markdown
    assert len({line.replace(r"\|", "").count("|") for line in markdown.splitlines() if line.startswith("| ")}) == 4


def test_nothing_moves_the_terminal(hostile):
    out, results = hostile
    for text in ((out / "report.html").read_text(), (out / "report.md").read_text(), report.table1_text(results)):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


# The figures.


def test_sheet_shows_each_pixel_as_a_square(tmp_path):
    colours = [(200, 10, 10), (10, 200, 10), (10, 10, 200)]
    images = np.stack([np.broadcast_to(np.array(c, np.uint8)[:, None, None], (3, 32, 32)) for c in colours])
    figures.save(
        figures.draw_sheet(figures.AugmentationSheet((("original", images), ("crop", images)))), tmp_path / "s.png"
    )
    with Image.open(tmp_path / "s.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    for colour in colours:
        assert (pixels == colour).all(axis=2).sum() == 2 * (32 * 6) ** 2


@pytest.mark.parametrize("counts", [(3, 2), (0, 0)])
def test_sheet_of_unequal_or_no_images_is_refused(counts):
    rows = tuple(("row", np.zeros((count, 3, 32, 32), np.uint8)) for count in counts)
    with pytest.raises(UsageError, match="same number of images"):
        figures.draw_sheet(figures.AugmentationSheet(rows))


def words(figure):
    return Page(figures.svg(figure, "x")).text


def test_network_is_drawn_with_its_real_sizes():
    results = fake_results(1)
    results["config"]["hidden_layer_sizes"] = [1200, 7]
    results["data"]["features"] = 384
    text = " ".join(words(figures.draw_network(results)))
    for shown in ("384", "1,200", "7", "10", "384 × 1,200 weights", "1,200 × 7 weights", "7 × 10 weights", *CLASSES):
        assert shown in text


def test_a_node_is_drawn_with_its_real_numbers():
    node = fake_results(1)["node"]
    text = words(figures.draw_node(node))
    for shown in ("feature 100", "1.5", "× 0.25", "+0.375", "−0.875", "300 more", "+12.2", "206 more", "−7.5", "bias"):
        assert shown in text, shown
    assert {"z = 2.5", "a = 2.5"} <= set(text)
    node |= {"adding": {"count": 0, "sum": 0.0}, "inputs": node["inputs"][:1]}
    assert "0 more" not in " ".join(words(figures.draw_node(node)))
    node["inputs"][0] = {"feature": 99_999, "value": -1.234e-7, "weight": -12345.678}
    assert not cut_texts(figures.draw_node(node))


def test_a_run_without_a_hidden_layer_has_no_figure_3(tmp_path):
    results = fake_results(1) | {"node": None}
    report.write(results, tmp_path, draw(results, tmp_path, 1))
    assert not (tmp_path / "figures/figure3-node.png").exists()
    assert "Figure 3" not in (tmp_path / "report.md").read_text()


def test_training_marks_the_drops_and_names_the_curves():
    text = " ".join(words(figures.draw_training(fake_results(250))))
    assert "learning rate 0.001" in text
    assert "learning rate 0.0001" in text
    assert "1e-05" not in text
    for curve in ("original, train", "original, test", "augmented, train", "augmented, test"):
        assert text.count(curve) == 2


@pytest.mark.parametrize(("low", "scale"), [(0.5, "linear"), (0.02, "log")])
def test_the_late_epochs_of_the_loss_can_be_told_apart(low, scale):
    """A drop of a fifteenth at epoch 100 of 300 moves the curve by more than its own width."""
    results = fake_results(300)
    epochs = np.arange(300)
    for curves in results["history"].values():
        for split in ("train", "test"):
            losses = low + (2.3 - low) * np.exp(-epochs / 12)
            curves[f"{split}_loss"] = np.where(epochs < 100, 1.07 * losses, losses).tolist()
    axes = figures.draw_training(results).axes[0]
    assert axes.get_yscale() == scale
    heights = axes.transAxes.inverted().transform(axes.transData.transform([(99, 1.07 * low), (101, low)]))[:, 1]
    assert 0 <= heights[1] < heights[0] - 0.01
    assert heights[0] < 1


def test_the_end_labels_stand_at_the_curves_ends():
    for low in (0.02, 0.5):
        results = fake_results(300)
        for model, end in (("original", low), ("augmented", 3 * low)):
            results["history"][model]["test_loss"][-1] = end
        axes = figures.draw_training(results).axes[0]
        (label,) = (text for text in axes.texts if text.get_text().startswith("augmented, test"))
        height = axes.transAxes.inverted().transform(axes.transData.transform((1, 3 * low)))[1]
        assert label.get_position()[1] == pytest.approx(height, abs=0.15)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        ({"import": 1.0, "compile_kernels": 2.0, "total": 3.5}, {"import": 1.0, "compile_kernels": 2.0, "other": 0.5}),
        ({"import": 1.0, "total": 1.001}, {"import": 1.0}),
        ({"total": 2.0}, {"other": 2.0}),
        ({"b": 1.0, "a": 2.0}, {"b": 1.0, "a": 2.0}),
        ({}, {}),
    ],
)
def test_the_time_chart_sums_to_the_wall_time(seconds, shown):
    assert stages(seconds) == shown
    assert list(stages(seconds)) == list(shown)
    assert total(seconds) == pytest.approx(seconds.get("total", sum(seconds.values())), abs=0.005)
    text = words(figures.draw_seconds({"seconds": seconds}))
    for stage in shown:
        assert stage.replace("_", " ") in text
    assert "total" not in text


def cm(*counts):
    return np.array(counts).reshape(3, 3)


@pytest.mark.parametrize(
    ("confusion", "says"),
    [
        (cm(5, 1, 0, 0, 5, 0, 0, 0, 5), "original: a mistaken for b, 1 image"),
        (cm(5, 3, 0, 1, 5, 2, 0, 0, 5), "original: a mistaken for b, 3 images"),
        (cm(5, 2, 0, 1, 5, 2, 0, 0, 5), "original: a mistaken for b, 2 images, b mistaken for c, 2 images"),
        (cm(5, 1, 1, 1, 5, 1, 0, 0, 5), "original: none is made twice"),
        (cm(5, 2, 2, 2, 5, 2, 1, 0, 5), "original: 4 kinds, 2 images each"),
    ],
)
def test_equally_frequent_mistakes_are_all_the_most_frequent(confusion, says, tmp_path):
    results = fake_results(1, ("a", "b", "c"))
    results["evaluation"] = {
        "original": evaluation_of(confusion, "abc"),
        "augmented": evaluation_of(np.eye(3, dtype=int), "abc"),
    }
    assert not cut_texts(judgement.draw_reliability(results["evaluation"]))
    report.write(results, tmp_path, draw(results, tmp_path, 1))
    assert f"Most frequent mistakes: {says}." in (tmp_path / "report.md").read_text()


def test_the_page_judges_both_models_by_class_and_by_confidence(written):
    out, results = written
    tables = page_of(out).tables
    (by_class,) = (table for table in tables if table[0][:2] == ["class", "rows"])
    assert [row[0] for row in by_class[1:]] == list(CLASSES)
    recall = results["evaluation"]["augmented"]["classes"][3]["recall"]
    assert by_class[4][by_class[0].index("augmented: recall")] == f"{recall:.1%}"


def odd_runs():
    diverged = fake_results(30)
    for curve in ("train_loss", "test_loss", "train_accuracy", "test_accuracy"):
        diverged["history"]["original"][curve][10:] = [None] * 20
        diverged["history"]["augmented"][curve] = [math.nan] * 30
    deep = fake_results(2)
    deep["config"]["hidden_layer_sizes"] = [64] * 12
    linear = fake_results(1, ("one", "two"))
    linear["config"]["hidden_layer_sizes"] = []
    untimed = fake_results(1, tuple(f"class {index}" for index in range(60)))
    untimed["seconds"] = {}
    return {"diverged": diverged, "deep": deep, "linear, one epoch": linear, "60 classes, untimed": untimed}


@pytest.mark.parametrize("name", list(odd_runs()))
def test_odd_runs_can_be_drawn(name):
    run = odd_runs()[name]
    for draw in (figures.draw_network, figures.draw_training, figures.draw_seconds):
        assert len(Page(figures.svg(draw(run), "x")).elements) > 5


@pytest.mark.parametrize("name", list(odd_runs()))
def test_no_text_of_a_figure_is_cut(name):
    run = odd_runs()[name]
    run["config"] |= {"extractor": "torchvision:convnext_tiny"}
    run["seconds"] |= {"train_original_and_much_more": 0.5, "compile": 7000.0, "total": 9000.0}
    drawn = [draw(run) for draw in (figures.draw_network, figures.draw_training, figures.draw_seconds)]
    assert not [text for figure in drawn for text in cut_texts(figure)]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.01, 0.2))
def test_spread_keeps_labels_apart_in_order_and_centred(places, gap):
    moved = np.array(figures.spread(places, gap))
    order = np.argsort(places, kind="stable")
    assert np.all(np.diff(moved[order]) >= gap - 1e-9)
    assert moved.mean() == pytest.approx(np.mean(places), abs=1e-9)
    if len(places) == 1 or np.min(np.diff(np.sort(places))) >= gap:
        np.testing.assert_allclose(moved, places, atol=1e-9)


def test_the_users_matplotlib_settings_neither_matter_nor_change(tmp_path):
    import matplotlib

    results = fake_results(5)
    figures.save(figures.draw_training(results), tmp_path / "plain.png")
    with matplotlib.rc_context({"text.usetex": True, "savefig.bbox": "tight", "axes.grid": True}):
        before = dict(matplotlib.rcParams)
        figures.save(figures.draw_training(results), tmp_path / "odd.png")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "odd.png").read_bytes()


def luminance(colour):
    """WCAG 2's relative luminance of #rrggbb."""
    channels = np.array([int(colour[index : index + 2], 16) for index in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(palette):
    assert palette.keys() == LIGHT.keys()
    for ground in ("surface", "tint"):
        for text in ("ink", "muted", "original", "augmented", "holds", "fails", "notice"):
            light, dark = sorted((luminance(palette[text]), luminance(palette[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


# Manners.


def test_matplotlib_waits_until_it_is_needed_and_pyplot_stays_out():
    code = (
        "import sys; from fastmlp.report import figures; assert 'matplotlib' not in sys.modules\n"
        "import numpy as np\n"
        "figures.draw_sheet(figures.AugmentationSheet((('original', np.zeros((1, 3, 32, 32), np.uint8)),)))\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("file", ["figure2-network.png", "report.html"])
def test_an_interrupted_write_leaves_whole_files_only(written, tmp_path, monkeypatch, file):
    """The power goes just before `file` would take its place: the old one stays, and nothing half-made beside it."""
    (tmp_path / "figures").mkdir()
    path = tmp_path / ("figures" if file.endswith("png") else ".") / file
    path.write_text("old")
    replace = os.replace

    def interrupted(source, target):
        if os.fspath(target).endswith(file):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        report.write(written[1], tmp_path, draw(written[1], tmp_path))
    assert path.read_text() == "old"
    finished = {f.name for f in tmp_path.rglob("*") if f.is_file()} - {file}
    assert finished < {"report.md", "report.html", *(f"{name}.png" for name in NAMES)}


def test_what_is_empty_is_told_as_none():
    """Such as the hidden layers of a linear head."""
    assert (words_of([]), words_of(()), words_of([64, 32])) == ("none", "none", "64, 32")
