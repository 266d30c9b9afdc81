"""scripts/gpu_check where there is no GPU: its parts at tiny size, and what it does with those that fail or hang."""

import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import gpu
import pytest
from gpu import Part

from fastmlp.bench import results
from tests.shell import program

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.usefixtures("can_emulate")
def test_the_dry_run_runs_every_part_on_the_emulated_backend(tmp_path):
    pytest.importorskip("torch")  # a peer, measured in every suite
    command = [sys.executable, ROOT / "scripts" / "gpu_check", "--here", "--dry-run", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[0] == "backends.json"
    written = ["essentials.json", "gpu-check.log", "gpu-check.md", "gpu-check.tar.gz", "many-heads.json"]
    assert names[2:] == [*written, "reproduce-again.json", "reproduce.json"]
    told = (tmp_path / "gpu-check.md").read_text()
    for part in ("doctor", "essentials", "many-heads", "parity", "short", "bench", "reproduce", "again"):
        assert f"| {part} | held |" in told
    for suite in (
        "A step of training",
        "Many heads at once",
        "Augmentation",
        "Features",
        "The paper, end to end",
        "The paper, with stored features",
    ):
        assert f"## {suite}" in told
    measured = results.read(tmp_path / names[1])
    assert {one.device for one in measured} == {"emulated"}
    assert {"fastmlp cupy, tier 2", "PyTorch, eager"} <= {one.contender for one in measured}


def outcome_of(tmp_path: Path, script: str, seconds: float = 30.0, left: float = 60.0, shows: str = "") -> gpu.Outcome:
    command = [str(program(tmp_path / "part", script))]
    with (tmp_path / "log").open("w+b") as log:
        return gpu._run(Part("part", command, seconds, shows=shows), log, os.environ, left)


def test_a_part_that_fails_is_told_with_the_end_of_its_output(tmp_path, capsys):
    outcome = outcome_of(tmp_path, "seq 100; exit 3")
    assert (outcome.status, outcome.note) == ("failed", "exit code 3, see gpu-check.log")
    assert capsys.readouterr().err.split() == [str(number) for number in range(100 - gpu.TAIL + 1, 101)]


def test_a_part_that_hangs_is_ended_with_all_that_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "PATIENCE", 0.2)
    began = time.monotonic()
    outcome = outcome_of(tmp_path, f"trap '' INT; (sleep 60) & echo $! > {tmp_path}/child; wait; sleep 60", 1.0)
    assert time.monotonic() - began < 20
    assert outcome.note == "ended after its 1 s, see gpu-check.log"
    child = int((tmp_path / "child").read_text())
    assert not is_running(child)


def is_running(process: int) -> bool:
    """Not one that has ended and waits for its parent to be told."""
    stat = Path(f"/proc/{process}/stat")
    for _ in range(50):
        if not stat.exists() or stat.read_text().split()[2] == "Z":
            return False
        time.sleep(0.1)
    return True


def test_a_part_gets_the_chance_to_keep_what_it_has(tmp_path, heed_interrupts):
    outcome = outcome_of(tmp_path, f"trap 'echo kept > {tmp_path}/kept; exit 1' INT; sleep 60 & wait", 1.0)
    assert outcome.status == "failed"
    assert (tmp_path / "kept").read_text() == "kept\n"


SUMMARIES = [
    ("========= ERROR SUMMARY: 0 errors", "held"),
    ("========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)", "held"),
    ("========= ERROR SUMMARY: 10 errors", "failed"),
    ("every weight is right", "failed"),  # the tool was never there
]


@pytest.mark.parametrize(("line", "status"), SUMMARIES)
def test_a_sanitizer_holds_only_if_it_says_that_it_found_nothing(tmp_path, line, status):
    outcome = outcome_of(tmp_path, f"echo '{line}'", shows=gpu.CLEAN)
    assert outcome.status == status
    assert ("it did not say that it ran" in outcome.note) == (status == "failed")


def test_what_an_earlier_part_said_does_not_count(tmp_path):
    said = Part("said", [str(program(tmp_path / "said", "echo ran"))], 10, shows="ran")
    silent = Part("silent", [str(program(tmp_path / "silent", "exit 0"))], 10, shows="ran")
    outcomes = gpu._run_all([said, silent], tmp_path, os.environ, 60)
    assert [outcome.status for outcome in outcomes] == ["held", "failed"]


