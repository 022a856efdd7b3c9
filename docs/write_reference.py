"""Writes config/config.yaml and the tables of config/README.md from the model.

Run ``make reference`` after a change of the model.
"""

import json
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from margin_cache.config.model import (
    MarginSettings,
    RunSettings,
    SmtpSettings,
    Table,
    annotations_of,
    key_of,
)
from pydantic import TypeAdapter

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "config/config.yaml"
README = ROOT / "config/README.md"

_MODELS: tuple[type, ...] = (MarginSettings, SmtpSettings, RunSettings)
for _model in _MODELS:
    _model.__pydantic_config__["use_attribute_docstrings"] = True  # which takes time
_WIDTH = 100
_CONFIG_HEADER = """\
# The margin of the demo sky. config/README.md tells which values each key takes.
# These are the defaults; `make reference` wrote them from scripts/margin_cache/config/model.py.
"""


def made_files() -> dict[Path, str]:
    """Return the contents of the files that are made from the model."""
    return {CONFIG: _config(), README: _readme(README.read_text(encoding="utf-8"))}


def _rules(model: type) -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each key of a model, with its description and default."""
    rules = {}
    for key, rule in TypeAdapter(model).json_schema()["properties"].items():
        rule["description"] = " ".join(rule["description"].split())
        if rule.get("type", "object") == "object" and "anyOf" not in rule:
            rule["default"] = {}
        if rule["default"] is None:  # it depends on another key
            rule |= rule["anyOf"][0]
        rules[key] = rule
    return rules


def _config() -> str:
    """Return a configuration with the default of each key, below its description."""
    blocks = [_CONFIG_HEADER]
    for key, rule in {**_rules(MarginSettings), **_rules(RunSettings)}.items():
        comment = textwrap.indent(textwrap.fill(rule["description"], _WIDTH - 2), "# ")
        blocks.append(f"{comment}\n{key}: {_as_yaml(rule['default'])}\n")
    return "\n".join(blocks)


def _readme(text: str) -> str:
    """Return the text of config/README.md with new tables."""
    rows: dict[Table, list[str]] = {table: [] for table in Table}
    for model in _MODELS:
        rules = _rules(model)
        for name, annotation in annotations_of(model).items():
            rule, key = rules[name], key_of(annotation)
            default = key.default or f"`{_as_yaml(rule['default'])}`"
            cells = (f"`{name}`", default, _values(rule, key.takes), rule["description"])
            rows[key.table].append(f"| {' | '.join(cells)} |\n")
    for table, lines in rows.items():
        start, end = f"<!-- keys: {table} -->", "<!-- end -->"
        old = re.search(rf"{start}\n((?:\|.*\n)*){end}", text)
        if not old:
            raise ValueError(f"{README} lacks {start}, or {end} right below its table")
        new = "".join(["| key | default | values | meaning |\n", "|---|---|---|---|\n", *lines])
        text = text[: old.start(1)] + new + text[old.end(1) :]
    return text


def _values(rule: Mapping[str, Any], takes: str) -> str:
    """Return the allowed values of a key in a few words."""
    if "enum" in rule:
        *others, last = (f"`{value}`" for value in rule["enum"])
        return f"{', '.join(others)} or {last}"
    if rule.get("type") == "boolean":
        return "`true` or `false`"
    words = [takes or {"string": "text"}.get(rule["type"], rule["type"])]
    if "minLength" in rule and not takes:
        words.append("not empty")
    if "maxLength" in rule:
        words.append(f"at most {rule['maxLength']} characters")
    if "minimum" in rule:
        most = f"to {rule['maximum']}" if "maximum" in rule else "or more"
        words.append(f"{rule['minimum']} {most}")
    return ", ".join(words)


def _as_yaml(default: Any) -> str:
    return default if default and isinstance(default, str) else json.dumps(default)


def main() -> None:
    for path, text in made_files().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
