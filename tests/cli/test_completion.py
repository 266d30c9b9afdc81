"""`fastmlp --completion SHELL`: a real bash that loads the script completes our commands, options and values."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastmlp.backends import names
from fastmlp.cli.completion import SHELLS, _actions, values
from fastmlp.cli.main import COMMANDS, main
from fastmlp.cli.parser import build_parser
from fastmlp.datasets import BUILT_IN
from fastmlp.experiments.config import Config
from fastmlp.network.optimizers import OPTIMIZERS

# What bash-completion does at a Tab: the words so far, the one under the cursor, then the function for the command.
TAB = """
source {script}
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_LINE="${{COMP_WORDS[*]}}"; COMP_POINT=${{#COMP_LINE}}
function=$(complete -p fastmlp | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function fastmlp "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def script(shell: str) -> str:
    pytest.importorskip("shtab")
    command = [sys.executable, "-m", "fastmlp", "--completion", shell]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    path = tmp_path_factory.mktemp("completion") / "fastmlp.bash"
    path.write_text(script("bash"))
    return path


def completions(loaded: Path, *words: str) -> set[str]:
    """What a Tab after these words offers; the last is the one that has begun."""
    text = TAB.format(script=shlex.quote(str(loaded)), words=shlex.join(["fastmlp", *words]))
    done = subprocess.run(["bash", "--norc", "-c", text], capture_output=True, text=True, check=True, cwd=loaded.parent)
    return set(done.stdout.split())


def test_bash_completes_commands(loaded: Path) -> None:
    assert completions(loaded, "") >= set(COMMANDS)
    assert completions(loaded, "e") == {"extract", "evaluate", "export"}


def test_bash_completes_the_options_of_a_command(loaded: Path) -> None:
    assert completions(loaded, "train", "--d") == {"--debug", "--dataset", "--data-dir", "--drop-columns", "--dtype"}
    assert completions(loaded, "backends", "--c") == {"--check"}
    assert completions(loaded, "backends", "--d") == {"--debug"}
    assert completions(loaded, "train", "--json", "--resume", "--hid") == {"--hidden-layer-sizes"}


def test_bash_completes_values(loaded: Path) -> None:
    assert completions(loaded, "train", "--backend", "n") == {"numpy", "numba"}
    assert completions(loaded, "predict", "--format", "") == {"table", "csv", "jsonl"}
    assert completions(loaded, "reproduce", "--dataset", "") == set(BUILT_IN)


def test_bash_completes_files(loaded: Path) -> None:
    (loaded.parent / "features.npy").touch()
    assert completions(loaded, "train", "--features", "fea") == {"features.npy"}
    assert completions(loaded, "predict", "--model", "m", "fea") == {"features.npy"}


def test_bash_completes_what_is_registered(loaded: Path) -> None:
    assert completions(loaded, "backends", "--check", "") == set(names())
    assert completions(loaded, "train", "--optimizer", "") == set(OPTIMIZERS)
    assert completions(loaded, "extract", "--extractor", "") == {"resnet18", "patches", "pixels"}
    assert completions(loaded, "extract", "--engine", "") == {"auto", "local", "ray"}
    assert completions(loaded, "extract", "--on-bad-image", "") == {"fail", "skip"}


def test_only_options_have_values_and_they_hold_every_default() -> None:
    options = {action.dest: action for action in _actions(build_parser())}
    assert set(values()) <= set(options)
    given = {name: getattr(Config, name) for name in values() if hasattr(Config, name)}
    assert {name for name, value in given.items() if value is not None and value not in values()[name]} == set()


def test_the_values_need_no_heavy_library() -> None:
    code = "import sys; from fastmlp.cli.completion import values; values(); print(HEAVY & sys.modules.keys())"
    code = code.replace("HEAVY", "{'torch', 'cupy', 'numba', 'sklearn', 'matplotlib', 'PIL', 'ray'}")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_takes_its_script(shell: str, tmp_path: Path) -> None:
    text = script(shell)
    assert all(command in text for command in COMMANDS)
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} to read it")
    path = tmp_path / "script"
    path.write_text(text)
    subprocess.run([shell, "-n", str(path)], check=True)


def test_without_shtab_the_mend_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as stopped:
        main(["--completion", "bash"])
    assert stopped.value.code == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "fastmlp: Completion scripts are written by shtab: pip install 'fastmlp[completion]'.\n"
