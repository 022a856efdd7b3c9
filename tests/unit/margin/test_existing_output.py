"""What is on disk is believed only as far as size, digest and provenance agree."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.margin.existing import (
    TOOL_NAME,
    check_output,
    clean_up,
    has_leftovers,
    is_complete,
)
from margin_cache.margin.finish import finish_margin
from margin_cache.margin.model import Margin


def overwriting(margin: Margin) -> Margin:
    return replace(margin, settings=replace(margin.settings, overwrite=True))


def first_file(margin: Margin) -> Path:
    return min(margin.files.output_dir.rglob("Npix=*"))


def test_a_margin_with_missing_or_truncated_files_is_not_complete(finished: Margin) -> None:
    assert is_complete(finished)
    content = first_file(finished).read_bytes()
    first_file(finished).write_bytes(content[:-1])
    assert not is_complete(finished)
    first_file(finished).write_bytes(content)
    assert is_complete(finished)
    (finished.files.output_dir / "partition_info.csv").unlink()
    assert not is_complete(finished)


def test_a_margin_of_another_state_or_content_is_not_complete(finished: Margin) -> None:
    plan = finished.plan
    other_state = replace(plan.partitions, times=plan.partitions.times + 1)
    assert not is_complete(replace(finished, plan=replace(plan, partitions=other_state)))
    other = replace(plan.parameters, threshold=61.0)
    assert not is_complete(replace(finished, plan=replace(plan, parameters=other)))


@pytest.mark.parametrize(
    ("made", "now", "complete"),
    [
        ("1.0", "1.1", True),
        ("1.0", "1.1.dev0+1", False),
        ("1.1.dev0+1", "1.1.dev0+1", True),
        ("1.1.dev0+1", "1.1.dev0+2", False),
        ("1.1.dev0+1", "1.1", False),
    ],
)
def test_a_margin_of_another_release_is_complete_and_of_changed_code_not(
    finished: Margin, made: str, now: str, complete: bool
) -> None:
    path = finished.files.output_dir / "provenance_info.json"
    provenance = json.loads(path.read_text())
    provenance["tool_args"]["runtime_args"]["library"] = made
    path.write_text(json.dumps(provenance))
    plan = replace(finished.plan, library=now)
    assert is_complete(replace(finished, plan=plan)) == complete


def test_output_of_another_tool_is_not_replaced(finished: Margin) -> None:
    check_output(finished)
    (finished.files.output_dir / "provenance_info.json").unlink()
    (finished.files.output_dir / "notes.txt").touch()
    with pytest.raises(MarginCacheError, match="was not made by this workflow"):
        check_output(finished)
    check_output(overwriting(finished))


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"tool_args": []}',
        '{"tool_args": {"tool_name": "snakemake-margin-cache"}}',
        *(
            f'{{"tool_args": {{"tool_name": "{TOOL_NAME}", "runtime_args": {arguments}}}}}'
            for arguments in ("{}", "[]", '{"content_id": "a", "files": 5}', '{"files": {}}')
        ),
    ],
)
def test_a_damaged_provenance_is_no_traceback(finished: Margin, content: str) -> None:
    (finished.files.output_dir / "provenance_info.json").write_text(content)
    (finished.files.output_dir / "notes.txt").touch()
    assert not is_complete(finished)
    with pytest.raises(MarginCacheError, match="was not made by this workflow"):
        check_output(finished)


def test_output_with_other_parameters_is_not_replaced(finished: Margin) -> None:
    settings = replace(finished.settings, margin_threshold=61.0)
    parameters = replace(finished.plan.parameters, threshold=61.0)
    other = replace(finished, settings=settings, plan=replace(finished.plan, parameters=parameters))
    with pytest.raises(MarginCacheError, match=r"margin_threshold 60.0, not 61.0"):
        check_output(other)


@pytest.mark.parametrize("kind", ["file", "link", "broken link"])
def test_foreign_files_in_a_margin_are_not_deleted_without_overwrite(
    finished: Margin, tmp_path: Path, kind: str
) -> None:
    notes = finished.files.output_dir / "Norder=0" / "NOTES.txt"
    if kind == "file":
        notes.write_text("mine")
    else:
        notes.symlink_to(tmp_path if kind == "link" else tmp_path / "nowhere")
    with pytest.raises(MarginCacheError, match=f"{notes} does not belong to the margin"):
        check_output(finished)
    check_output(overwriting(finished))


@pytest.mark.parametrize("name", ["catalog_info.json", "photograph.jpg"])
def test_overwrite_replaces_only_margins(finished: Margin, catalog: Path, name: str) -> None:
    output_dir = finished.files.output_dir
    shutil.rmtree(output_dir)
    output_dir.mkdir()
    content = (catalog / name).read_bytes() if (catalog / name).exists() else b"picture"
    (output_dir / name).write_bytes(content)
    with pytest.raises(MarginCacheError, match="metadata do not describe a margin"):
        check_output(overwriting(finished))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("catalog_info.json", '{"catalog_type": "margin"}'),
        ("properties", "dataproduct_type=margin\n"),
        ("hats.properties", "dataproduct_type=margin\n"),
    ],
)
def test_overwrite_replaces_margins_of_other_tools(
    finished: Margin, name: str, content: str
) -> None:
    output_dir = finished.files.output_dir
    shutil.rmtree(output_dir)
    output_dir.mkdir()
    (output_dir / name).write_text(content)
    check_output(overwriting(finished))


def copy_of(margin: Margin, prepare: Callable[..., Margin], catalog: Path, to: str) -> Margin:
    """The margin of a copy of the catalog whose files have other times; both are copied."""
    for path in (catalog, margin.files.output_dir.parent):
        shutil.copytree(path, Path(to) / path.name, copy_function=shutil.copyfile)
    for number, file in enumerate(sorted(Path(to).rglob("*.parquet"))):
        os.utime(file, (2 * 10**9 + number,) * 2)
    output_path = Path(to) / margin.files.output_dir.parent.name
    return prepare(input_catalog_path=Path(to) / catalog.name, output_path=str(output_path))


def test_a_margin_that_was_moved_with_its_catalog_is_complete(
    finished: Margin, prepare: Callable[..., Margin], catalog: Path, tmp_path: Path
) -> None:
    clean_up(finished, finished.files.staging_lock)
    moved = catalog.rename(tmp_path / "moved")
    assert is_complete(prepare(input_catalog_path=moved))
    assert not has_leftovers(prepare(input_catalog_path=moved))
    file = min(moved.rglob("Npix=*"))
    os.utime(file, (2 * 10**9,) * 2)
    assert not is_complete(prepare(input_catalog_path=moved))
    # Its old place is empty, so it is the same catalog.
    check_output(prepare(input_catalog_path=moved))
    shutil.copytree(moved, catalog)
    with pytest.raises(MarginCacheError, match=f"was made from {catalog}, not from {moved}"):
        check_output(prepare(input_catalog_path=moved))


def test_a_margin_that_was_copied_with_its_catalog_is_complete(
    finished: Margin, prepare: Callable[..., Margin], catalog: Path
) -> None:
    """After the state of the copy was recorded, changes are noticed by the times of files."""
    copied = copy_of(finished, prepare, catalog, "copied")
    assert copied.plan.input_fingerprint != finished.plan.input_fingerprint
    files = {file: file.read_bytes() for file in copied.files.output_dir.rglob("*.parquet")}
    assert is_complete(copied) and has_leftovers(copied)
    check_output(copied)
    summary = finish_margin(copied)
    assert summary["files"] == len(files)
    assert is_complete(copied) and not has_leftovers(copied)
    assert all(file.read_bytes() == content for file, content in files.items())
    file = min(Path("copied", catalog.name).rglob("Npix=*"))
    os.utime(file, (2 * 10**9 + 99,) * 2)
    changed = prepare(
        input_catalog_path=file.parents[2], output_path=str(copied.files.output_dir.parent)
    )
    assert not is_complete(changed)
    check_output(changed)


def test_a_change_of_a_copied_catalog_is_noticed(
    finished: Margin, prepare: Callable[..., Margin], catalog: Path
) -> None:
    copied = copy_of(finished, prepare, catalog, "copied")
    file = min(Path("copied", catalog.name).rglob("Npix=*"))
    state, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert not is_complete(copied)
    with pytest.raises(MarginCacheError, match=f"was made from {catalog}, not from .*copied"):
        check_output(copied)
    # In the place of the original, a changed time is a change.
    shutil.copytree("copied/sky", catalog, dirs_exist_ok=True)
    assert not is_complete(prepare())


def test_a_margin_of_another_catalog_with_the_same_relative_path_is_not_replaced(
    finished: Margin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both catalogs may go by the same relative path, each from its own working directory."""
    plan = finished.plan
    relative = replace(plan.parameters, catalog=replace(plan.parameters.catalog, path="sky"))
    other_state = replace(plan.partitions, times=plan.partitions.times + 1)
    margin = replace(finished, plan=replace(plan, parameters=relative))
    changed = replace(margin, plan=replace(margin.plan, partitions=other_state))
    path = finished.files.output_dir / "provenance_info.json"
    provenance = json.loads(path.read_text())
    provenance["tool_args"]["runtime_args"]["content_id"] = margin.plan.content_id
    path.write_text(json.dumps(provenance))
    output_dir = finished.files.output_dir.absolute()
    for each in (margin, changed):
        check_output(
            replace(each, settings=replace(each.settings, output_path=str(output_dir.parent)))
        )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    moved = replace(changed.settings, output_path=str(output_dir.parent))
    with pytest.raises(
        MarginCacheError, match=f"made from {tmp_path}/sky, not from {tmp_path}/else"
    ):
        check_output(replace(changed, settings=moved))
    # As it is, it may have been moved together with its margin.
    check_output(replace(margin, settings=moved))
    check_output(overwriting(replace(changed, settings=moved)))
