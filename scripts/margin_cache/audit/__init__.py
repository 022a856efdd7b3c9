"""Checks a margin on disk or at a URL, whoever made it, against its primary catalog.

The audit shares no geometry, catalog reader or plan with the code that makes margins.

- `audit` compares a margin with its primary, in jobs for ranges of the sky;
- `request` says what is audited, which pixels in which job, and the state of the catalogs;
- `catalogs` opens catalogs with the readers of their formats, from `files` on disk or at URLs;
- `compare` compares the rows of a pixel, by digests of their values and by distances with an error
  that `distance` bounds;
- `metadata` compares columns and metadata with the files and the primary;
- `findings` holds the results, writes and reads `audit.json`, and tells the verdict.
"""
