"""The CUDA sources as a compiler takes them: one text per .cu file, with its headers pasted in."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

from fastmlp.ops.network import Rule

FOLDER = Path(__file__).parent
INCLUDE = re.compile(r'^#include "([\w/]+\.cuh?)"\n', re.MULTILINE)  # from FOLDER on
KERNEL = re.compile(r'extern "C" __global__ void\s+(?:[A-Z]+\s+)?(?:__\w+__\([^)]*\)\s*)*((?!__)\w+)\(')

Options = tuple[str, ...]  # for the compiler


@cache
def source(name: str, options: Options = ()) -> str:
    """The text of a .cu file, with each header pasted in where it is first included.

    optimizers/OPTIMIZER.cuh is the header named by the option OPTIMIZER. CuPy caches compiled kernels by this text, so
    it notices a changed header.
    """
    seen: set[str] = set()
    optimizer = next((option.partition("=")[2] for option in options if option.startswith("-DOPTIMIZER=")), "")

    def paste(match: re.Match[str]) -> str:
        header = match[1].replace("OPTIMIZER", optimizer)
        if header in seen:
            return ""
        seen.add(header)
        text = (FOLDER / header).read_text().replace("#pragma once\n", "")
        return INCLUDE.sub(paste, text)

    return INCLUDE.sub(paste, (FOLDER / name).read_text())


def kernels(name: str) -> list[str]:
    """The names of the kernels defined in a .cu file."""
    return KERNEL.findall((FOLDER / name).read_text())


def optimizers() -> frozenset[str]:
    """The optimizers with a CUDA kernel body."""
    return frozenset(path.stem for path in (FOLDER / "optimizers").glob("*.cuh"))


def define_optimizer(rule: Rule) -> dict[str, str | int]:
    """For `define`: which optimizer's step to include, and its constants."""
    return {"OPTIMIZER": rule.name, **{name.upper(): repr(float(number)) for name, number in rule.constants.items()}}


def parameters(name: str, kernel: str) -> list[str]:
    """The names of a kernel's parameters, in order."""
    (found,) = re.findall(rf'extern "C" __global__ [^;{{]*?\b{kernel}\(([^)]*)\) {{', source(name))
    return [re.split(r"[\s*]+", parameter.strip())[-1] for parameter in found.split(",")]


def names() -> list[str]:
    """The path of every .cu file, relative to FOLDER."""
    return sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.cu"))


@cache
def digest() -> str:
    """A hash of everything that decides what kernels compute and how they are launched."""
    content = hashlib.sha256()
    for path in sorted(path for path in FOLDER.rglob("*") if path.suffix in (".cu", ".cuh", ".py")):
        content.update(path.relative_to(FOLDER).as_posix().encode() + b"\0" + path.read_bytes())
    return content.hexdigest()


def define(**constants: str | int) -> Options:
    """The compiler options that define those constants in a source."""
    return tuple(f"-D{name}={value}" for name, value in sorted(constants.items()))
