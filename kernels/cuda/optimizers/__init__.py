"""One step of each optimizer: a .cuh file each, with its name, which the sources of updates include."""
