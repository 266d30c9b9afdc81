"""What the documentation shows is so: its commands and snippets run, its links lead somewhere, its site builds."""

import json
import os
import re
import shlex
import subprocess
import sys
import zlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from fastmlp.cli.main import main
from fastmlp.cli.parser import build_parser
from fastmlp.extractors import patches
from fastmlp.training.recipe import PRESETS
from tests.repository.test_repository import PROJECT, ROOT, SOURCES, layer

PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
TUTORIAL = ROOT / "docs" / "tutorial.ipynb"
SHOWN_ONLY = {"", "text", "toml"}  # kinds of blocks that nothing can run; {...} are Sphinx's own

# Pages whose snippets need more than the core has.
NEEDS = {"README.md": ("onnx", "onnxruntime"), "docs/backends.md": ("array_api_strict",)}

# What commands that would take long are given besides what they show.
SMALL = {
    "reproduce": ("--limit", "60", "--epochs", "3"),
    "train": ("--limit", "100", "--epochs", "3"),
    "sweep": ("--limit", "60", "--epochs", "1"),
    "probe": ("--limit", "100"),
}

# Commands that are not run but looked at (`check_unrun`), and why.
SETS_UP = "it sets up .venv/ and takes minutes; tests/repository/test_scripts.py and .ci/run try it"
CIFAR10 = "it downloads CIFAR-10 and ResNet-18's weights"
INSTALLS = "it installs packages from a network"
MEASURES = "it takes minutes; tests/bench/test_bench_suite.py and .ci/run try it"
RAY = "it needs Ray; tests/experiments/test_ray_cluster.py tries such"
NOT_RUN = {
    "scripts/reproduce": SETS_UP,
    "scripts/test": SETS_UP,
    "scripts/test --quick": SETS_UP,
    "scripts/reproduce --dataset cifar10 --extractor resnet18": CIFAR10,
    "scripts/reproduce --dataset cifar10 --extractor resnet18 --backend cupy": f"{CIFAR10}, and needs a GPU",
    "fastmlp reproduce --dataset cifar10 --extractor patches --preset best --seeds 10": "it downloads CIFAR-10",
    "fastmlp reproduce --dataset cifar10 --extractor resnet18 --weights resnet18.pth --image-size 112 --preset best "
    "--seeds 10": CIFAR10,
    ". .venv/bin/activate": "it changes the shell it is typed in",
    "pip install .": INSTALLS,
    "pip install '.[torch,onnx]'": INSTALLS,
    "pip install pip-audit": INSTALLS,
    "pip-audit --requirement scripts/lock.txt --no-deps --disable-pip": "it looks every version up in a network",
    "sphinx-build -n -W --keep-going docs runs/docs": "the fixture `site` runs it, into another folder",
    "pip install '.[ray]'": INSTALLS,
    "fastmlp extract --dataset digits --engine ray --workers 2 --threads 1": RAY,
    "fastmlp extract --dataset folder:photos --extractor resnet18 --on-bad-image skip --engine ray "
    "--address head:6379": RAY,
    "fastmlp sweep --features X.npy --labels y.npy --out runs/mine --engine ray --workers 2 --threads 1": RAY,
    "fastmlp sweep --features /shared/X.npy --labels /shared/y.npy --out /shared/mine --engine ray --address head:6379 "
    "--threads 4": RAY,
    "fastmlp backends --measure cupy --network 512,64,10 --batch-size 64 --optimizer sgd": "it needs a GPU",
    "fastmlp bench --only step growth": MEASURES,
    "fastmlp bench --only probe": MEASURES,
}


class Block(NamedTuple):
    """A fenced block of a page: its kind, its text, the number of its first line."""

    kind: str
    text: str
    line: int


