"""Every CUDA source compiles alone, for every family of GPUs, by the CUDA compiler itself."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fastmlp.kernels.cuda.dense import ELEMENT, REAL, TILINGS
from fastmlp.kernels.cuda.fused_steps import TILES
from fastmlp.kernels.cuda.layout import CLUSTERS, FEWER_BLOCKS, LAYOUTS, UNMEASURED, Shape
from fastmlp.kernels.cuda.one_block import ONE_BLOCK, ONE_BLOCK_UNMEASURED, TENSOR_CORES
from fastmlp.kernels.cuda.sources import FOLDER, define, define_optimizer, kernels, names, optimizers, source
from fastmlp.network.optimizers import OPTIMIZERS, SGD

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_120")
REALS = REAL.values()
BOTH = [define(REAL=real) for real in REALS]
STAGED = (define(STAGED=0), define(STAGED=1))

SIZES = (512, 64, 10)
PAPER = Shape.of(SIZES, 64, SGD(), centred=False)
OTHERS = [
    Shape.of(SIZES, 128, OPTIMIZERS[name](), centred=True, weighted=True, smoothed=True)
    for name in sorted(optimizers() - {SGD.name})
]
SMALL_LINEAR = Shape.of((512, 10), 64, SGD(), centred=True)
LINEAR = Shape.of((768, 200), 64, SGD(), centred=True)
ONE_OF_EACH = [next(layout for layout in LAYOUTS if layout.cluster is cluster) for cluster in (True, False)]

# What each source is compiled with.
VARIANTS = {
    **{name: STAGED for name in names() if name.startswith("augment/")},
    "resize.cu": (define(BFLOAT16=0), define(BFLOAT16=1)),
    "dense.cu": BOTH,
    "gather.cu": [define(ELEMENT=element) for element in ELEMENT.values()],
    "matmul.cu": [define(REAL=real, **tiling.constants) for real in REALS for tiling in TILINGS[:-1]],
    "softmax_xent.cu": BOTH,
    "head.cu": BOTH,
    "layers.cu": [define(REAL=REAL[dtype], TILE=tile) for dtype, tiles in TILES.items() for tile in tiles],
    "descend.cu": [
        define(REAL=REAL[dtype], TILE=tile, **define_optimizer(OPTIMIZERS[name]()))
        for name in sorted(optimizers())
        for dtype, tiles in TILES.items()
        for tile in tiles
    ],
    "patches.cu": BOTH,
    "update.cu": [
        define(REAL=real, **define_optimizer(OPTIMIZERS[name]())) for name in sorted(optimizers()) for real in REALS
    ],
    "train_epoch.cu": [
        *(layout.program(PAPER).options for layout in LAYOUTS),
        *(layout.program(shape).options for shape in OTHERS for layout in LAYOUTS),
        *(layout.program(LINEAR).options for layout in ONE_OF_EACH),
    ],
    "train_head.cu": [
        *(ONE_BLOCK.program(shape).options for shape in (PAPER, *OTHERS, SMALL_LINEAR)),
        *(ONE_BLOCK_UNMEASURED.program(shape).options for shape in (PAPER, OTHERS[0])),
    ],
    "train_epoch_specialised.cu": [
        *(layout.program(PAPER).options for layout in UNMEASURED),
        *(layout.program(shape).options for shape in OTHERS for layout in UNMEASURED if layout not in FEWER_BLOCKS),
    ],
}


def test_every_source_has_its_variants():
    assert set(VARIANTS) == set(names())
    assert all(kernels(name) for name in names())


def test_headers_are_pasted_in_once():
    for name, (options, *_) in VARIANTS.items():
        assert not re.search(r'#include "[^"]+\.cuh"', source(name, options))
        assert source(name, options).count("struct SharedMemory") == 1


@pytest.mark.parametrize(
    "name", ["update.cu", "descend.cu", "train_epoch.cu", "train_epoch_specialised.cu", "train_head.cu"]
)
def test_a_source_with_a_step_is_compiled_for_every_optimizer(name):
    compiled_for = {option for one, options, _ in compiled() if one == name for option in options}
    assert {f"-DOPTIMIZER={optimizer}" for optimizer in optimizers()} <= compiled_for


def test_the_text_has_the_step_of_its_optimizer_and_no_other():
    steps = {name: (FOLDER / "optimizers" / f"{name}.cuh").read_text().partition("#pragma")[0] for name in optimizers()}
    for name in steps:
        text = source("update.cu", define(OPTIMIZER=name))
        assert [other for other, head in steps.items() if head in text] == [name]


def compiled() -> list[tuple[str, tuple[str, ...], str]]:
    """Each source for every family of GPUs, with each optimizer that it has a step of, in a cluster and in a grid; with
    its other options for one of the families, in turns."""
    found, seen = [], set()
    for name, variants in VARIANTS.items():
        for turn, options in enumerate(variants):
            families = [family for family in ARCHITECTURES if may_be_for(family, options)]
            kind = (name, *(option for option in options if option.startswith(("-DOPTIMIZER=", "-DCLUSTER="))))
            chosen = [families[turn % len(families)]] if kind in seen else families
            seen.add(kind)
            found += [(name, options, family) for family in chosen]
    return found


def may_be_for(architecture: str, options: tuple[str, ...]) -> bool:
    needs = {"-DCLUSTER=1": CLUSTERS, "-DTENSOR_CORES=1": TENSOR_CORES}
    return all(int(architecture.removeprefix("sm_")) >= least for option, least in needs.items() if option in options)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options", "architecture"), compiled())
def test_source_compiles(name, options, architecture, tmp_path):
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("no nvcc: install the CUDA toolkit to compile the kernels without a GPU")
    alone = tmp_path / Path(name).name
    alone.write_text(source(name, options))
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
