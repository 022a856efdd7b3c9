"""config/config.yaml and the tables of config/README.md agree with the model."""

from dataclasses import fields
from pathlib import Path

import pytest
import write_reference as reference
import yaml
from margin_cache.config.model import MarginSettings, RunSettings, SmtpSettings
from margin_cache.config.validation import mail_settings, settings_of_margins

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / "config/config.yaml"
README = ROOT / "config/README.md"


def keys_of(model: type) -> list[str]:
    return [field.name for field in fields(model)]


@pytest.mark.parametrize("path", [CONFIG, README], ids=lambda path: path.name)
def test_file_is_what_would_be_made(path: Path):
    made = reference.made_files()[path]
    found = path.read_text(encoding="utf-8")
    # Not in the assert statement, which would show a long difference before what to do.
    is_current = found == made
    assert is_current, f"{path.relative_to(ROOT)} is not what the model says: run `make reference`"


def test_damaged_files_are_made_anew(tmp_path, monkeypatch):
    made = reference.made_files()
    for name, path in (("CONFIG", CONFIG), ("README", README)):
        copy = tmp_path / path.name
        copy.write_text(made[path].replace("margin_threshold", "margin_treshold"))
        monkeypatch.setattr(reference, name, copy)
    prose = "An unknown key is an\nerror."
    assert prose in (tmp_path / README.name).read_text()
    text = (tmp_path / README.name).read_text()
    (tmp_path / README.name).write_text(text.replace(prose, "margin_treshold"))
    reference.main()
    assert (tmp_path / CONFIG.name).read_text() == made[CONFIG]
    tables = (tmp_path / README.name).read_text()
    assert "| `margin_threshold` | `5.0` | number, 0.001 to 36000 | " in tables
    assert "margin_treshold Relative" in tables, "prose is not changed"


@pytest.mark.parametrize("lost", ["<!-- keys: how it is made -->\n", "<!-- end -->\n"])
def test_readme_without_the_place_of_a_table_is_an_error(lost, tmp_path, monkeypatch):
    copy = tmp_path / README.name
    before, start, after = README.read_text(encoding="utf-8").partition("<!-- keys: how")
    copy.write_text(before + (start + after).replace(lost, "", 1))
    monkeypatch.setattr(reference, "README", copy)
    with pytest.raises(ValueError, match="lacks <!-- keys: how it is made -->"):
        reference.made_files()


def test_delivered_configuration_has_every_key_and_is_the_defaults():
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    assert list(config) == keys_of(MarginSettings) + keys_of(RunSettings)
    assert settings_of_margins(config) == [MarginSettings()]
    assert mail_settings(config) is None


def test_readme_has_a_line_for_every_key():
    lines = README.read_text(encoding="utf-8").splitlines()
    for model in (MarginSettings, RunSettings, SmtpSettings):
        for key in keys_of(model):
            assert sum(line.startswith(f"| `{key}` | ") for line in lines) == 1, key
