"""The model of the configuration: its defaults, and the order of the coarse filter's cells."""

import subprocess
import sys
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from margin_cache.config.model import (
    MarginSettings,
    RunSettings,
    SmtpSettings,
    Table,
    choose_margin_order,
    given_keys,
    key_of,
)
from margin_cache.config.validation import mail_settings, settings_of_margins
from margin_cache.errors import MarginCacheError

ROOT = Path(__file__).resolve().parents[3]
DEFAULTS = {
    "input_catalog_path": "demo/hipparcos",
    "input_storage_options": {},
    "output_storage_options": {},
    "output_path": "results",
    "output_artifact_name": "",
    "margin_threshold": 5.0,
    "margin_order": -1,
    "fine_filtering": True,
    "debug_filter_pixel_list": (),
    "create_metadata": True,
    "write_table_kwargs": {},
    "overwrite": False,
    "npix_suffix": ".parquet",
    "npix_parquet_name": "",
    "addl_hats_properties": {},
    "create_thumbnail": False,
    "create_per_partition_stats": False,
    "create_partition_info_png": False,
    "create_summary_html": False,
    "create_summary_md": False,
    "resume": True,
    "tmp_dir": "",
    "delete_intermediate_parquet_files": True,
    "partitions_per_job": "auto",
    "job_size_mb": 1000,
    "audit_catalog_path": "",
    "audit_threshold": 0.0,
    "audit_fraction": 1.0,
    "audit_seed": 0,
}


def test_defaults_of_a_margin_are_those_that_users_know():
    assert asdict(MarginSettings()) == DEFAULTS


def test_defaults_of_the_run_are_those_that_users_know():
    assert RunSettings() == RunSettings(
        completion_email_address="",
        smtp={},
        progress_bar=True,
        margins=(),
    )
    assert SmtpSettings() == SmtpSettings(host="localhost", port=None, security="none", sender="")


def test_defaults_are_values_that_the_checks_take():
    assert settings_of_margins(DEFAULTS | {"debug_filter_pixel_list": []}) == [MarginSettings()]
    smtp = {key: value for key, value in asdict(SmtpSettings()).items() if value is not None}
    assert mail_settings({"completion_email_address": "", "smtp": smtp, "margins": []}) is None


def test_no_two_models_have_a_key_in_common():
    names = [field.name for model in (MarginSettings, RunSettings) for field in fields(model)]
    assert len(names) == len(set(names))


def test_every_key_stands_in_a_table():
    models = (MarginSettings, RunSettings, SmtpSettings)
    tables = {key_of(field.type).table for model in models for field in fields(model)}
    assert tables == set(Table)


def test_model_imports_nothing_slow():
    code = "import sys; import margin_cache.config.model; print(*sys.modules)"
    listed = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        cwd=ROOT / "scripts",
        encoding="utf-8",
    )
    modules = set(listed.stdout.split())
    assert "margin_cache.config.model" in modules
    assert not modules & {
        "annotated_types",
        "pydantic",
        "pydantic_core",
        "yaml",
        "pandas",
        "pyarrow",
    }


# --- the coarse filter's order ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("margin_order", "threshold", "index_order", "chosen"),
    [
        (-1, 36000.0, 19, 1),
        (-1, 5.0, 19, 14),
        (-1, 5.0, 29, 14),
        (-1, 0.001, 19, 19),
        (-1, 0.001, 29, 26),
        (7, 5.0, 19, 7),
        (0, 36000.0, 19, 0),
        (14, 5.0, 14, 14),
    ],
)
def test_order_is_the_given_one_or_the_finest(margin_order, threshold, index_order, chosen):
    assert choose_margin_order(margin_order, threshold, index_order) == chosen


def test_order_finer_than_the_threshold_allows_is_refused():
    with pytest.raises(MarginCacheError) as caught:
        choose_margin_order(20, 60.0, 29)
    assert str(caught.value) == (
        "margin_order: 20 is too fine for a margin_threshold of 60 arcsec. Use an order from 0 to "
        "11, or -1 to have it chosen."
    )


def test_order_finer_than_the_index_is_refused_for_this_catalog():
    with pytest.raises(MarginCacheError) as caught:
        choose_margin_order(20, 0.001, 19)
    assert str(caught.value) == (
        "margin_order: 20 is too fine for a margin_threshold of 0.001 arcsec in this catalog. Use "
        "an order from 0 to 19, or -1 to have it chosen."
    )


def test_keys_of_a_table_are_given_if_they_are_not_as_by_default():
    settings = MarginSettings(npix_suffix="/", create_thumbnail=False, overwrite=True)
    assert given_keys(settings, Table.HATS) == ["npix_suffix"]
    assert given_keys(MarginSettings(), Table.HATS) == []
