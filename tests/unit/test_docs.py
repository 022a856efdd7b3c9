"""The pages of the documentation."""

import re
import subprocess
import sys
from pathlib import Path

import animate_recording
import pytest
from margin_cache.run.session import open_session
from support.paths import ROOT


def test_the_site_is_built_without_warnings(tmp_path: Path) -> None:
    """A warning is, for instance, a link that leads nowhere."""
    sphinx = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "--quiet", "-c", "docs"]
    built = subprocess.run(
        [*sphinx, "-d", tmp_path / "doctrees", ROOT, tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
    )
    assert built.returncode == 0, built.stdout + built.stderr
    site = tmp_path / "site"
    assert "99,993" in (site / "index.html").read_text(encoding="utf-8")
    assert "distance_to_pixel" in (site / "docs/healpix.html").read_text(encoding="utf-8")
    assert "margin_threshold" in (site / "config/README.html").read_text(encoding="utf-8")


def test_the_first_page_is_short() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(page.split()) <= 800
    found, existing = re.findall(r"finds ([\d,]+) of ([\d,]+) pairs", page)[0]
    tutorial = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    printed = re.findall(r"^(\d+) pairs$", tutorial, re.MULTILINE)
    assert printed == [number.replace(",", "") for number in (found, existing, existing)]


def test_the_first_page_has_the_numbers_of_the_performance_page() -> None:
    def cells(line: str) -> list[str]:
        return [cell.strip("* ") for cell in line.strip("|").split("|")]

    def number(cell: str) -> float:
        return float(cell.split()[0].replace(",", ""))

    measured = {}
    for line in (ROOT / "docs/performance.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| survey | "):
            _, tool, *numbers = cells(line)
            measured.setdefault(tool, numbers)  # of the first table: beside other tools
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \W*(?:this workflow|ACID|hats-import|hipscat-import)\b.*$", page, re.M)
    assert len(rows) == 4
    for row in rows:
        tool, missing, extra, seconds, peak = cells(row)
        wall, *_, peak_mb, _, _, missing_rows, extra_rows = measured[
            re.findall(r"[\w -]+", tool)[0]
        ]
        assert (missing.split()[0], extra) == (missing_rows, extra_rows), row
        assert abs(number(seconds) - number(wall)) < 0.5, row
        assert number(peak) == number(peak_mb), row


def test_the_picture_of_the_bars_is_that_of_the_recording() -> None:
    is_current = animate_recording.picture() == animate_recording.SVG.read_text(encoding="utf-8")
    assert is_current, "docs/progress.svg is not made from docs/progress.cast: run `make recording`"


def test_help_lists_all_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["snakemake", "-c1", "help"])
    with pytest.raises(SystemExit) as ended:
        open_session(None, {}, ROOT, is_module=False)
    assert not ended.value.code
    printed = capsys.readouterr().out
    assert "\n# Distance in arcsec: the margin of a pixel has " in printed
    assert "\nmargin_threshold: 5.0\n" in printed


TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
SOURCE = re.compile(r"`[^`]+`.*\bcommits? `?[0-9a-f]{7}\b.*\b20\d\d-\d\d-\d\d\b", re.DOTALL)


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.md")), ids=lambda page: page.name)
def test_numbers_name_their_command_commit_and_date(page: Path) -> None:
    """Or are called estimates in the table itself. Tables of numbers align them to the right."""
    text = page.read_text(encoding="utf-8")
    without_source = []
    for table in TABLE.finditer(text):
        header, alignment = table[0].splitlines()[:2]
        section = text[: table.start()].rpartition("\n## ")[2]
        above = text.partition("\n## ")[0] + section  # one line may be that of a whole page
        lines = re.findall(r"^\*.*?\*$", above, re.MULTILINE | re.DOTALL)
        if "---:" in alignment and "estimated" not in header:
            without_source += [header] * (not any(map(SOURCE.search, lines)))
    assert not without_source


def test_no_target_follows_an_option_of_several_values() -> None:
    """Snakemake would take it for another of them."""
    wrong, tried = [], 0
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for block in re.findall(r"^```\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            for command in re.findall(r"^snakemake .*$", block.replace("\\\n", " "), re.M):
                tried += 1
                for values in re.findall(
                    r"--(?:default-resources|config)((?: +[^- ]\S*)+)", command
                ):
                    wrong += [
                        (page.name, v) for v in values.split() if "=" not in v and "." not in v
                    ]
    assert tried > 10
    assert wrong == []
