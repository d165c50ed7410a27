"""Sphinx: guides in Markdown, the API reference from the docstrings. Build it with `make docs`."""

import negflax

project = "negflax"
copyright = "the negflax authors"
version = release = negflax.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "myst_parser",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
html_theme = "alabaster"
html_theme_options = {"description": "recommenders that learn from negative feedback"}

default_role = "code"  # single backticks in docstrings are code
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_mock_imports = ["apache_beam"]  # of an environment of its own: docs/dependencies.md
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes are described once, in the docstring of their class


def skip_plain_fields(app, what, name, obj, skip, options):
    """Fields of a NamedTuple: their class's docstring has said what they are."""
    return skip or type(obj).__name__ == "_tuplegetter"


def setup(app):
    app.connect("autodoc-skip-member", skip_plain_fields)
