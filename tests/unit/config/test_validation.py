"""Each key of a margin has its limits; the error for a wrong value names the key."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal

import pytest
from margin_cache.config.model import Key, Limits, MarginSettings, RunSettings, Table
from margin_cache.config.validation import check_keys, mail_settings, read, settings_of_margins
from margin_cache.errors import MarginCacheError

KEYS_OF_MARGIN = [field.name for field in fields(MarginSettings)]
KEYS = KEYS_OF_MARGIN + [field.name for field in fields(RunSettings)]
NAN, INFINITY = float("nan"), float("inf")
# One for each key of a margin, other than its default.
VALUES = {
    "input_catalog_path": "/sky/gaia",
    "input_storage_options": {"anon": True},
    "output_storage_options": {"anon": True},
    "output_path": "margins",
    "output_artifact_name": "gaia_margin",
    "margin_threshold": 2.5,
    "margin_order": 3,
    "fine_filtering": False,
    "debug_filter_pixel_list": [[0, 4]],
    "create_metadata": False,
    "write_table_kwargs": {"compression": "gzip", "row_group_size": 7},
    "npix_suffix": "/",
    "npix_parquet_name": "part0.parquet",
    "addl_hats_properties": {"obs_copyright": "CDS"},
    "create_thumbnail": True,
    "create_per_partition_stats": True,
    "create_partition_info_png": True,
    "create_summary_html": True,
    "create_summary_md": True,
    "resume": False,
    "overwrite": True,
    "tmp_dir": "/scratch",
    "delete_intermediate_parquet_files": False,
    "partitions_per_job": 7,
    "job_size_mb": 40000,
    "audit_catalog_path": "/data/margin",
    "audit_threshold": 7.5,
    "audit_fraction": 0.25,
    "audit_seed": 8,
}


def only_margin(**config: Any) -> MarginSettings:
    (settings,) = settings_of_margins(config)
    return settings


def refusal(config: dict[str, Any]) -> str:
    """The error line for a configuration."""
    with pytest.raises(MarginCacheError) as caught:
        settings_of_margins(config)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- margins ---------------------------------------------------------------------------------


def test_empty_configuration_is_one_margin_with_every_default():
    assert settings_of_margins({}) == [MarginSettings()]


@pytest.mark.parametrize("key", KEYS_OF_MARGIN)
def test_every_key_of_a_margin_can_stand_in_an_entry_of_margins(key):
    value = VALUES[key]
    common, alone = settings_of_margins({"margins": [{}, {key: value}]})
    assert common == MarginSettings()
    assert alone == only_margin(**{key: value}) != common


def test_margins_override_the_common_keys():
    config = {
        "input_catalog_path": "sky",
        "margin_threshold": 10,
        "margins": [{"margin_threshold": 2.5}, {}, {"output_path": "elsewhere"}],
    }
    settings = settings_of_margins(config)
    assert [margin.margin_threshold for margin in settings] == [2.5, 10.0, 10.0]
    assert [margin.output_path for margin in settings] == ["results", "results", "elsewhere"]
    assert {margin.input_catalog_path for margin in settings} == {"sky"}


def test_configuration_is_not_changed():
    config = {"margins": [{"margin_threshold": 2}], "margin_threshold": 1}
    before = {"margins": [{"margin_threshold": 2}], "margin_threshold": 1}
    settings_of_margins(config)
    assert config == before


def test_pixels_are_sorted_and_counted_once():
    settings = only_margin(debug_filter_pixel_list=[[1, 4], [0, 3], [1, 4]])
    assert settings.debug_filter_pixel_list == ((0, 3), (1, 4))


def test_threshold_of_an_integer_is_that_of_its_float():
    assert repr(only_margin(margin_threshold=5)) == repr(only_margin(margin_threshold=5.0))


def test_order_of_a_whole_float_is_that_of_its_integer():
    # YAML readers and JSON schemas take 5.0 for an integer.
    assert repr(only_margin(margin_order=5.0)) == repr(only_margin(margin_order=5))


# --- limits ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"margin_threshold": 0.001},
        {"margin_threshold": 36000},
        {"margin_order": -1},
        {"margin_order": 0},
        {"margin_order": 26, "margin_threshold": 0.001},
        {"margin_order": 14, "margin_threshold": 5.0},
        {"partitions_per_job": 1},
        {"partitions_per_job": "auto"},
        {"job_size_mb": 0.001},
        {"output_artifact_name": "-A_z.0-"},
        {"output_artifact_name": "x" * 128},
        {"debug_filter_pixel_list": [[0, 11], [29, 12 * 4**29 - 1]]},
    ],
    ids=str,
)
def test_value_at_its_limit_is_taken(config):
    settings = json.loads(json.dumps(asdict(only_margin(**config))))  # tuples become lists
    assert {key: settings[key] for key in config} == config


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("margin_threshold", 0, ("0.001",)),
        ("margin_threshold", -5.0, ("-5.0", "0.001")),
        ("margin_threshold", 0.0009, ("0.0009", "0.001")),
        ("margin_threshold", 36001, ("36001", "36000")),
        ("margin_threshold", NAN, ("finite",)),
        ("margin_threshold", INFINITY, ("finite",)),
        ("margin_threshold", "5 arcsec", ('"5 arcsec"', "number")),
        ("margin_threshold", [5.0], ("[5.0]", "number")),
        ("margin_order", -2, ("-2", "-1")),
        ("margin_order", 30, ("30", "29")),
        ("margin_order", 2.5, ("2.5", "integer")),
        ("margin_order", NAN, ("finite",)),
        ("margin_order", 10**400, ("29",)),
        ("margin_order", 29, ("margin_order: 29 is too fine", "5 arcsec", "14", "-1")),
        ("margin_threshold", 10**400, ("number",)),
        ("job_size_mb", 10**400, ("number",)),
        ("margin_order", "finest", ('"finest"', "integer")),
        ("fine_filtering", "perhaps", ('"perhaps"', "boolean")),
        ("partitions_per_job", 0, ("0", "auto", "1")),
        ("partitions_per_job", -3, ("-3", "auto", "1")),
        ("partitions_per_job", 1.5, ("1.5", "auto", "whole number")),
        ("partitions_per_job", "many", ('"many"', "auto", "whole number")),
        ("job_size_mb", 0, ("0", "0.001")),
        ("job_size_mb", INFINITY, ("finite",)),
        ("job_size_mb", NAN, ("finite",)),
        ("input_catalog_path", "", ("at least 1 character",)),
        ("input_catalog_path", [5], ("5", "string")),
        ("output_path", "", ("at least 1 character",)),
        ("output_artifact_name", "a/b", ('"a/b"', "letters, digits")),
        ("output_artifact_name", "..", ('".."', 'begin with "."')),
        ("output_artifact_name", ".hidden", ('".hidden"', 'begin with "."')),
        ("output_artifact_name", "two words", ('"two words"', "letters, digits")),
        ("output_artifact_name", "línea", ('"línea"', "letters, digits")),
        ("output_artifact_name", "line\n", ("letters, digits",)),
        ("output_artifact_name", "../small", ('"../small"', "letters, digits")),
        ("output_artifact_name", "x" * 129, ("at most 128 characters",)),
        ("debug_filter_pixel_list", [[0]], ("[order, pixel]",)),
        ("debug_filter_pixel_list", [[0, 1, 2]], ("[order, pixel]",)),
        ("debug_filter_pixel_list", [5], ("5", "[order, pixel]")),
        ("debug_filter_pixel_list", [[-1, 0]], ("-1",)),
        ("debug_filter_pixel_list", [[30, 0]], ("30", "29")),
        ("debug_filter_pixel_list", [[0, -1]], ("[0][1]: -1", "0")),
        ("debug_filter_pixel_list", [[0, 4], [0, "a"]], ('[1][1]: "a"', "integer")),
        ("debug_filter_pixel_list", [[0, 12]], ("no pixel 12 at order 0", "11")),
        ("debug_filter_pixel_list", [[1, 48]], ("no pixel 48 at order 1", "47")),
        ("tmp_dir", "a{x}", ("a{x}", "braces")),
        ("tmp_dir", "a\0b", ("a\\x00b", "printed")),
        ("debug_filter_pixel_list", {"0": 1}, ("list",)),
        ("margins", {"margin_threshold": 5}, ("list of mappings",)),
        ("margins", 5, ("5", "list of mappings")),
        ("margins", "two", ('"two"', "list of mappings")),
        ("margins", [5.0], ("[0]", "5.0", "mappings")),
    ],
    ids=str,
)
def test_wrong_value_is_refused(key, value, words):
    message = refusal({key: value})
    assert message.startswith(key)
    for word in words:
        assert word in message


@pytest.mark.parametrize("key", KEYS)
def test_key_without_a_value_is_refused(key):
    message = refusal({key: None})
    assert message.startswith(f"{key}: has no value")
    assert "remove the key" in message


# --- keys ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "similar"),
    [
        ("margin_treshold", "margin_threshold or audit_threshold"),
        ("input_catalog", "input_catalog_path or audit_catalog_path"),
        ("Overwrite", "overwrite"),
        ("margin", "margins or margin_order"),
        ("threshold", "audit_threshold or margin_threshold"),
        ("output_dir", "tmp_dir or output_path"),
        ("tmpdir", "tmp_dir"),
    ],
)
def test_unknown_key_is_refused_with_similar_ones(key, similar):
    message = refusal({key: 5})
    assert message.startswith(f"{key}: ")
    assert f"Did you mean {similar}? " in message


def test_nothing_is_suggested_for_a_key_that_resembles_none():
    assert refusal({"workers": 5}) == "workers: unknown key. config/README.md lists all keys."


def test_unknown_key_of_a_margin_is_refused_with_a_similar_one():
    message = refusal({"margins": [{}, {"fine_filter": True}]})
    assert message.startswith("margins[1]: fine_filter: ")
    assert "unknown key. Did you mean fine_filtering? " in message


def test_margins_inside_margins_are_refused():
    assert refusal({"margins": [{"margins": []}]}).startswith("margins[0]: margins: ")


def test_number_as_a_key_is_refused():
    assert refusal({5: 5}).startswith("5: ")


@pytest.mark.parametrize(
    ("key", "equivalent"),
    [
        ("dask_tmp", "tmpdir="),
        ("dask_n_workers", "--cores"),
        ("dask_threads_per_worker", "--cores"),
    ],
)
def test_key_for_dask_is_refused_with_the_option_of_snakemake(key, equivalent):
    for config, start in (({key: 1}, key), ({"margins": [{key: 1}]}, f"margins[0]: {key}")):
        message = refusal(config)
        assert message.startswith(f"{start}: ")
        assert "does not use dask" in message
        assert equivalent in message


@pytest.mark.parametrize(
    ("key", "equivalent"),
    [
        ("simple_progress_bar", "unless progress_bar is false"),
        ("tqdm_kwargs", "unless progress_bar is false"),
        ("resume_tmp", "Use tmp_dir"),
        ("delete_resume_log_files", "delete the margin's directory in tmp_dir"),
        ("row_group_kwargs", "write_table_kwargs: {row_group_size: N}"),
        ("should_write_skymap", "no sky map"),
        ("skymap_alt_orders", "no sky map"),
        ("create_skymap_png", "no sky map"),
    ],
)
def test_unused_argument_of_hats_import_is_refused_with_its_replacement(key, equivalent):
    for config, start in (({key: 1}, key), ({"margins": [{key: 1}]}, f"margins[0]: {key}")):
        message = refusal(config)
        assert message.startswith(f"{start}: ")
        assert equivalent in message
        assert "\n" not in message and "unknown key" not in message


@pytest.mark.parametrize(
    ("margin", "words"),
    [
        ({"margin_threshold": 0}, ("margin_threshold", "0.001")),
        ({"margin_threshold": NAN}, ("margin_threshold", "finite")),
        ({"margin_order": 20}, ("margin_order", "too fine")),
        ({"debug_filter_pixel_list": [[0, 12]]}, ("debug_filter_pixel_list", "no pixel 12")),
        ({"tmp_dir": None}, ("tmp_dir",)),
    ],
    ids=str,
)
def test_message_names_the_margin_with_the_wrong_value(margin, words):
    message = refusal({"margins": [{}, margin]})
    assert message.startswith("margins[1]")
    for word in words:
        assert word in message


# --- values as they are typed on the command line --------------------------------------------


@pytest.mark.parametrize(
    ("key", "typed", "meant"),
    [
        # Of [[0,4],[0,5]] Snakemake makes lists of text, and of true (but not True) text as well.
        ("debug_filter_pixel_list", [["0", "4"], ["0", "5"]], ((0, 4), (0, 5))),
        ("debug_filter_pixel_list", [[0, 4.0]], ((0, 4),)),
        ("overwrite", "true", True),
        ("margin_threshold", "60", 60.0),
        ("margin_order", "3.0", 3),
        ("partitions_per_job", "8", 8),
        ("partitions_per_job", 8.0, 8),
        ("output_artifact_name", 2024, "2024"),
        ("output_path", 1.5, "1.5"),
    ],
    ids=str,
)
def test_text_of_the_command_line_is_converted(key, typed, meant):
    value = getattr(only_margin(**{key: typed}), key)
    assert (value, type(value)) == (meant, type(meant))


def test_margins_of_the_command_line_are_converted():
    typed = [{"margin_threshold": "60", "fine_filtering": "true"}, {"output_artifact_name": "2024"}]
    first, second = settings_of_margins({"margins": typed})
    assert (first.margin_threshold, first.fine_filtering) == (60.0, True)
    assert second.output_artifact_name == "2024"


@pytest.mark.parametrize(
    ("key", "typed", "words"),
    [
        ("margin_threshold", NAN, ("NaN", "finite")),
        ("margin_threshold", "five", ('"five"', "number")),
        ("margin_threshold", "2024-13-45", ("number",)),  # an impossible date
        ("partitions_per_job", "many", ('"many"', "should be auto or")),
        ("output_path", None, ("has no value",)),
        ("overwrite", "", ("boolean",)),
    ],
)
def test_wrong_text_of_the_command_line_is_refused(key, typed, words):
    message = refusal({key: typed})
    assert message.startswith(key)
    for word in words:
        assert word in message


# --- paths -----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["input_catalog_path", "output_path", "tmp_dir"])
def test_a_path_may_begin_with_a_home_directory(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snakemake puts it into the paths of rules, so all others must have it too."""
    monkeypatch.setenv("HOME", "/users/of a name")
    assert getattr(only_margin(**{key: "~/sky"}), key) == "/users/of a name/sky"
    assert getattr(only_margin(**{key: "sky~"}), key) == "sky~"
    # It is an error elsewhere that there is no such directory.
    assert getattr(only_margin(**{key: "~nobody-of-this-name"}), key) == "~nobody-of-this-name"