def blocks(page: str) -> Iterator[Block]:
    text = (ROOT / page).read_text()
    for found in re.finditer(r"^```(\S*).*\n((?:.*\n)*?)```$", text, re.MULTILINE):
        yield Block(found[1], found[2], text[: found.start(2)].count("\n") + 1)


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each command of a shell block."""
    lines = block.text.replace("\\\n", " ").splitlines()
    yield from filter(None, (shlex.split(line, comments=True) for line in lines))


def shown_commands() -> Iterator[list[str]]:
    for page in PAGES:
        for block in blocks(page):
            if block.kind == "sh":
                yield from commands(block)


def refuses(words: list[str]) -> bool:
    """Whether the parser of the command line does."""
    try:
        build_parser().parse_args(words)
    except SystemExit as ended:
        return ended.code != 0
    return False


# Commands and snippets.


@pytest.fixture
def workplace(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """The current folder, with the files that pages take for given; the names that their snippets do."""
    rng = np.random.default_rng(0)
    y = np.arange(200) % 4
    X = rng.standard_normal((200, 8)).astype(np.float32) + 3 * np.eye(4, 8, dtype=np.float32)[y]
    images, labels = rng.integers(0, 256, (40, 3, 32, 32), dtype=np.uint8), np.arange(40) % 10
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", X)
    np.save("y.npy", y)
    for folder in ("photos", "shards", "embeddings"):
        Path(folder).mkdir()
    for number, rows in enumerate((slice(0, 120), slice(120, 200))):
        np.savez(f"shards/{number}.npz", features=X[rows], labels=y[rows])
        np.save(f"embeddings/{number}.npy", X[rows])
    for name in ("photo.png", "photos/one.png"):
        Image.fromarray(images[0].transpose(1, 2, 0)).save(name)
    for variable in [name for name in os.environ if name.startswith("FASTMLP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "docs-cache"))
    monkeypatch.setattr(patches, "SAMPLE_PATCHES", 5_000)
    return {"__name__": "page", "X": X, "y": y, "images": images, "labels": labels}


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_runs_from_its_first_line_to_its_last(page: str, workplace: dict[str, Any]) -> None:
    for module in NEEDS.get(page, ()):
        pytest.importorskip(module)
    for block in blocks(page):
        if block.kind == "python":
            code = "\n" * block.line + block.text  # so that a traceback names the line of the page
            exec(compile(code, ROOT / page, "exec"), workplace)
        elif block.kind == "sh":
            for words in commands(block):
                run(words, f"{page}:{block.line}")
        else:
            assert block.kind in SHOWN_ONLY or block.kind.startswith("{"), f"{page}:{block.line}: what is it for?"


def run(words: list[str], place: str) -> None:
    if as_typed(words) in LISTED:
        return
    assert words[0] == "fastmlp", f"{place}: {as_typed(words)} is neither run nor listed in NOT_RUN"
    assert main([*words[1:], *SMALL.get(words[1], ())]) == 0, f"{place}: {as_typed(words)}"


def as_typed(words: list[str]) -> str:
    return shlex.join(words)


LISTED = {as_typed(shlex.split(command)) for command in NOT_RUN}


@pytest.mark.parametrize("command", NOT_RUN)
def test_a_command_that_is_not_run_could_be(command: str) -> None:
    words = shlex.split(command)
    assert words in list(shown_commands()), "no page shows it any more: take it off the list"
    check_unrun(words)


def check_unrun(words: list[str]) -> None:
    """The options are known, the files and the extras there."""
    match words:
        case ["fastmlp", *options]:
            assert not refuses(options)
        case ["scripts/reproduce", *options]:
            assert not refuses(["reproduce", *options])
        case ["pip", "install", what]:
            extras = re.findall(r"\[(.+)\]", what)
            assert set(",".join(extras).split(",")) - {""} <= PROJECT["project"]["optional-dependencies"].keys()
        case ["pip-audit", "--requirement", file, *_] | [file] | [file, "--quick"]:
            assert (ROOT / file).is_file()
        case _:
            assert words[0] in (".", "sphinx-build"), "nothing is known of it: add a case"


@pytest.mark.parametrize(
    "words", [["fastmlp", "trian"], ["fastmlp", "train", "--epoch", "many"], ["pip", "install", ".[tensorflow]"]]
)
def test_a_wrong_command_is_seen(words: list[str]) -> None:
    with pytest.raises(AssertionError):
        check_unrun(words)


@pytest.mark.parametrize("page", PAGES)
def test_commands_within_sentences_are_known(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    spans = [shlex.split(span) for span in re.findall(r"`fastmlp ([^`]+)`", text)]
    needed = {"evaluate": ("--model", "DIR"), "export": ("--model", "DIR"), "predict": ("--model", "DIR", "X.npy")}
    assert not [words for words in spans if refuses(words) and refuses([*words, *needed.get(words[0], ())])]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", (ROOT / page).read_text())
    assert not [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]


def test_the_layers_of_contributing_are_in_the_order_that_imports_run() -> None:
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## Architecture")[2]
    lines = re.findall(r"^    (\w+(?:, \w+)*)  ", section, re.MULTILINE)
    assert len(lines) > 5
    names = [f"fastmlp.{name}" for line in lines for name in line.split(", ")]
    assert not set(names) - SOURCES.keys()
    assert [layer(name) for name in names] == sorted(layer(name) for name in names)


# The tutorial and the site.


def test_the_tutorial_is_committed_without_outputs() -> None:
    """So that a change of it can be read, and no output is of another version than the code: the site makes them."""
    cells = [cell for cell in json.loads(TUTORIAL.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert not [cell["id"] for cell in cells if cell["outputs"] or cell["execution_count"] is not None]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site, no network within its reach; the tutorial runs in it."""
    for module in ("sphinx", "myst_nb", "numpydoc", "pydata_sphinx_theme"):
        pytest.importorskip(module, reason="the docs extra is not installed: pip install '.[docs]'")
    out = tmp_path_factory.mktemp("site")
    (words,) = (words for words in shown_commands() if words[0] == "sphinx-build")
    command = [sys.executable, "-m", "sphinx", *words[1:-1], str(out)]
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    env = os.environ | nowhere | {"FASTMLP_CACHE_DIR": str(tmp_path_factory.getbasetemp() / "docs-cache")}
    built = subprocess.run(command, check=False, cwd=ROOT, env=env, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return out


def inventory(site: Path) -> dict[str, set[str]]:
    """What the reference has an entry for, by kind, such as py:class or std:cmdoption."""
    content = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]  # after four lines of header
    entries = re.findall(r"^(.+?) (\S+:\S+) -?\d+ ", zlib.decompress(content).decode(), re.MULTILINE)
    found: dict[str, set[str]] = {}
    for name, kind in entries:
        found.setdefault(kind, set()).add(name)
    return found


