"""Shell completion: `fastmlp --completion bash` prints a script that the shell loads, so Tab never starts Python."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from fastmlp.cli.kinds import files
from fastmlp.common.errors import FastMLPError

SHELLS = ("bash", "zsh", "fish")


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
    known = values()
    for action in _actions(parser):
        if action.dest in known:
            action.choices = known[action.dest]
        elif action.type in (Path, files):
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks
    return shtab.complete(parser, shell)


def values() -> dict[str, Sequence[str]]:
    """What there is to choose from, by the destination of an option; such options may take other values too."""
    from fastmlp import backends, datasets, extractors
    from fastmlp.datasets.reading import ON_BAD_IMAGE
    from fastmlp.experiments.engine_options import ENGINES
    from fastmlp.experiments.protocols import NORMALIZE, PROTOCOLS
    from fastmlp.extractors import ways
    from fastmlp.network.optimizers import OPTIMIZERS
    from fastmlp.network.parameters import DTYPES
    from fastmlp.training.recipe import PRESETS

    return {
        "dataset": datasets.BUILT_IN,
        "on_bad_image": ON_BAD_IMAGE,
        "extractor": extractors.BUILT_IN,
        "convolutions": (*ways.PATHS, ways.MEASURED),
        "engine": ENGINES,
        "backend": (backends.AUTO, *backends.names()),
        "check": backends.names(),
        "measure": ("cupy",),  # the one whose ways can be ranked
        "preset": tuple(PRESETS),
        "optimizer": tuple(OPTIMIZERS),
        "protocol": tuple(PROTOCOLS),
        "normalize": tuple(NORMALIZE),
        "dtype": DTYPES,
    }


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
