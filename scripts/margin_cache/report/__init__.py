"""The report of a finished margin: a page with figures, for `snakemake report`.

- `data` reads what a report shows, and tells whether a report is current;
- `sky`, `charts` and `zoom` draw the figures, in one `style`;
- `page` fills the template `page.html`, and `write` writes all files.
"""
