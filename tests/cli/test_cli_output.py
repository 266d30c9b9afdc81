"""What the commands print where: one JSON document, progress that suits a terminal or a log, quiet, help, examples."""

import errno
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp.cli.main import COMMANDS, main
from fastmlp.cli.parser import EXAMPLES, build_parser
from fastmlp.common.progress import is_quiet, progress, quietly, say, warn

SMALL = ["--dataset", "synthetic:200", "--extractor", "pixels", "--backend", "numpy", "--threads", "1"]
EPOCHS = ["--epochs", "3"]
COLUMNS, LINES = 100, 30  # a screen


pytestmark = pytest.mark.usefixtures("own_folders")


# One JSON document.


@pytest.fixture
def model(capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["train", *SMALL, *EPOCHS, "--out", "run"]) == 0
    np.save("images.npy", np.zeros((3, 3, 32, 32), np.uint8))
    capsys.readouterr()
    return Path("run/original")


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def json_of(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    """All of stdout as one strict JSON document; nothing may be on stderr but progress."""
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out, parse_constant=refuse)


def test_every_command_has_json() -> None:
    for name in COMMANDS:
        needed = {
            "predict": ["x.npy", "--model", "m"],
            "evaluate": ["--model", "m"],
            "export": ["--model", "m"],
            "compare": ["m"],
        }
        assert build_parser().parse_args([name, *needed.get(name, []), "--json"]).json is True


