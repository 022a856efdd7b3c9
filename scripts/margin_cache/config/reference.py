"""The JSON schema, config/config.yaml and the tables of config/README.md, made from the model.

``make reference`` writes them; it is run after a change of the model.
"""

import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from margin_cache.config.key_values import annotations_of
from margin_cache.config.keys import Table, key_of
from margin_cache.config.model import MarginSettings, RunSettings, SmtpSettings

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = ROOT / "workflow/schemas/config.schema.yaml"
CONFIG = ROOT / "config/config.yaml"
README = ROOT / "config/README.md"

_WIDTH = 100
_SCHEMA_HEADER = """\
# Written by `make reference` from scripts/margin_cache/config/model.py: change keys there.
"""
_CONFIG_HEADER = """\
# The margin of the demo sky. config/README.md tells which values each key takes.
# These are the defaults; `make reference` wrote them from scripts/margin_cache/config/model.py.
"""


def made_files() -> dict[Path, str]:
    """Return what the files that are made from the model have to hold."""
    models: tuple[type, ...] = (MarginSettings, SmtpSettings, RunSettings)
    rules = {model: _rules(model) for model in models}
    return {
        SCHEMA: _schema(rules),
        CONFIG: _config({**rules[MarginSettings], **rules[RunSettings]}),
        README: _readme(README.read_text(encoding="utf-8"), rules),
    }


def _rules(model: type) -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each key of a model, with its description and default."""
    rules = {}
    for key, rule in TypeAdapter(model).json_schema()["properties"].items():
        rule = {"description": " ".join(rule.pop("description").split()), **rule}
        rule.pop("title", None)
        if is_dataclass(annotations_of(model)[key].__origin__) or rule.get("type") == "object":
            rule["default"] = {}
        if rule["default"] is None:  # which depends on another key, and cannot be written
            del rule["default"]
            rule |= rule.pop("anyOf")[0]
        rules[key] = rule
    return rules


def _schema(rules: Mapping[type, Mapping[str, Any]]) -> str:
    """Return the JSON schema of a configuration, as YAML."""
    of_margin = {
        key: {word: part for word, part in rule.items() if word != "default"}
        for key, rule in rules[MarginSettings].items()
    }
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of the margin cache workflow",
        **_object({**rules[MarginSettings], **rules[RunSettings]}),
        "$defs": {
            MarginSettings.__name__: _object(of_margin),
            SmtpSettings.__name__: _object(rules[SmtpSettings]),
        },
    }
    text = yaml.safe_dump(schema, sort_keys=False, allow_unicode=True, width=_WIDTH)
    return _SCHEMA_HEADER + text


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _config(rules: Mapping[str, Any]) -> str:
    """Return a configuration with the default of each key, below its description."""
    blocks = [_CONFIG_HEADER]
    for key, rule in rules.items():
        comment = textwrap.indent(textwrap.fill(rule["description"], _WIDTH - 2), "# ")
        blocks.append(f"{comment}\n{key}: {_as_yaml(rule)}\n")
    return "\n".join(blocks)


def _readme(text: str, rules: Mapping[type, Mapping[str, Any]]) -> str:
    """Return the text of config/README.md with its tables made anew."""
    for table in Table:
        lines = ["| key | default | values | meaning |", "|---|---|---|---|"]
        for model, rules_of_model in rules.items():
            for key, annotation in annotations_of(model).items():
                if key_of(annotation).table == table:
                    rule = rules_of_model[key]
                    default = key_of(annotation).default or f"`{_as_yaml(rule)}`"
                    values = _values(rule, key_of(annotation).takes)
                    lines.append(f"| `{key}` | {default} | {values} | {rule['description']} |")
        start, end = f"<!-- keys: {table} -->", "<!-- end -->"
        found = re.search(rf"{start}\n((?:\|.*\n)*){end}", text)
        if not found:
            raise ValueError(f"{README} lacks {start}, or {end} right below its table")
        made = "".join(f"{line}\n" for line in lines)
        text = text[: found.start(1)] + made + text[found.end(1) :]
    return text


def _values(rule: Mapping[str, Any], takes: str) -> str:
    """Return which values a key takes, in a few words.

    Args:
        rule: its JSON schema.
        takes: the model's own words for it; empty for none.
    """
    if "enum" in rule:
        *others, last = (f"`{value}`" for value in rule["enum"])
        return f"{', '.join(others)} or {last}"
    if rule.get("type") == "boolean":
        return "`true` or `false`"
    names = {"string": "text", "array": "list of mappings"}
    words = [takes or names.get(rule.get("type", "object"), rule.get("type", "mapping"))]
    if "minLength" in rule and not takes:
        words.append("not empty")
    if "maxLength" in rule:
        words.append(f"at most {rule['maxLength']} characters")
    if "minimum" in rule:
        most = f"to {rule['maximum']}" if "maximum" in rule else "or more"
        words.append(f"{rule['minimum']} {most}")
    return ", ".join(words)


def _as_yaml(rule: Mapping[str, Any]) -> str:
    """Return the default of a key as it stands in YAML."""
    default = rule["default"]
    return default if default and isinstance(default, str) else json.dumps(default)


def main() -> None:
    """Write the files."""
    for path, text in made_files().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
