"""Every CUDA source compiles alone, for every family of GPUs, by the CUDA compiler itself."""

import ctypes
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

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
    """Each source with each of its options, for each family of GPUs that it may be compiled for."""
    return [
        (name, options, architecture)
        for name, variants in VARIANTS.items()
        for options in variants
        for architecture in ARCHITECTURES
        if "-DCLUSTER=1" not in options or int(architecture.removeprefix("sm_")) >= CLUSTERS
    ]


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


# By the compiler that CuPy has, which is given no header of CUDA.


@pytest.fixture(scope="module")
def nvrtc() -> ctypes.CDLL:
    """NVRTC, which PyTorch brings along."""
    namespace = importlib.util.find_spec("nvidia")
    folders = namespace.submodule_search_locations if namespace else None
    found = [path for folder in folders or () for path in Path(folder).glob("**/libnvrtc.so.*")]
    if not found:
        pytest.skip("no NVRTC: install the extra cuda13, or a PyTorch that brings it")
    for builtins in found[0].parent.glob("libnvrtc-builtins.so.*"):
        ctypes.CDLL(str(builtins), ctypes.RTLD_GLOBAL)  # which it would look for elsewhere
    return ctypes.CDLL(str(found[0]))


@pytest.mark.parametrize(("name", "options"), [(name, options[0]) for name, options in VARIANTS.items()])
def test_source_compiles_as_cupy_compiles_it(nvrtc, name, options):
    program = ctypes.c_void_p()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source(name).encode(), None, 0, None, None) == 0
    flags = [option.encode() for option in ("-std=c++17", *options, "-arch=sm_90", "-ftz=true")]
    failed = nvrtc.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
    log = ctypes.create_string_buffer(100_000)
    nvrtc.nvrtcGetProgramLog(program, log)
    size = ctypes.c_size_t()
    assert not failed, log.value.decode()
    assert nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size)) == 0
    assert size.value > 0
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