@pytest.mark.parametrize(
    ("argv", "keys"),
    [
        (["reproduce", *SMALL, *EPOCHS], {"table1", "config", "environment", "seconds", "claims"}),
        (["extract", *SMALL], {"train", "augmented", "test"}),
        (["train", *SMALL, *EPOCHS], {"train_accuracy", "train_loss", "test_accuracy", "test_loss"}),
        (["sweep", *SMALL, *EPOCHS, "--seeds", "1", "--learning-rates", "0.01,0.02"], {"chosen", "heads"}),
        (["augment", *SMALL], {"path"}),
        (["backends"], {"numpy", "numba", "torch", "cupy"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_json_without_a_model(argv: list[str], keys: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert keys <= set(json_of(capsys, *argv))


def test_json_of_a_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    use = ["--model", str(model)]
    assert {"accuracy", "loss", "classes", "confusion"} <= set(json_of(capsys, "evaluate", *use))
    rows = json_of(capsys, "predict", *use, "images.npy", "--top", "2")
    assert [row["row"] for row in rows] == [0, 1, 2]
    assert all(row["probability"] >= row["probability_2"] for row in rows)
    assert json_of(capsys, "predict", *use, "images.npy", "--format", "csv") != rows  # of --top 1; --json beats it


def test_json_of_an_export(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    told = json_of(capsys, "export", "--model", str(model))
    assert Path(told["path"]).stat().st_size == told["bytes"]


def test_json_of_a_backends_check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import fastmlp.testing
    from fastmlp.testing import Report, Result

    results = [Result("gather", "passed"), Result("crop", "skipped", "no kernel")]
    monkeypatch.setattr(fastmlp.testing, "check_backend", lambda name, **_: Report(name, 0, results))
    told = json_of(capsys, "backends", "--check", "numpy")
    assert (told["backend"], told["ok"]) == ("numpy", True)
    assert [result["status"] for result in told["results"]] == ["passed", "skipped"]

    results.append(Result("rotate", "failed", "off by 3"))
    assert main(["backends", "--check", "numpy", "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["results"][2]["message"] == "off by 3"
    assert "does not hold to NumPy's numbers" in captured.err


def test_a_backends_check_takes_a_part_and_a_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backends", "--check", "numpy", "--quick", "--only", "gather", "--seed", "3"]) == 0
    header, *results, counts = capsys.readouterr().out.splitlines()
    assert header.startswith("numpy, seed 3; ")
    assert all(line.startswith("passed  ") and "gather" in line for line in results)
    assert counts == f"numpy: {len(results)} passed, 0 failed, 0 skipped (seed 3)"
    for option in (["--quick"], ["--only", "gather"]):
        assert main(["backends", *option]) == 2
        assert "give --check NAME too" in capsys.readouterr().err


def test_json_of_a_benchmark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from fastmlp.bench import command
    from tests.bench.test_bench import STEPS

    monkeypatch.setattr(command, "run", lambda *_: STEPS)
    told = json_of(capsys, "bench")
    assert [one["contender"] for one in told] == [one.contender for one in STEPS]
    assert told[0]["seconds"]["median"] == pytest.approx(STEPS[0].median)


def test_with_an_error_stdout_stays_empty(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--model", "gone", "--json"]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("fastmlp: ")


# Progress: a live line on a terminal, plain ones in a log, none where it shall be quiet.

LIVE = """
import sys, time
from fastmlp.common.progress import progress, quietly, say, warn
with quietly("quiet" in sys.argv), progress("train", 40, "epochs") as bar:
    for epoch in range(40):
        bar.advance(1, f"test accuracy {epoch}%")
        time.sleep(0.01)
    say("a word")
    warn("a warning")
"""
COLOUR = re.compile(r"\x1b\[[\d;]*(?:3[0-8]|4[0-8]|9\d)(?:;[\d;]*)?m")


def on_a_terminal(command: list[str], **variables: str) -> str:
    """All that a command writes to a terminal of its own, which is its stdout and its stderr."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "CI")}
    environment = kept | {"TERM": "xterm-256color", "COLUMNS": "120"} | variables
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError as error:  # how Linux says that nobody writes any more
        if error.errno != errno.EIO:
            raise
    os.close(ours)
    assert process.wait(timeout=60) == 0, shown
    return shown.decode()


def test_a_terminal_shows_a_live_line() -> None:
    shown = on_a_terminal([sys.executable, "-c", LIVE])
    assert "\x1b[2K" in shown, "a line that is drawn over itself"
    assert re.search(r"\d+/40", shown)
    assert "epochs/s" in shown
    assert "test accuracy" in shown
    assert COLOUR.search(shown)
    assert "a word" in shown
    assert shown.rstrip().endswith("\x1b[2K"), "nothing is left of it at the end"


def test_no_color_is_honoured_and_the_line_lives_on() -> None:
    shown = on_a_terminal([sys.executable, "-c", LIVE], NO_COLOR="1")
    assert not COLOUR.search(shown)
    assert "\x1b[2K" in shown
    assert "test accuracy" in shown


@pytest.mark.parametrize(("arguments", "variables"), [(["quiet"], {}), ([], {"TERM": "dumb"})])
def test_a_terminal_that_cannot_or_shall_not_gets_no_escape_codes(
    arguments: list[str], variables: dict[str, str]
) -> None:
    shown = on_a_terminal([sys.executable, "-c", LIVE, *arguments], **variables)
    assert "\x1b" not in shown
    assert "a warning" in shown
    assert ("a word" in shown) == (not arguments)


def test_a_command_on_a_terminal_shows_a_live_line_and_leaves_its_result() -> None:
    command = [sys.executable, "-m", "fastmlp", "train", *SMALL, "--preset", "fast", "--epochs", "30", "--out", "run"]
    shown = on_a_terminal(command)
    assert "\x1b[2K" in shown
    assert "test accuracy" in shown
    assert on_a_terminal([*command, "--quiet"]).splitlines()[0].startswith("train accuracy")


def test_a_log_gets_plain_lines_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter(range(0, 100, 4))  # seconds: one a unit
    monkeypatch.setattr("fastmlp.common.progress.time.monotonic", lambda: float(next(times)))
    with progress("train", 9, "epochs") as bar:
        for _ in range(9):
            bar.advance(1, "well")
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 9 // 2
    assert all(re.fullmatch(r"train: \d/9 epochs, 0 epochs/s, \d:\d\d left, well", line) for line in lines)


def test_quiet_leaves_only_results_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *SMALL, *EPOCHS, "--out", "run", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "test accuracy" in captured.out
    assert not is_quiet(), "the next command would be, too"
    assert main(["train", *SMALL, "--learning-rate", "1e30", "--out", "run", "-q"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fastmlp: Training diverged")


def test_quiet_says_no_word_but_warns(capsys: pytest.CaptureFixture[str]) -> None:
    with quietly():
        say("a word")
        warn("a warning")
        with quietly(quiet=False):
            say("another")
        assert is_quiet()
    assert capsys.readouterr().err.splitlines() == ["a warning", "another"]


# Help.


def test_help_fits_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    lines = build_parser().format_help().splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS
    told = "\n".join(lines)
    for command in COMMANDS:
        assert re.search(rf"^    {command}  +\S.*$", told, re.MULTILINE), "a line each"


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        build_parser().parse_args([command, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_ends_with_examples_that_are_parsed(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    lines = help_of(command, capsys).splitlines()
    assert max(map(len, lines)) <= COLUMNS
    start = lines.index("examples:")
    examples = [line.strip() for line in lines[start + 1 :]]
    assert tuple(examples) == EXAMPLES[command]
    assert 2 <= len(examples) <= 3
    for example in examples:
        program, *argv = shlex.split(example)
        assert program == "fastmlp"
        assert build_parser().parse_args(argv).command == command