def test_a_directory_that_is_not_utf_8_is_refused() -> None:
    config = {"input_catalog_path": "sky", "tmp_dir": b"\xe9".decode("utf-8", "surrogateescape")}
    with pytest.raises(MarginCacheError, match=r"^tmp_dir: '\\udce9' has .* printed"):
        settings_of_margins(config)


# --- other models ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    __pydantic_config__ = MarginSettings.__pydantic_config__

    count: Annotated[int, Limits(ge=1), Key(Table.HOW)] = 1
    share: Annotated[float, Limits(ge=0, le=1), Key(Table.HOW)] = 0.5
    name: Annotated[str, Limits(pattern=r"^a+$(?!\n)"), Key(Table.HOW, takes="some a")] = "a"
    way: Annotated[Literal["up", "down"], Key(Table.HOW)] = "up"
    wanted: Annotated[bool, Key(Table.HOW)] = False


@pytest.mark.parametrize(
    ("key", "value", "checked"),
    [
        ("count", 3, 3),
        ("count", 3.0, 3),
        ("count", "3", 3),
        ("share", 1, 1.0),
        ("share", "0.25", 0.25),
        ("name", "aaa", "aaa"),
        ("wanted", "true", True),
        ("way", "down", "down"),
    ],
)
def test_values_get_the_type_of_their_key(key: str, value: Any, checked: Any) -> None:
    result = getattr(read({key: value}, Model), key)
    assert (result, type(result)) == (checked, type(checked))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("count", 0, "count: 0 should be greater than or equal to 1"),
        ("count", 1.5, "count: 1.5 should be a valid integer, got a number with a fractional part"),
        ("share", 1.5, "share: 1.5 should be less than or equal to 1"),
        ("share", NAN, "share: NaN should be a finite number"),
        ("name", "", 'name: "" should be some a'),
        ("name", "aaa\n", 'name: "aaa\\n" should be some a'),
        ("name", 2024, "name: 2024 should be some a"),
        ("name", None, "name: has no value. Give one or remove the key."),
        ("way", "left", "way: \"left\" should be 'up' or 'down'"),
        (
            "cuont",
            1,
            "cuont: unknown key. Did you mean count? config/README.md lists all keys.",
        ),
    ],
)
def test_an_error_has_the_key_the_value_and_the_rule(key: str, value: Any, message: str) -> None:
    with pytest.raises(MarginCacheError) as caught:
        read({key: value}, Model, "margins[2]: ")
    assert str(caught.value) == f"margins[2]: {message}"


def test_keys_for_dask_name_the_option_of_snakemake() -> None:
    with pytest.raises(MarginCacheError, match=r"not use dask\. Use snakemake --cores N"):
        check_keys({"dask_n_workers": 3}, ["count"], "")


@pytest.mark.parametrize(
    "values",
    [
        {"output_storage_options": "secret=s3cret"},
        {"output_storage_options": [{"secret": "s3cret"}]},
        {"margins": {"output_storage_options": {"secret": "s3cret"}}},
        {"margins": [[{"input_storage_options": {"secret": "s3cret"}}]]},
        {"smtp": {"host": {"password": "s3cret"}}},
        {"smtp": "s3cret"},
    ],
)
def test_values_that_may_be_secret_are_not_repeated(values: dict[str, Any]) -> None:
    config = {"input_catalog_path": "sky", "completion_email_address": "a@b.org", **values}
    with pytest.raises(MarginCacheError) as error:
        settings_of_margins(config)
        mail_settings(config)
    assert str(error.value).startswith(tuple(values)) and "s3cret" not in str(error.value)
