"""The report of a finished margin: a page with figures, for `snakemake report`.

- `data` reads what a report shows;
- `page` draws the figures, fills the template `page.html`, and writes all files.
"""
