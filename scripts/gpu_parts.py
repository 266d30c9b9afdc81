"""The parts of scripts/gpu_check, each run in a process of its own: gpu_parts.py PART --device DEVICE --out DIR ...

The device is `cuda`, or `emulated`: the same at tiny size, our kernels emulated on the CPU, the peers on the CPU.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastmlp.backends import Backend

MEASURED = "measured.jsonl"  # until it is named after the GPU
ESSENTIALS, MANY_HEADS, CONVOLUTIONS = "essentials.json", "many-heads.json", "convolutions.json"
FROM_NOTHING, AGAIN, WEIGHTS = "reproduce.json", "reproduce-again.json", "resnet18.pth"
SECONDS, SECONDS_OF_MANY, SECONDS_OF_WAYS = 40.0, 60.0, 80.0  # after which no other variant is measured
TESTED = (
    "testing/test_parity.py",
    "training/test_samples.py",
    "network/test_golden.py",
    "network/test_gradients.py",
    "network/test_optimizers.py",
    "extractors/test_weights.py",
)
TINY_OPS = ("add_bias", "bias_relu")
SHORT_ROWS, SHORT_IMAGES = 130, 16


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="gpu_parts.py")
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("suites", nargs="*")
    parser.add_argument("--device", choices=("cuda", "emulated"), default="cuda")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scratch", type=Path)
    options = parser.parse_args(arguments)
    from fastmlp.common.errors import FastMLPError

    try:
        return PARTS[options.part](options)
    except FastMLPError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def is_dry(options: argparse.Namespace) -> bool:
    return options.device == "emulated"


def opened(options: argparse.Namespace) -> Backend:
    """CuPy, or its emulation, registered as a backend so that the command line knows it too."""
    from fastmlp import backends
    from fastmlp.backends import open_backend

    if not is_dry(options):
        return open_backend("cupy")
    backends.OURS["emulated"] = "fastmlp.testing.emulated:EmulatedBackend"
    return open_backend("emulated")


# Whether it works.


def doctor(options: argparse.Namespace) -> int:
    """What nvidia-smi and `fastmlp backends` tell; failed unless the GPU is usable."""
    if smi := shutil.which("nvidia-smi"):
        subprocess.run([smi], check=False)
    from fastmlp.cli.doctor import print_table, survey
    from fastmlp.common.files import write_json
    from fastmlp.network.tiers import choose_tier

    found = survey()
    print_table(found)
    write_json(options.out / "backends.json", found)
    backend = opened(options)
    print(choose_tier((512, 64, 10), "float32", backend))
    return 0


def essentials(options: argparse.Namespace) -> int:
    """Whether training is right in each tier and each of its variants, and what a step takes in them."""
    from fastmlp.bench import variants

    seconds = math.inf if is_dry(options) else SECONDS
    return _told(variants.measured(opened(options), options.device, seconds), options.out / ESSENTIALS)


def many_heads(options: argparse.Namespace) -> int:
    """Whether training many heads at once is right in each layout, and what a step and head takes in it."""
    from fastmlp.bench import variants

    seconds = math.inf if is_dry(options) else SECONDS_OF_MANY
    return _told(variants.of_heads(opened(options), options.device, seconds), options.out / MANY_HEADS)


def _told(variants: Iterable[dict[str, Any]], file: Path) -> int:
    """Prints and writes each; the exit code: 1 if one is wrong."""
    from fastmlp.common.files import write_json

    found: list[dict[str, Any]] = []
    for one in variants:
        found.append(one)
        print(", ".join(f"{name} {value}" for name, value in one.items()), flush=True)
        write_json(file, {"variants": found})  # in case that the time is up
    return 1 if any("wrong" in one for one in found) else 0


def parity(options: argparse.Namespace) -> int:
    """Our own cases: every op, step, epoch, run and augmentation in each tier; a line for each that does not hold."""
    from fastmlp.testing import CASES, assert_parity, check_backend

    backend = opened(options)
    if is_dry(options):
        for op in TINY_OPS:
            assert_parity(CASES[op], backend, dtype="float32")
        return 0
    report = check_backend(backend, on_result=lambda one: None if one.passed else print(one, flush=True))
    print(report)
    return report.exit_status


def tests(_: argparse.Namespace) -> int:
    """The tests of numbers and of chunks on CuPy; where all are skipped nothing is proven."""
    root = Path(__file__).resolve().parents[1]
    files = [str(root / "tests" / name) for name in TESTED]
    command = [sys.executable, "-m", "pytest", "-q", "-k", "cupy and not emulated", *files]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(done.stdout)
    return done.returncode or (0 if re.search(r"\d passed", done.stdout) else 1)


def short(options: argparse.Namespace) -> int:
    """An epoch of three small steps in every tier, and a few augmented images: for tools that slow kernels down."""
    import numpy as np

    from fastmlp import augment
    from fastmlp.testing.epochs import assert_epochs
    from fastmlp.testing.problems import Case, tier_name

    backend = opened(options)
    case = Case((512, 64, 10), 64, SHORT_ROWS)
    for tier in case.tiers(backend, "float32"):
        assert_epochs(backend, case, "float32", tier)
        print(f"{tier_name(tier)}: every weight is right")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (SHORT_IMAGES, 3, 32, 32), dtype=np.uint8)
    print("augmented images, mean level", augment.apply(backend, images, augment.draw(rng, SHORT_IMAGES)).mean())
    return 0


# How fast it is.


def bench(options: argparse.Namespace) -> int:
    """Those suites of the benchmarks, beside all peers that are here and quickly set up."""
    from fastmlp.bench import command, report

    lines, folder = options.out / MEASURED, options.scratch / "-".join(options.suites)
    measured = command.run(options.suites, is_dry(options), None, folder, lines, options.device, quick=True)
    print(report.table(measured))
    return 0


def convolutions(options: argparse.Namespace) -> int:
    """Each way of ResNet-18's convolutions, held to the plain one; or `again`, the compiled one from its cache."""
    from fastmlp.bench import ways
    from fastmlp.common.files import write_json
    from fastmlp.extractors.vision import VisionExtractor

    backend: Any = opened(options)
    random_weights(options.scratch)
    weights, kept = options.scratch / WEIGHTS, options.out / CONVOLUTIONS
    found = json.loads(kept.read_text()) if options.suites and kept.is_file() else []

    def trials_in(dtype: str) -> Any:
        return VisionExtractor("resnet18", weights, None, backend.device, dtype, backend).trials

    def tell(row: dict[str, Any]) -> None:
        found.append(row)
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        write_json(kept, found)  # in case that the time is up

    if options.suites:
        ways.compile_again(trials_in(ways.DTYPES[0]), tell)
    else:
        ways.measure(trials_in, tell, SECONDS_OF_WAYS)
    return 0 if any("images_per_second" in row for row in found) else 1


