"""What stands on disk of a margin: whether it is complete, may be replaced, and lacks files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from margin_cache.catalog.formats import format_of
from margin_cache.config.model import MarginSettings
from margin_cache.errors import MarginCacheError
from margin_cache.stages.layout import Margin, plain_settings
from margin_cache.storage.files import has_size, read_json

TOOL_NAME = "snakemake-margin-cache"

PROVENANCE = "provenance_info.json"

_OF_THE_RUN = (
    "output_path",
    "output_artifact_name",
    "overwrite",
    "tmp_dir",
    "delete_intermediate_parquet_files",
    "partitions_per_job",
    "job_size_mb",
)
"""Settings that have no influence on what a margin holds."""


def is_complete(margin: Margin) -> bool:
    """Tell whether a margin stands in its place, whole, and made from the catalog as it is now."""
    made = read_provenance(margin.place / PROVENANCE)
    return (
        made is not None
        and made["result"] == margin.plan.result
        and made["state"] == margin.plan.state
        and all(has_size(margin.place / path, size) for path, (size, _) in made["files"].items())
        and format_of(margin.plan.task.catalog).is_registered(
            margin.plan.task.catalog, margin.place
        )
    )


def read_provenance(path: Path) -> Mapping[str, Any] | None:
    """Return the arguments that a margin was made with, or None if it is not one of ours."""
    try:
        tool = read_json(path)["tool_args"]
        if tool["tool_name"] != TOOL_NAME:
            return None
        arguments = tool["runtime_args"]
        if {"result", "state", "files"} <= arguments.keys():
            return arguments
    except (TypeError, KeyError, AttributeError):
        pass
    return None


def standing_files(margin: Margin) -> dict[str, list[Any]]:
    """Return size and digest of the files that a margin in its place was made with.

    Empty if the margin there was not made by this workflow. Where its own provenance is lost, the
    copy among the intermediate files serves, if nothing else has come into the place.
    """
    made = read_provenance(margin.place / PROVENANCE)
    if made is None:
        made = read_provenance(margin.placed)
        if made is None or not set(_files_below(margin.place)) <= {*made["files"], PROVENANCE}:
            return {}
    return made["files"]


def _files_below(directory: Path) -> list[str]:
    return [
        path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()
    ]


def check_output(margin: Margin) -> None:
    """Check that what stands in a margin's place may be replaced.

    Raises:
        MarginCacheError: it was made otherwise, and ``overwrite`` is false.
    """
    place = margin.place
    if margin.settings.overwrite or not place.exists() or not any(place.iterdir()):
        return
    made = read_provenance(place / PROVENANCE)
    if made is None and not standing_files(margin):
        raise MarginCacheError(
            f"output_path: {place} exists and was not made by this workflow; choose another "
            "output_path or output_artifact_name, or set overwrite: true"
        )
    if made is not None and made["result"] != margin.plan.result:
        raise MarginCacheError(
            f"output_path: {place} exists and was made {_difference(made, margin.settings)}; "
            "choose another output_artifact_name, or set overwrite: true"
        )


def _difference(made: Mapping[str, Any], settings: MarginSettings) -> str:
    """Say how a margin was made that is not the one wanted, though it has its name."""
    keys = [
        f"{key} {made.get(key)}, not {value}"
        for key, value in plain_settings(settings).items()
        if key not in _OF_THE_RUN and made.get(key) != value
    ]
    if keys:
        return f"with other parameters ({'; '.join(keys)})"
    return "when the catalog had other partitions, columns, compression or row groups"


def find_file(
    margin: Margin, path: str, size: int, digest: str, standing: Mapping[str, list[Any]]
) -> Path | None:
    """Return where a file that a receipt lists is: being built, or standing in its place.

    Args:
        margin: the margin.
        path: the file's path in the catalog.
        size: its size in bytes.
        digest: the digest of its content.
        standing: what ``standing_files`` returned.
    """
    if has_size(margin.building / path, size):
        return margin.building / path
    if standing.get(path) == [size, digest] and has_size(margin.place / path, size):
        return margin.place / path
    return None


def forget_false_receipts(margin: Margin) -> None:
    """Delete the receipts of files or footers that are gone or have another size.

    Without its receipt a job is done again. A false receipt holds no information, so nothing is
    lost even if the run that follows is a dry one.
    """
    margin.finished.unlink(missing_ok=True)
    standing = standing_files(margin)
    for name in margin.plan.reduce_names:
        receipt = read_json(margin.receipt(name))
        if (
            receipt is None
            or not has_size(margin.footers(name), receipt["footers"])
            or not all(
                find_file(margin, path, size, digest, standing)
                for path, (_, size, digest) in receipt["files"].items()
            )
        ):
            margin.receipt(name).unlink(missing_ok=True)
