"""Running a script or a module as Python itself would."""

from __future__ import annotations

import importlib.util
import runpy
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, TracebackType

from fastmlp.common.errors import UsageError

OURS = (str(Path(__file__).parent), "<frozen runpy>", runpy.__file__)  # whose lines in a traceback say nothing


@dataclass(frozen=True)
class Program:
    """A script, which may be a folder or an archive with a __main__.py, or a module by its name."""

    name: str
    is_module: bool = False

    def check(self) -> None:
        """UsageError if there is no such program."""
        if self.is_module and not _can_run(self.name):
            raise UsageError(f"There is no module {self.name!r} to run: check its name, and that it is installed.")
        if not self.is_module and not _is_program(Path(self.name)):
            raise UsageError(f"There is no script {self.name!r}: check its path, or run a module by -m.")

    def run(self, arguments: Sequence[str]) -> None:
        """Run it as `__main__`, with these arguments; what it raises goes on, and its traceback begins in it."""
        sys.argv[:] = [self.name, *arguments]
        if not self.is_module and not sys.flags.safe_path:
            del sys.path[0]  # the working folder
        try:
            self._run()
        except BaseException:
            _show_only_the_programs_lines()
            raise

    def _run(self) -> None:
        path = Path(self.name).absolute()
        if self.is_module:
            runpy.run_module(self.name, run_name="__main__", alter_sys=True)
        elif path.is_dir() or zipfile.is_zipfile(path):
            runpy.run_path(str(path), run_name="__main__")
        else:
            _run_file(path)


def _run_file(path: Path) -> None:
    """Not by runpy, which would change sys.argv[0], and forget the module before the program has ended."""
    if not sys.flags.safe_path:
        sys.path.insert(0, str(path.resolve().parent))
    main = ModuleType("__main__")
    main.__file__, main.__loader__ = str(path), SourceFileLoader("__main__", str(path))
    sys.modules["__main__"] = main
    exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), vars(main))


def _is_program(path: Path) -> bool:
    return (path / "__main__.py").exists() if path.is_dir() else path.exists()


def _can_run(module: str) -> bool:
    """Whether `python -m` finds that module, or a package's __main__."""
    try:
        found = importlib.util.find_spec(module)
        if found is not None and found.submodule_search_locations is not None:
            found = importlib.util.find_spec(f"{module}.__main__")
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # something that the module's package imports
        return False
    return found is not None


def _show_only_the_programs_lines() -> None:
    """In the traceback of an error that ends the program, as where nothing runs around it."""
    shown = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(OURS):
            traceback = traceback.tb_next
        shown(kind, error.with_traceback(traceback), traceback)

    sys.excepthook = show
