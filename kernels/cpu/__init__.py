"""Kernels for the CPU: plain Python loops over NumPy arrays, compiled by Numba.

An op's kernel takes the arguments of its array code (`fastmlp.ops`, `fastmlp.augment.ops`), less the namespace, in any
layout; C-contiguous arrays are the fast ones. Nothing is checked: indices and shapes are the caller's promise.
Each is an ordinary function too: with NUMBA_DISABLE_JIT=1 it runs as written, slowly, and gives the same answers.
"""