@pytest.mark.slow
def test_the_site_shows_what_the_tutorial_prints(site: Path) -> None:
    page = (site / "tutorial.html").read_text()
    assert re.search(r"mine: \d+ passed, 0 failed, 0 skipped", page)
    assert page.count("<img alt=") >= 3


@pytest.mark.slow
@pytest.mark.parametrize("module", ["fastmlp", "fastmlp.backends", "fastmlp.models.export", "fastmlp.testing"])
def test_every_public_name_is_in_the_reference(site: Path, module: str) -> None:
    known = set().union(*(names for kind, names in inventory(site).items() if kind.startswith("py:")))
    public = set(import_module(module).__all__) - {"__version__", "AUTO"}
    assert not {name for name in public if f"{module}.{name}" not in known}


@pytest.mark.slow
def test_every_option_is_in_the_reference(site: Path) -> None:
    known = inventory(site)["std:cmdoption"]
    parser = build_parser()
    (commands,) = (action.choices for action in parser._actions if isinstance(action.choices, dict))
    for command in (parser, *commands.values()):
        options = {option for action in command._actions for option in action.option_strings} - {"-h", "--help"}
        assert options
        assert not {option for option in options if f"{command.prog.replace(' ', '-')}.{option}" not in known}


@pytest.mark.slow
def test_the_reference_names_the_variable_of_an_option_that_has_one(site: Path) -> None:
    page = (site / "commands.html").read_text()
    assert "FASTMLP_BACKEND" in page
    assert "FASTMLP_JSON" not in page


def test_the_table_of_presets_has_their_numbers() -> None:
    _, _, section = (ROOT / "docs/heads.md").read_text().partition("## Presets")
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    _, *presets = rows[0]
    assert set(presets) == set(PRESETS)
    table = {title.replace(" ", "_"): cells for title, *cells in rows[2:13]}
    for name, cells in table.items():
        values = [PRESETS[preset].as_dict()[name] for preset in presets]
        assert cells == [f"{value:g}" if isinstance(value, float) else str(value) for value in values], name
    assert {
        "epochs",
        "learning_rate",
        "weight_decay",
        "standardize",
        "label_smoothing",
        "least_steps",
        "relative_decay",
    } <= set(table)
