"""Every CUDA source compiles as CuPy compiles it: by NVRTC, alone, without a CUDA toolkit's headers."""

import ctypes
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from fastmlp.kernels.cuda.sources import source
from tests.kernels.test_cuda_sources import compiled


def first_ones():
    """The first variant of each source, for each optimizer that it has a step of; nvcc compiles them all."""
    found: dict[tuple[str, ...], tuple[str, tuple[str, ...], str]] = {}
    for name, options, _ in compiled():
        optimizer = [option for option in options if option.startswith("-DOPTIMIZER=")]
        found.setdefault((name, *optimizer), (name, options, "sm_90"))
    return list(found.values())


@cache
def nvrtc():
    """NVRTC as NVIDIA's wheels bring it, which PyTorch's and CuPy's depend on; None if there is none."""
    found = find_spec("nvidia")
    folders = [Path(folder) for folder in found.submodule_search_locations or ()] if found else []
    libraries = [file for folder in folders for file in folder.glob("*/lib/libnvrtc.so.*")]
    if not libraries:
        return None
    for builtins in libraries[0].parent.glob("libnvrtc-builtins.so.*"):
        ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)  # else NVRTC looks for it elsewhere
    return ctypes.CDLL(str(libraries[0]))


def log_of(library, program):
    size = ctypes.c_size_t()
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, text)
    return text.value.decode()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options", "architecture"), first_ones())
def test_source_compiles_at_run_time(name, options, architecture):
    library = nvrtc()
    if library is None:
        pytest.skip("no NVRTC: install PyTorch for CUDA, or nvidia-cuda-nvrtc")
    flags = [flag.encode() for flag in ("-std=c++17", f"-arch={architecture}", "-ftz=true", *options)]  # CuPy's
    text, program = source(name, options).encode(), ctypes.c_void_p()
    assert library.nvrtcCreateProgram(ctypes.byref(program), text, name.encode(), 0, None, None) == 0
    try:
        failed = library.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
        assert (failed, log_of(library, program)) == (0, "")
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))
