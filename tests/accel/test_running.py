"""python -m fastmlp.accel: programs run as they do by Python itself, but that fastmlp trains."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from fastmlp.accel.__main__ import main
from fastmlp.accel.running import Program
from fastmlp.common.errors import UsageError

ACCELERATED = ["-m", "fastmlp.accel"]
SCRIPT = """
import sys
import beside

print(__name__, __file__, __package__, sys.argv, sys.path[0], vars(sys.modules["__main__"]) is globals())
print("numba" if "-m" in sys.argv else "", file=sys.stderr)


def ends(how):
    if how == "error":
        raise KeyError(how)
    if how == "interrupt":
        raise KeyboardInterrupt
    sys.exit(how if how == "said" else int(how))


ends(sys.argv[-1])
"""


def run(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A folder with script.py, and a package of the same code, beside what it imports."""
    for folder in (tmp_path / "scripts", tmp_path / "package"):
        folder.mkdir()
        (folder / "beside.py").touch()
    for name in ("script.py", "__main__.py"):
        (tmp_path / "scripts" / name).write_text(SCRIPT)
    (tmp_path / "package/__init__.py").touch()
    (tmp_path / "package/__main__.py").write_text(SCRIPT.replace("import beside", "from package import beside"))
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["scripts/script.py", "--backend", "numpy", "-m", "3"],
        ["scripts/script.py", "interrupt"],
        ["scripts", "said"],
        ["-m", "package", "-m", "error"],
    ],
    ids=" ".join,
)
def test_a_program_cannot_tell_the_difference(program: Path, arguments: list[str]) -> None:
    """Its name, arguments and paths, exit code, output and traceback."""
    alone, ours = run(arguments, program), run([*ACCELERATED, *arguments], program)
    if arguments[0] == "scripts":  # runpy has whole paths
        ours.stdout = ours.stdout.replace(f"['{program / 'scripts'}'", "['scripts'")
    if "package" in arguments:
        alone.stderr = re.sub(r'  File "<frozen runpy>".*\n', "", alone.stderr)
    assert (ours.returncode, ours.stdout, ours.stderr) == (alone.returncode, alone.stdout, alone.stderr)


def test_scikit_learns_classes_are_trained_by_the_backend(program: Path) -> None:
    """And what is not is told on stderr."""
    (program / "train.py").write_text(
        "import logging\n"
        "from sklearn.neural_network import MLPClassifier\n"
        "class Own(MLPClassifier):\n"
        "    def _backprop(self, *args):\n"
        "        return super()._backprop(*args)\n"
        "Own(max_iter=2).fit([[0], [1]], [0, 1])\n"
        "Own(max_iter=2).fit([[0], [1]], [0, 1])\n"
        "logging.basicConfig(level=logging.INFO)\n"
        "MLPClassifier(max_iter=2).fit([[0], [1]], [0, 1])\n"
    )
    done = run(["-W", "ignore", *ACCELERATED, "--backend", "numpy", "train.py"], program)
    assert done.stderr.splitlines() == [
        "fastmlp.accel: Own is trained by scikit-learn itself: it has _backprop of its own.",
        "INFO:fastmlp.accel:MLPClassifier trained by fastmlp, numpy",
    ]


@pytest.mark.parametrize(
    "missing",
    [
        Program("no.py"),
        Program("scripts"),
        Program("no", is_module=True),
        Program("json", is_module=True),
        Program("json.no", is_module=True),
        Program("this.no", is_module=True),
    ],
    ids=str,
)
def test_a_program_that_is_not_there(missing: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scripts").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=re.escape(missing.name)):
        missing.check()


@pytest.mark.parametrize(
    "arguments", [["no.py"], ["-m", "no"], ["--backend", "nunba", __file__], ["--no", "no.py"], []]
)
def test_our_own_errors_are_one_sentence(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["accel", *arguments])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err.splitlines()[-1].startswith("python -m fastmlp.accel: ")


def test_what_a_module_cannot_import_is_its_own_error(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (program / "package/__init__.py").write_text("import absent_library")
    monkeypatch.syspath_prepend(str(program))
    with pytest.raises(ModuleNotFoundError, match="absent_library"):
        Program("package", is_module=True).check()
