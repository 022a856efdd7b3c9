"""Checks a margin on disk or at a URL, whoever made it, against its primary catalog.

The audit shares no geometry, catalog reader or plan with the code that makes margins.

- `audit` compares a margin with its primary, in jobs for ranges of the sky;
- `request` says what is audited, and `pixels` which pixels are checked in which job;
- `catalogs` opens catalogs with the readers of their formats, from `files` on disk or at URLs;
  `columns` finds which columns can be compared, and `digests` makes a number of a row's values;
- `nearby_rows` reads the rows of the primary near a pixel, and `compare` compares them with the
  margin's, by distances with an error that `distance` bounds;
- `metadata` compares metadata and schemas with the files and the primary;
- `findings` holds the results, `output` writes them, and `verdict` tells them.
"""
