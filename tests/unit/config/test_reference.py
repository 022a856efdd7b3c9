"""The JSON schema, config/config.yaml and the README's tables are what the model says."""

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from margin_cache.config import reference
from margin_cache.config.model import MarginSettings, RunSettings, SmtpSettings
from margin_cache.config.validation import mail_settings, settings_of_margins
from margin_cache.errors import MarginCacheError

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = ROOT / "workflow/schemas/config.schema.yaml"
CONFIG = ROOT / "config/config.yaml"
README = ROOT / "config/README.md"


def keys_of(model: type) -> list[str]:
    return [field.name for field in fields(model)]


def schema() -> dict[str, Any]:
    return yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))


# --- the files -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [SCHEMA, CONFIG, README], ids=lambda path: path.name)
def test_file_is_what_would_be_made(path: Path):
    made = reference.made_files()[path]
    found = path.read_text(encoding="utf-8")
    # Not in the assert statement, which would show a long difference before what to do.
    is_current = found == made
    assert is_current, f"{path.relative_to(ROOT)} is not what the model says: run `make reference`"


def test_damaged_files_are_made_anew(tmp_path, monkeypatch):
    made = reference.made_files()
    for name, path in (("SCHEMA", SCHEMA), ("CONFIG", CONFIG), ("README", README)):
        copy = tmp_path / path.name
        copy.write_text(made[path].replace("margin_threshold", "margin_treshold"))
        monkeypatch.setattr(reference, name, copy)
    prose = "which says which orders are not.\n"
    assert prose in (tmp_path / README.name).read_text()
    text = (tmp_path / README.name).read_text()
    (tmp_path / README.name).write_text(text.replace(prose, "margin_treshold\n"))
    reference.main()
    for path in (SCHEMA, CONFIG):
        assert (tmp_path / path.name).read_text() == made[path]
    tables = (tmp_path / README.name).read_text()
    assert "| `margin_threshold` | `5.0` | number, 0.001 to 36000 | " in tables
    assert "margin_treshold\n" in tables, "the prose is nobody's but the author's"


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


# --- the JSON schema -------------------------------------------------------------------------


def test_schema_is_one_of_draft_2020_12():
    assert schema()["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$id"]
    jsonschema.Draft202012Validator.check_schema(schema())


def test_every_key_has_a_description_and_a_default_in_the_schema():
    properties = schema()["properties"]
    servers = schema()["$defs"]["SmtpSettings"]["properties"]
    assert list(properties) == keys_of(MarginSettings) + keys_of(RunSettings)
    assert list(servers) == keys_of(SmtpSettings)
    for key, rule in (properties | servers).items():
        assert rule["description"].endswith("."), key
        assert ("default" in rule) == (key != "port"), key  # which goes by the security


def test_entry_of_margins_has_the_keys_of_a_margin_but_no_defaults():
    entry = schema()["$defs"]["MarginSettings"]["properties"]
    for key, rule in entry.items():
        default = schema()["properties"][key]["default"]
        assert schema()["properties"][key] == {**rule, "default": default}
    assert list(entry) == keys_of(MarginSettings)


def is_valid(config: Mapping[str, Any]) -> bool:
    return jsonschema.Draft202012Validator(schema()).is_valid(config)


GOOD = [
    {},
    {"margin_threshold": 0.001},
    {"margin_threshold": 36000},
    {"margin_order": 3.0},
    {"margin_order": -1},
    {"partitions_per_job": "auto"},
    {"partitions_per_job": 1},
    {"debug_filter_pixel_list": [[0, 11], [29, 12 * 4**29 - 1]]},
    {"output_artifact_name": "-A_z.0-"},
    {"output_artifact_name": "x" * 128},
    {"margins": [{}, {"margin_threshold": 10, "overwrite": True}]},
    {"smtp": {"port": 65535, "security": "ssl", "host": "::1"}},
    {"completion_email_address": "one@example.org, two@example.org"},
    {"completion_email_address": ["one@example.org", "two@example.org"]},
]
BAD = [
    {"margin_treshold": 5},
    {"margin_threshold": 0},
    {"margin_threshold": 36000.1},
    {"margin_threshold": math.inf},
    {"margin_threshold": True},
    {"margin_threshold": None},
    {"margin_threshold": "five"},
    {"margin_order": -2},
    {"margin_order": 30},
    {"margin_order": 2.5},
    {"fine_filtering": 1},
    {"input_catalog_path": ""},
    {"partitions_per_job": 0},
    {"partitions_per_job": "many"},
    {"job_size_mb": 0},
    {"debug_filter_pixel_list": [[0]]},
    {"debug_filter_pixel_list": [[0, 1, 2]]},
    {"debug_filter_pixel_list": [[30, 0]]},
    {"output_artifact_name": "a/b"},
    {"output_artifact_name": ".hidden"},
    {"output_artifact_name": "line\n"},
    {"output_artifact_name": "x" * 129},
    {"margins": {}},
    {"margins": [5]},
    {"margins": [{"margin_threshold": 0}]},
    {"margins": [{"margins": []}]},
    {"margins": [{"smtp": {}}]},
    {"smtp": "mail.example.org"},
    {"smtp": {"prot": 25}},
    {"smtp": {"port": 0}},
    {"smtp": {"port": None}},
    {"smtp": {"security": "tls"}},
    {"smtp": {"host": "mail server"}},
    {"completion_email_address": {"to": "one@example.org"}},
]


def test_schema_takes_the_delivered_configuration():
    assert is_valid(yaml.safe_load(CONFIG.read_text(encoding="utf-8")))


@pytest.mark.parametrize("config", GOOD, ids=lambda config: str(config)[:50])
def test_schema_and_checks_take_the_same(config):
    settings_of_margins(config)
    assert is_valid(config)


@pytest.mark.parametrize("config", BAD, ids=lambda config: str(config)[:50])
def test_schema_and_checks_refuse_the_same(config):
    with pytest.raises(MarginCacheError):
        settings_of_margins(config)
    assert not is_valid(config)
