"""The set-up scripts: which Python, which extras, when .venv/ is made, kept or made anew, and what is run in it."""

import ast
import ctypes
import fcntl
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import bootstrap
import checks
import environment
import extras
import installer
import pytest
from environment import Environment
from installer import SetupError

from tests.shell import is_one_sentence, program

SCRIPTS = Path(bootstrap.__file__).parent

# Which Python.


@pytest.fixture
def too_old(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """This Python counts as too old; the folder returned is all there is on PATH."""
    monkeypatch.setattr(bootstrap, "OLDEST", (99, 0))
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_this_python_is_kept_where_it_is_new_enough(monkeypatch):
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("another Python was started"))
    bootstrap.ensure_python()


def test_an_old_python_without_a_newer_one_ends_with_a_sentence(too_old):
    with pytest.raises(SystemExit) as ended:
        bootstrap.ensure_python()
    assert is_one_sentence(ended.value.code)
    assert "needs Python 99.0" in str(ended.value.code)


def test_an_old_python_gives_way_to_the_first_one_that_starts(too_old, monkeypatch):
    program(too_old / "python3.13", "exit 127")  # a shim with nothing behind it
    program(too_old / "python3.12", "exit 1")  # not what its name says
    good = program(too_old / "python3.11", "exit 0")
    started = []
    monkeypatch.setattr(os, "execv", lambda *call: started.append(call))
    monkeypatch.setattr(sys, "argv", ["scripts/reproduce", "--epochs", "2"])
    bootstrap.ensure_python()
    assert started == [(str(good), [str(good), "scripts/reproduce", "--epochs", "2"])]


@pytest.mark.parametrize("name", ["bootstrap.py", "reproduce", "test"])
def test_an_old_python_can_read_what_it_meets_first(name):
    tree = ast.parse((SCRIPTS / name).read_text(), feature_version=(3, 7))
    assert not any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in ast.walk(tree))


# Which extras.


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ("", set()),
        ("--extractor patches --backend numba", set()),
        ("--extractor resnet18", {"torch"}),
        ("--extractor=resnet18", {"torch"}),
        ("--extr resnet18", set()),
        ("--extractor torchvision:resnet50", {"torch"}),
        ("--extractor timm:resnet10t --epochs 3", {"timm"}),
        ("--backend torch", {"torch"}),
        ("--backend=torch:cpu --extractor timm:resnet10t", {"torch", "timm"}),
        ("--dataset cifar10 --backend cupy --extractor resnet18", {"torch", "cuda13"}),
        ("--backend cupy --backend numpy", set()),
        ("--out torch --unknown cupy", set()),
        ("--extractor", set()),
    ],
)
def test_the_options_name_the_extras(options, needed, monkeypatch):
    monkeypatch.setattr(extras, "driver_cuda", lambda: 13)
    assert extras.needed(options.split(), {}) == needed


def test_an_option_beats_the_environment_which_beats_nothing():
    variables = {"FASTMLP_BACKEND": "torch", "FASTMLP_EXTRACTOR": "timm:resnet10t"}
    assert extras.needed([], variables) == {"torch", "timm"}
    assert extras.needed(["--backend", "numba", "--extractor=pixels"], variables) == set()


@pytest.mark.parametrize(
    ("version", "extra"), [(None, set()), (11, set()), (12, {"cuda12"}), (13, {"cuda13"}), (14, {"cuda13"})]
)
def test_cupy_is_the_one_that_the_driver_runs(version, extra):
    assert extras.cuda_extra(version) == extra


def test_the_driver_is_asked_for_its_cuda(monkeypatch):
    class Driver:
        def __init__(self, name: str) -> None:
            assert name == "libcuda.so.1"

        def cuDriverGetVersion(self, pointer) -> int:  # noqa: N802  (NVIDIA's name)
            pointer._obj.value = 12080
            return 0

    monkeypatch.setattr(ctypes, "CDLL", Driver)
    assert extras.driver_cuda() == 12


def test_no_driver_is_no_cuda(monkeypatch):
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert extras.driver_cuda() is None


