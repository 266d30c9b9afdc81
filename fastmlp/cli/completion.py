"""Shell completion: `fastmlp --completion bash` prints a script that the shell loads, so Tab never starts Python."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from fastmlp.cli.kinds import files
from fastmlp.common.errors import FastMLPError

SHELLS = ("bash", "zsh", "fish")
VALUES = {  # of options that take other values too
    "dataset": ("cifar10", "digits", "synthetic"),
    "extractor": ("patches", "pixels", "resnet18"),
    "convolutions": ("plain", "cudnn", "compiled", "measured"),
    "backend": ("auto", "numpy", "numba", "torch", "cupy"),
    "check": ("numpy", "numba", "torch", "cupy"),
    "measure": ("cupy",),
    "preset": ("paper", "fast", "best", "tabular"),
    "optimizer": ("sgd", "momentum", "adam"),
    "protocol": ("sgd-grid", "decay-grid", "logistic"),
    "normalize": ("raw", "l2", "standard"),
    "dtype": ("float32", "float64"),
}


class Completion(argparse.Action):
    """Print the script that makes a shell complete our commands, and end."""

    def __call__(self, parser: argparse.ArgumentParser, _: Any, shell: Any, option: str | None = None) -> NoReturn:
        try:
            print(script(parser, shell))
        except FastMLPError as error:
            parser.exit(error.exit_code, f"fastmlp: {error}\n")
        parser.exit()


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for a shell of SHELLS; this changes the parser, which must not parse anything afterwards.

    Raises FastMLPError where shtab, which writes the script, is missing.
    """
    try:
        import shtab
    except ImportError:
        raise FastMLPError("Completion scripts are written by shtab: pip install 'fastmlp[completion]'.") from None
    for action in _actions(parser):
        if action.dest in VALUES:
            action.choices = VALUES[action.dest]
        elif action.type in (Path, files):
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks
    return shtab.complete(parser, shell)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
