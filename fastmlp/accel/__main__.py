"""`python -m fastmlp.accel script.py` and `python -m fastmlp.accel -m module` run a program with the accelerator."""

from __future__ import annotations

import argparse
import sys

from fastmlp.accel.running import Program
from fastmlp.backends import AUTO
from fastmlp.common.errors import FastMLPError
from fastmlp.common.progress import warn


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fastmlp.accel",
        usage="%(prog)s [--backend NAME] (SCRIPT | -m MODULE) [argument ...]",
        description="Run a Python program whose MLPs of scikit-learn fastmlp trains.",
        allow_abbrev=False,
    )
    parser.add_argument("--backend", default=AUTO, help="numpy, numba, torch, torch:DEVICE, cupy or auto (the default)")
    parser.add_argument("-m", action="store_true", dest="is_module", help="run a module, as python -m does")
    parser.add_argument("program", help="a script, or with -m a module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the program's own arguments")
    return parser.parse_args()


def main() -> None:
    options = parse()
    program = Program(options.program, options.is_module)
    try:
        program.check()
        from fastmlp.accel import install

        install(options.backend)
    except FastMLPError as error:
        warn(f"python -m fastmlp.accel: {error}")
        sys.exit(error.exit_code)
    program.run(options.arguments)


if __name__ == "__main__":
    main()