# When .venv/ is made, kept or made anew.


class Setup:
    """A checkout whose pip and venv are fakes that note what they are asked for."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        self.done: list[str] = []
        self.error: BaseException | None = None
        self.output = ""
        (checkout / "scripts").mkdir(parents=True)
        (checkout / "scripts/lock.txt").write_text("numpy==2.0\n")
        (checkout / "pyproject.toml").write_text("[project]\n")

    def make_venv(self, folder: Path, log: Path) -> None:
        self.done.append("venv")
        (folder / "bin").mkdir()
        (folder / "bin/python").touch()

    def pip_install(self, python: Path, constraints: Path, requirements: list[str], log: Path) -> None:
        self.done.append(requirements[-1].removeprefix(str(self.checkout)))
        log.write_text(self.output)
        if self.error is not None:
            raise self.error

    def prepare(self, *names: str) -> list[str]:
        """What setting up with these extras does."""
        self.done = []
        Environment(self.checkout).prepare(names)
        return self.done


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    setup = Setup(tmp_path / "a checkout")
    monkeypatch.setattr(environment, "make_venv", setup.make_venv)
    monkeypatch.setattr(environment, "pip_install", setup.pip_install)
    return setup


def test_the_environment_is_made_once(setup):
    assert setup.prepare() == ["venv", ""]
    assert setup.prepare() == []


def test_extras_accumulate(setup):
    setup.prepare("torch")
    assert setup.prepare() == []
    assert setup.prepare("timm") == ["[timm,torch]"]
    assert setup.prepare("torch", "timm") == []


@pytest.mark.parametrize("name", ["scripts/lock.txt", "pyproject.toml"])
def test_new_versions_are_installed_into_what_is_there(setup, name):
    setup.prepare("torch")
    (setup.checkout / name).write_text("changed\n")
    assert setup.prepare() == ["[torch]"]
    assert setup.prepare() == []


def test_a_moved_checkout_makes_it_anew(setup, tmp_path):
    setup.prepare("torch")
    setup.checkout = setup.checkout.rename(tmp_path / "moved")
    assert setup.prepare() == ["venv", ""]


def test_another_python_makes_it_anew(setup):
    setup.prepare()
    path = setup.checkout / ".venv/fastmlp.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "python": "3.10"}))
    assert setup.prepare() == ["venv", ""]


def test_a_python_that_is_gone_makes_it_anew(setup):
    setup.prepare()
    (setup.checkout / ".venv/bin/python").unlink()
    assert setup.prepare() == ["venv", ""]


@pytest.mark.parametrize("record", ["", "{", "[]", '{"python": 3}', '{"extras": null}'])
def test_a_damaged_record_makes_it_anew(setup, record):
    setup.prepare()
    (setup.checkout / ".venv/fastmlp.json").write_text(record)
    assert setup.prepare() == ["venv", ""]


def test_an_installation_cut_short_makes_it_anew(setup):
    setup.output, setup.error = f"{installer.CHANGING}: numpy, scipy", KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        setup.prepare()
    (setup.checkout / ".venv/half-made").touch()
    setup.error = None
    assert setup.prepare() == ["venv", ""]
    assert not (setup.checkout / ".venv/half-made").exists()


def test_a_download_that_fails_leaves_what_was_there(setup):
    setup.prepare()
    setup.output, setup.error = "Collecting torch", SetupError("no network")
    with pytest.raises(SetupError):
        setup.prepare("torch")
    assert setup.prepare() == []
    setup.error = None
    assert setup.prepare("torch") == ["[torch]"]


def test_a_good_environment_of_other_making_is_kept(setup):
    python = program(setup.checkout / ".venv/bin/python", "exit 0")
    assert setup.prepare() == [""]
    assert python.read_text().endswith("exit 0\n")


def test_a_broken_environment_of_other_making_is_replaced(setup):
    program(setup.checkout / ".venv/bin/python", "exit 1")
    assert setup.prepare() == ["venv", ""]


def test_a_link_to_another_disk_stays_a_link(setup, tmp_path):
    (tmp_path / "disk").mkdir()
    (setup.checkout / ".venv").symlink_to(tmp_path / "disk")
    setup.prepare()
    (setup.checkout / ".venv/bin/python").unlink()
    assert setup.prepare() == ["venv", ""]
    assert (setup.checkout / ".venv").is_symlink()


def test_a_second_set_up_waits_for_the_first(setup, capsys):
    with (setup.checkout / "scripts/lock.txt").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        second = threading.Thread(target=setup.prepare)
        second.start()
        second.join(0.3)
        assert second.is_alive()
        assert setup.done == []
    second.join(10)
    assert setup.done == ["venv", ""]
    assert "waiting" in capsys.readouterr().err


# The two commands.


def test_what_is_imported_is_compiled_once_whatever_the_environment_says(setup, monkeypatch):
    monkeypatch.setattr(environment, "ROOT", setup.checkout)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert environment.enter({"test"}) == setup.checkout / ".venv/bin"
    code = "import sys; print(sys.dont_write_bytecode)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


def test_reproduce_becomes_fastmlp_with_the_same_options(setup):
    """The real script, in a checkout whose environment is ready."""
    for path in (*SCRIPTS.glob("*.py"), SCRIPTS / "reproduce"):
        (setup.checkout / "scripts" / path.name).write_bytes(path.read_bytes())
    setup.prepare()
    program(setup.checkout / ".venv/bin/fastmlp", 'for option; do echo "<$option>"; done; exit 7')
    command = [sys.executable, setup.checkout / "scripts/reproduce", "--epochs", "2", "--out", "a folder"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 7
    assert ended.stdout.splitlines() == ["<reproduce>", "<--epochs>", "<2>", "<--out>", "<a folder>"]
    assert ended.stderr == ""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of fake checkers that all pass; its log lists the calls."""
    for name in ("ruff", "mypy", "python"):
        program(tmp_path / name, f'echo {name} "$@" >> {tmp_path}/log')
    monkeypatch.setattr(checks, "enter", lambda extras: tmp_path)
    return tmp_path