def reproduce(options: argparse.Namespace) -> int:
    """The paper end to end, on generated images of CIFAR-10's number and size, with random weights of ResNet-18."""
    random_weights(options.scratch)
    return _reproduce(options, FROM_NOTHING)


def again(options: argparse.Namespace) -> int:
    """The same in another process, after `reproduce`: its features are stored, and its kernels compiled."""
    return _reproduce(options, AGAIN)


def _reproduce(options: argparse.Namespace, told: str) -> int:
    from fastmlp.cli.main import main
    from fastmlp.common.files import write_json

    backend, folder = opened(options), options.scratch / "paper"
    size = (
        ["--dataset=synthetic:50", "--epochs=2", "--image-size=32"]
        if is_dry(options)
        else ["--dataset=synthetic:50000"]
    )
    extractor = ["--extractor=resnet18", f"--weights={options.scratch / WEIGHTS}"]
    began = time.monotonic()
    code = main(["reproduce", *size, *extractor, f"--backend={backend.name}", f"--out={folder}"])
    if code == 0:
        results = json.loads((folder / "results.json").read_text())
        kept: dict[str, Any] = {name: results[name] for name in ("config", "tier", "table1", "seconds", "environment")}
        write_json(options.out / told, {**kept, "wall_seconds": round(time.monotonic() - began, 1)})
    return code


def random_weights(folder: Path) -> None:
    """A file of ResNet-18 as torchvision initialises it."""
    import torch
    from torchvision.models import resnet18

    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), folder / WEIGHTS)


# What is told of it.


def report(options: argparse.Namespace) -> int:
    """All tables in Markdown on stdout; the file of measurements gets its name."""
    from fastmlp.bench import report as bench_report
    from fastmlp.bench import results, variants, ways

    titles = {ESSENTIALS: "A step of 512-64-10, batch 64,", MANY_HEADS: "A step and head, many heads at once,"}
    for file, what in titles.items():
        if (options.out / file).is_file():
            found = json.loads((options.out / file).read_text())["variants"]
            print(f"## {what} in every variant\n\n{variants.table(found)}\n")
    of_convolutions = options.out / CONVOLUTIONS
    if of_convolutions.is_file():
        print(f"## ResNet-18 in every way of convolutions\n\n{ways.table(json.loads(of_convolutions.read_text()))}\n")
    for name, title in ((FROM_NOTHING, "The paper, end to end"), (AGAIN, "The paper, with stored features")):
        if (options.out / name).is_file():
            print(_paper_table(title, json.loads((options.out / name).read_text())))
    lines = options.out / MEASURED
    if lines.is_file() and (measured := results.read(lines)):
        print(bench_report.table(measured))
        machine = re.sub(r"\W+", "-", measured[0].machine.get("gpu", measured[0].device).lower())
        run = re.sub(r"\D+", "-", measured[0].run)
        lines.rename(options.out / f"{machine}-{run}.jsonl")
    return 0


def _paper_table(title: str, found: dict[str, Any]) -> str:
    rows = [f"| {stage} | {seconds:.1f} |" for stage, seconds in found["seconds"].items()]
    tier = found["tier"]
    told = f"Tier {tier['number']}: {tier['reason']}. In all {found['wall_seconds']} s."
    return "\n".join([f"## {title}", "", told, "", "| stage | seconds |", "| --- | ---: |", *rows, ""])


PARTS = {
    "doctor": doctor,
    "essentials": essentials,
    "many-heads": many_heads,
    "parity": parity,
    "short": short,
    "tests": tests,
    "bench": bench,
    "convolutions": convolutions,
    "reproduce": reproduce,
    "again": again,
    "report": report,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
