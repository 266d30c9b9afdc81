"""CUDA kernels, and how they are launched: on a GPU through CuPy, or emulated on a CPU."""