def test_each_sanitizer_runs_alone_and_sees_every_barrier(monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.which", lambda program: f"/usr/bin/{program}")
    parts = {part.name: part for part in gpu._parts("python", tmp_path, tmp_path, gpu._parse([]))}
    assert [name for name in parts if name in gpu.SANITIZERS] == list(gpu.SANITIZERS)
    assert all(parts[tool].shows == gpu.CLEAN and f"--tool={tool}" in parts[tool].command for tool in gpu.SANITIZERS)
    assert "--num-cuda-barriers=65536" in parts["synccheck"].command


def test_the_essentials_come_first_and_within_a_minute(tmp_path):
    parts = gpu._parts("python", tmp_path, tmp_path, gpu._parse([]))
    assert [part.name for part in parts[:2]] == ["doctor", "essentials"]
    assert parts[1].seconds == 60


def test_all_files_are_one_archive_however_it_ends(monkeypatch, tmp_path):
    def interrupted(parts, out, variables, seconds):
        (out / gpu.LOG).write_text("begun")
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu, "_run_all", interrupted)
    for _ in range(2):  # the archive of before is none of its files
        assert gpu.main(["--here", "--dry-run", "--out", str(tmp_path)]) == 130
        with tarfile.open(tmp_path / gpu.ARCHIVE) as archive:
            assert archive.getnames() == [f"gpu-check/{gpu.LOG}"]


def test_nothing_begins_when_the_time_for_everything_is_up(tmp_path):
    assert outcome_of(tmp_path, f"touch {tmp_path}/ran", left=0.5).note == "not begun: the time for everything was up"
    assert not (tmp_path / "ran").exists()


def test_a_failed_part_does_not_keep_others_from_running(tmp_path, capsys):
    parts = [
        Part("bad", [str(program(tmp_path / "bad", "exit 1"))], 10),
        Part("absent", [], 10, "its tool is not installed"),
        Part("good", [str(program(tmp_path / "good", "exit 0"))], 10),
    ]
    outcomes = gpu._run_all(parts, tmp_path, os.environ, 60)
    assert [outcome.status for outcome in outcomes] == ["failed", "left out", "held"]
    assert "| good | held |" in (tmp_path / gpu.REPORT).read_text()


def test_what_is_missing_here_is_told_by_name(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(gpu, "_installed", lambda name: name not in ("array-api-compat", "safetensors", "jax"))
    assert gpu.main(["--here", "--dry-run", "--out", str(tmp_path)]) == 1
    told = "This Python lacks array-api-compat, safetensors: pip install array-api-compat safetensors."
    assert capsys.readouterr().err.strip() == told


def test_an_uninstalled_checkout_is_found(tmp_path):
    """fastmlp and its two linked packages, by a Python that forgets its editable installs."""
    code = (
        "import sys; sys.meta_path[:] = [one for one in sys.meta_path if 'editable' not in repr(one)]; "
        "import fastmlp.kernels.cuda, fastmlp.bench.peers as p; print(fastmlp.kernels.cuda.__file__); print(p.__file__)"
    )
    environment = {**os.environ, **gpu._variables(here=True, scratch=tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    found = [Path(line).resolve() for line in done.stdout.split()]
    assert found == [ROOT / "kernels/cuda/__init__.py", ROOT / "bench/peers/__init__.py"]


def test_a_fresh_machine_gets_an_environment_with_all_that_is_measured(monkeypatch, tmp_path):
    extras = []

    def enter(wanted: set[str]) -> Path:
        extras.append(wanted)
        return tmp_path

    monkeypatch.setattr(gpu, "enter", enter)
    monkeypatch.setattr(gpu, "needed", lambda options, variables: {"cuda13"})
    assert gpu._python(gpu._parse([])) == str(tmp_path / "python")
    assert gpu._python(gpu._parse(["--dry-run"])) == str(tmp_path / "python")
    assert extras == [{"bench", "test", "cuda13"}, {"bench", "test"}]


def test_an_unknown_part_is_told_with_those_there_are(capsys, tmp_path):
    assert gpu.main(["--here", "--only", "doctor", "speed", "--out", str(tmp_path)]) == 2
    assert "There is no part speed: choose of doctor, essentials, many-heads, bench-step," in capsys.readouterr().err


def test_what_is_right_is_known_before_convolutions_take_their_minutes(tmp_path):
    names = [part.name for part in gpu._parts("python", tmp_path, tmp_path, gpu._parse([]))]
    assert names.index("parity") < names.index("convolutions") == names.index("compiled-again") - 1
