"""How Sphinx builds these pages: sphinx-build -n -W --keep-going docs runs/docs. Nothing is fetched from a network."""

import os
import sys
from pathlib import Path

from fastmlp import __version__

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "extensions"))

# The pages tell of the defaults, not of what stands in the environment of whoever builds them.
for variable in [name for name in os.environ if name.startswith("FASTMLP_") and name != "FASTMLP_CACHE_DIR"]:
    del os.environ[variable]

project = "fastmlp"
author = "the fastmlp authors"
version = release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "numpydoc", "commands", "docstrings"]
exclude_patterns = ["extensions"]

# Pages.

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# The notebook is committed without outputs: every build makes them, and an error in a cell fails it.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_in_temp = True
nb_output_stderr = "remove"  # progress

# The reference, from docstrings.

default_role = "code"  # a name in single backticks is code
smartquotes = False  # so that init="paper" and --seed stay what one can type
maximum_signature_line_length = 100
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_type_aliases = {name: name for name in ("Array", "ArrayLike", "Images", "Kernel")}
python_use_unqualified_type_names = True
numpydoc_show_class_members = False  # autodoc shows them
toc_object_entries_show_parents = "hide"

nitpicky = True
nitpick_ignore_regex = [
    # Other projects' names have no page here: linking them would take their inventories from a network.
    (r"py:.*", r"(?!fastmlp\b).*"),
]
nitpick_ignore = [
    ("py:class", "fastmlp.network.buffers.Batch"),  # memory that a trainer keeps to itself
    ("py:class", "fastmlp.network.step_group.StepGroup"),
    ("py:class", "fastmlp.experiments.feature_files.Tables"),  # what a feature set keeps to itself
    ("py:class", "fastmlp.experiments.feature_sets.StoredFeatures"),
    ("py:class", "fastmlp.experiments.engines.Engine"),
    ("py:class", "fastmlp.common.beside.Beside"),
    ("py:class", "fastmlp.ops.network.Rule"),  # what kernels see of an optimizer
    ("py:class", "fastmlp.ops.network.Optimizer"),
    ("py:class", "fastmlp.report.Drawn"),  # blocks of a report
    ("py:class", "fastmlp.report.document.Paragraph"),
    ("py:class", "fastmlp.report.document.Table"),
    ("py:class", "fastmlp.models.trained_rows.TrainedRows"),  # what a model knows of its training
    ("py:class", "fastmlp.features.tables.RowArray"),
    ("py:class", "fastmlp.features.sharded_rows.ShardedRows"),
    ("py:class", "fastmlp.network.scaling.Scaling"),
    ("py:class", "fastmlp.training.stopping.Stopping"),
]

# The look.

html_theme = "pydata_sphinx_theme"
html_title = f"fastmlp {version}"
html_static_path = ["static"]
html_css_files = ["fastmlp.css"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"*": [], "paper": ["sidebar-nav-bs"]}  # and the pages of a folder keep the list of their neighbours
html_theme_options = {
    "logo": {"text": "fastmlp"},
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
}
copyright = "the fastmlp authors"