WORKERS = " ".join([*checks.WORKERS, *checks.HANGS])


def test_all_checks_run_types_beside_the_tests(programs, capfd):
    program(programs / "mypy", f"while ! grep -q pytest {programs}/log; do sleep 0.01; done; echo found nothing")
    assert checks.main(["-k", "parity"]) == 0
    calls = (programs / "log").read_text().splitlines()
    assert calls == ["ruff check", "ruff format --check", f"python -m pytest {WORKERS} -k parity"]
    assert capfd.readouterr().out.endswith("$ mypy\nfound nothing\n")


@pytest.mark.parametrize(("name", "code"), [("ruff", 1), ("mypy", 1), ("python", 1), ("python", 5)])
def test_one_failed_check_fails_the_whole(programs, name, code, capsys):
    program(programs / name, f"exit {code}")
    assert checks.main([]) == 1
    assert "Failed:" in capsys.readouterr().err


@pytest.mark.slow
def test_a_test_that_hangs_fails_by_its_name_and_the_others_go_on(tmp_path):
    tests = (
        "import time, pytest\n@pytest.mark.parametrize('n', range(4))\ndef test(n):\n    time.sleep(60 * (n == 1))\n"
    )
    (tmp_path / "test_hangs.py").write_text(tests)
    patience = [option.replace("=600", "=3") for option in checks.HANGS]
    command = [sys.executable, "-m", "pytest", "-n1", "-p", "no:cacheprovider", *patience, tmp_path]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    assert "crashed while running 'test_hangs.py::test[1]'" in said
    assert "1 failed, 3 passed" in said


def test_a_quick_check_leaves_out_what_is_slow(programs):
    assert checks.main(["--quick", "-x"]) == 0
    assert f"pytest {WORKERS} -m not slow -x\n" in (programs / "log").read_text()


def test_the_tests_can_be_repeated(programs):
    assert checks.main(["--repeat", "3", "-x"]) == 0
    assert (programs / "log").read_text().count(f"pytest {WORKERS} -x\n") == 3
