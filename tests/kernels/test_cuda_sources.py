"""Every CUDA source compiles alone, for every family of GPUs, by the CUDA compiler itself."""

import re
import shutil
import subprocess

import pytest

from fastmlp.kernels.cuda.dense import CONSTANTS, ELEMENT, TILINGS
from fastmlp.kernels.cuda.layout import CLUSTERS, LAYOUTS, SLOTS, Shape
from fastmlp.kernels.cuda.sources import define, kernels, names, source

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_120")
REALS = ("float", "double")
BOTH = [define(REAL=real) for real in REALS]
STAGED = (define(STAGED=0), define(STAGED=1))
AUGMENTATIONS = ("augment", "contrast", "crop", "cutout", "hflip", "rotate", "rotate_by_shears")

PAPER = Shape(512, 64, 10, 64, SLOTS["sgd"], centred=False)
FAST = Shape(512, 64, 10, 128, SLOTS["adam"], centred=True)

# What each source is compiled with.
VARIANTS = {
    **{f"{name}.cu": STAGED for name in AUGMENTATIONS},
    "resize.cu": (define(BFLOAT16=0), define(BFLOAT16=1)),
    "dense.cu": BOTH,
    "gather.cu": [define(ELEMENT=element) for element in ELEMENT.values()],
    "matmul.cu": [define(REAL=real, **tiling.constants) for real in REALS for tiling in TILINGS[:-1]],
    "softmax_xent.cu": BOTH,
    "update.cu": [define(REAL=real, **CONSTANTS) for real in REALS],
    "train_epoch.cu": [
        *(layout.program(PAPER).options for layout in LAYOUTS),
        *(layout.program(FAST).options for layout in LAYOUTS if not layout.cluster),
    ],
}


def test_every_source_has_its_variants():
    assert set(VARIANTS) == set(names())
    assert all(kernels(name) for name in names())


def test_headers_are_pasted_in_once():
    for name in names():
        assert not re.search(r'#include "\w+\.cuh"', source(name))
        assert source(name).count("struct SharedMemory") == 1


def compiled() -> list[tuple[str, tuple[str, ...], str]]:
    """Each source with its first options for every family of GPUs, and with its others for one of them, in turns."""
    found = []
    for name, variants in VARIANTS.items():
        for architecture in ARCHITECTURES:
            possible = [options for options in variants if may_be_for(architecture, options)]
            turn = ARCHITECTURES.index(architecture)
            chosen = [possible[0], *possible[1 + turn :: len(ARCHITECTURES)]]
            found += [(name, options, architecture) for options in chosen]
    return found


def may_be_for(architecture: str, options: tuple[str, ...]) -> bool:
    return "-DCLUSTER=1" not in options or int(architecture.removeprefix("sm_")) >= CLUSTERS


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options", "architecture"), compiled())
def test_source_compiles(name, options, architecture, tmp_path):
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("no nvcc: install the CUDA toolkit to compile the kernels without a GPU")
    alone = tmp_path / name
    alone.write_text(source(name))
    command = [
        compiler,
        "-std=c++17",
        "-cubin",
        f"-arch={architecture}",
        "-Xptxas=-v",
        "-Werror=all-warnings",
        *options,
    ]
    made = subprocess.run(
        [*command, "-o", str(tmp_path / "out.cubin"), str(alone)], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "out.cubin").stat().st_size > 0
    spilled = [int(count) for count in re.findall(r"(\d+) bytes spill", made.stderr)]
    assert spilled, made.stderr
    assert not any(spilled), made.stderr
