"""The pages of this repository as a site: `make docs` writes it to docs/_build.

Pages are the Markdown files themselves, with README.md as the first one, so that links work here
and on the site.
"""

import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

project = "Margin caches"
author = "The margin-cache developers"
root_doc = "README"
include_patterns = ["README.md", "CHANGELOG.md", "config/*.md", "demo/*.md", "docs/*.md"]
exclude_patterns = [".*", "docs/_build", "results", "intermediate"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["html_image"]
myst_heading_anchors = 3
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"  # NumPy spells ArrayLike out in a dozen lines; docstrings name types
add_module_names = False

templates_path = ["_templates"]
html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_title = project
html_show_sourcelink = False
html_sidebars = {"**": ["contents.html"]}
html_theme_options = {
    "navbar_center": [],
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
}

CONTENTS = {
    "First steps": ("tutorial", "choosing_a_threshold", "usage", "/config/README", "migration"),
    "More": ("hpc", "remote", "audit", "report", "module"),
    "Background": ("how_it_works", "healpix", "reliability", "performance", "scaling", "resources"),
    "Project": ("development", "/CHANGELOG", "/demo/README"),
}


def add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    """Add the contents of the site to its first page."""
    if page == root_doc:
        for caption, pages in CONTENTS.items():
            lines = "\n".join(name if name[0] == "/" else f"/docs/{name}" for name in pages)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```\n"


def add_index(app: Sphinx, error: Exception | None) -> None:
    """Write the first page as index.html too, which servers look for."""
    first = Path(app.outdir, f"{root_doc}.html")
    if not error and app.builder.name == "html":
        first.with_name("index.html").write_bytes(first.read_bytes())


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_contents)
    app.connect("build-finished", add_index)
