"""Hand-written kernels: compiled code that a backend runs in place of an op's array code."""
