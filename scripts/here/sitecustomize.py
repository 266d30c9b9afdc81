"""With this folder and the checkout on PYTHONPATH, fastmlp runs uninstalled: its two mapped packages are found here."""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
MAPPED = {"fastmlp.kernels": CHECKOUT / "kernels", "fastmlp.bench": CHECKOUT / "bench"}  # as pyproject.toml has them


class Mapped:
    """Looks where installing would have put a link; asked last, so that an installed package wins."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        folder = MAPPED.get(name)
        if folder is None:
            return None
        return spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])


sys.meta_path.append(Mapped)
