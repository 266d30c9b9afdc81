"""Kernels for the CPU: plain Python loops over NumPy arrays, compiled by Numba.

An op's kernel takes the arguments of its array code (`fastmlp.ops`, `fastmlp.augment.ops`), less the namespace, in any
layout; C-contiguous arrays are fast. Nothing is checked: the caller vouches for indices and shapes. Each kernel is also
an ordinary function: with NUMBA_DISABLE_JIT=1 it runs as written, slowly, with the same results.
"""
