"""Configuration of Sphinx: `sphinx-build -W docs build/docs`."""

from importlib import metadata

project = "expertgen-jax"
author = "The authors of expertgen-jax"
release = metadata.version("expertgen-jax")
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"expertgen-jax {release}"
exclude_patterns = ["build"]
nb_execution_mode = "off"  # a test runs the notebook
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# Data files are linked where they stand in the repository, outside the documentation.
suppress_warnings = ["myst.xref_missing"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings tell shapes and units
napoleon_google_docstring = True
napoleon_attr_annotations = False
