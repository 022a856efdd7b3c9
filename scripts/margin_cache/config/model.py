"""The keys of the configuration: each with its type, limits, default and description.

``make reference`` writes config/config.yaml and the tables of config/README.md from this module.
Jobs import it too, so it imports nothing that is slow to load, such as pydantic.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import (
    COARSE_FACTOR,
    MAX_ORDER,
    finest_margin_order,
    resolution,
)

SMTP_USER = "MARGIN_CACHE_SMTP_USER"
SMTP_PASSWORD = "MARGIN_CACHE_SMTP_PASSWORD"
"""Environment variables with the user and the password for the mail server."""

PORTS = {"none": 25, "starttls": 587, "ssl": 465}
"""Default port of the mail server for each value of ``smtp.security``."""

ADDRESS = r"(?a:[\w.!#$%&'*+/=?^`{|}~-]+@[\w.-]+)"
"""Regular expression of the mail addresses that are accepted, of ASCII characters."""


class Table(StrEnum):
    """A table of config/README.md; the value is in the comment that marks it there."""

    WHAT = "what is made"
    HATS = "further files and properties of HATS margins"
    HOW = "how it is made"
    AUDIT = "an audit"
    MAIL = "a mail at the end"
    SMTP = "the mail server"


@dataclass(frozen=True)
class Key:
    """The description of a key besides its type, limits, default and docstring."""

    table: Table
    default: str = ""  # text for the default in the table; empty for the default itself
    takes: str = ""  # the allowed values in words; empty if type and limits say all


class Limits:
    """Limits of a value, by their names in pydantic's core schemas; jobs import no pydantic."""

    def __init__(self, **limits: Any) -> None:
        self.limits = limits

    def __get_pydantic_core_schema__(
        self, source: Any, handler: Callable[[Any], dict[str, Any]]
    ) -> dict[str, Any]:
        schema = {**handler(source), **self.limits}
        if "pattern" in schema:
            # A compiled pattern has Python's syntax; a text would have Rust's, without (?!...).
            schema["pattern"] = re.compile(schema["pattern"])
        return schema


_PYDANTIC_CONFIG = {
    "allow_inf_nan": False,
    "coerce_numbers_to_str": True,  # Snakemake reads the name 2024 of a command as a number
}
_PARQUET_OPTIONS = "a mapping of options of PyArrow's Parquet writer"
_StorageOptions = Annotated[
    dict[str, Any], Key(Table.WHAT, takes="a mapping of options of the URL's driver in fsspec")
]


@dataclass(frozen=True)
class MarginSettings:
    __pydantic_config__: ClassVar[dict[str, Any]] = _PYDANTIC_CONFIG

    input_catalog_path: Annotated[
        str, Limits(min_length=1), Key(Table.WHAT, default="the demo sky")
    ] = "demo/hipparcos"
    """Directory or URL of a HiPSCat or HATS catalog of objects or sources, or of a HATS collection;
    of a collection the primary table is used. URLs are those of fsspec, for example `https://` or
    `s3://`, see docs/remote.md."""

    input_storage_options: _StorageOptions = field(default_factory=dict, repr=False)
    """Options for the store behind the URL, for example `{anon: true}`. Options that may be secrets
    are accepted in a configuration file only, not after `--config`; they are written nowhere else.
    Directories need none."""

    output_path: Annotated[str, Limits(min_length=1), Key(Table.WHAT)] = "results"
    """Directory in which the directory of the margin is created, or a URL of an object store that
    begins with `s3://`, `gs://` or `az://`. It may be the directory that contains the catalog, or
    the collection, but not the catalog itself."""

    output_storage_options: _StorageOptions = field(default_factory=dict, repr=False)
    """Like `input_storage_options`, for the store that the margin is written to."""

    output_artifact_name: Annotated[
        str,
        Limits(max_length=128, pattern=r"^([A-Za-z0-9_-][A-Za-z0-9._-]*)?$(?!\n)"),
        Key(
            Table.WHAT,
            takes='a name of letters, digits, ".", "_" and "-" that does not begin with "."',
        ),
    ] = ""
    """Name of the margin. Empty: the name of the catalog and the threshold, for example
    `gaia_10arcs` or `gaia_0.5arcs`."""

    margin_threshold: Annotated[float, Limits(ge=0.001, le=36000), Key(Table.WHAT)] = 5.0
    """Distance in arcsec: the margin of a pixel has all rows outside the pixel within this distance
    of it. It may be larger than the partitions. The threshold of a coarse margin with a
    `margin_order` follows from that order instead."""

    margin_order: Annotated[int, Limits(ge=-1, le=MAX_ORDER), Key(Table.WHAT)] = -1
    """Order of the cells that select candidate rows. `-1`: the finest order that the threshold
    allows. With exact filtering it does not change the result. With `fine_filtering: false` it must
    be above the highest order of the catalog's partitions, and it sets the threshold of the margin:
    8245.17 arcsec for order 4, half as much for each further order."""

    fine_filtering: Annotated[bool, Key(Table.WHAT)] = True
    """`true`: exactly the rows within the threshold. `false`: all rows in cells of `margin_order`
    that touch the pixel, as hats-import writes."""

    debug_filter_pixel_list: Annotated[
        tuple[tuple[Annotated[int, Limits(ge=0, le=MAX_ORDER)], Annotated[int, Limits(ge=0)]], ...],
        Key(Table.WHAT, takes="a list of [order, pixel] pairs of whole numbers"),
    ] = ()
    """Use only the partitions that overlap one of these pixels: that are equal to it, lie in it, or
    contain it. The catalog is restricted to them first; the rest of the sky counts as empty."""

    create_metadata: Annotated[bool, Key(Table.WHAT)] = True
    """Whether the margin gets a `_metadata` file, which has the footers of all its files and can be
    large. A file of more than 2 GB, which no reader accepts, is not written."""

    write_table_kwargs: Annotated[dict[str, Any], Key(Table.WHAT, takes=_PARQUET_OPTIONS)] = field(
        default_factory=dict
    )
    """Options of PyArrow's Parquet writer, as `{compression: gzip, row_group_size: 10000}`. Options
    that are not given are those of the catalog's own files. A `compression` without a level has its
    default level."""

    overwrite: Annotated[bool, Key(Table.WHAT)] = False
    """Whether to replace a margin of the same name that was made with other parameters or by
    another tool. The old margin stays until the new one is complete. Only margins are replaced."""

    npix_suffix: Annotated[
        str,
        Limits(max_length=64, pattern=r"^(/|\.[A-Za-z0-9][A-Za-z0-9._-]*)$(?!\n)"),
        Key(Table.HATS, takes='"/", or "." followed by letters, digits, ".", "_" and "-"'),
    ] = ".parquet"
    """End of the names of the margin's files. `/`: each pixel has a directory with one file."""

    npix_parquet_name: Annotated[
        str,
        Limits(max_length=128, pattern=r"^([A-Za-z0-9][A-Za-z0-9._=-]*)?$(?!\n)"),
        Key(
            Table.HATS,
            takes='a name of letters, digits, ".", "_", "=" and "-" that begins with a letter or '
            "digit",
        ),
    ] = ""
    """Name of the file in each directory, if `npix_suffix` is `/`. Empty: the name of the pixel, as
    `Npix=10.parquet`."""

    addl_hats_properties: Annotated[
        dict[str, Any], Key(Table.HATS, takes="a mapping of names to values")
    ] = field(default_factory=dict)
    """Further lines of the margin's properties, for example `{obs_copyright: CDS}`. Lines that the
    workflow writes itself are refused."""

    create_thumbnail: Annotated[bool, Key(Table.HATS)] = False
    """Whether the margin gets a `data_thumbnail.parquet` with one row of each of its files."""

    create_per_partition_stats: Annotated[bool, Key(Table.HATS)] = False
    """Whether it gets a `per_partition_statistics.parquet` with the statistics of each row
    group."""

    create_partition_info_png: Annotated[bool, Key(Table.HATS)] = False
    """Whether it gets a `partition_info.png`, a map of its pixels on the sky."""

    create_summary_html: Annotated[bool, Key(Table.HATS)] = False
    """Whether it gets an `index.html` that describes it and its columns."""

    create_summary_md: Annotated[bool, Key(Table.HATS)] = False
    """Whether it gets a `README.md` with the same description."""

    tmp_dir: Annotated[str, Key(Table.HOW)] = ""
    """Directory of the intermediate files, which are in `tmp_dir/NAME`. Empty: `intermediate` in
    the working directory. On a cluster all nodes must see it."""

    delete_intermediate_parquet_files: Annotated[bool, Key(Table.HOW)] = True
    """Whether to delete the shards when the margin is finished. Receipts and logs, which are small,
    stay: with them, a later change of one partition repeats only the reduce jobs around it and the
    map jobs that these read."""

    resume: Annotated[bool, Key(Table.HOW)] = True
    """Whether a run continues from existing intermediate files and leaves a complete margin as it
    is. `false`: each run makes the margin from scratch, as with `--forceall`; the old margin stays
    until the new one is complete."""

    partitions_per_job: Annotated[
        Annotated[int, Limits(ge=1)] | Literal["auto"],
        Key(Table.HOW, takes="auto or a whole number of 1 or more"),
    ] = "auto"
    """Number of partitions of a map job and of pixels of a reduce job. `auto`: chosen by their
    sizes."""

    job_size_mb: Annotated[float, Limits(ge=0.001), Key(Table.HOW)] = 1000.0
    """Approximate size in MB of the Parquet files that a map job reads, if `partitions_per_job` is
    `auto`."""

    audit_catalog_path: Annotated[str, Key(Table.AUDIT)] = ""
    """Directory or URL of the margin that `snakemake audit` checks against `input_catalog_path`,
    made by any tool; or of a HATS collection, whose default margin is checked; or the name of a
    margin of the collection `input_catalog_path`. Empty: the margin that this configuration makes.
    The result is written into `output_path/NAME_audit`, or, if the margin is not in `output_path`,
    into `output_path/NAME-DIGEST_audit` with a digest of its parent directory. If `output_path` is
    a URL, these directories are in the working directory."""

    audit_threshold: Annotated[float, Limits(ge=0, le=36000), Key(Table.AUDIT)] = 0.0
    """Distance in arcsec within which the margin must have all rows. 0: the threshold in its own
    metadata."""

    audit_fraction: Annotated[float, Limits(ge=1e-6, le=1), Key(Table.AUDIT)] = 1.0
    """Fraction of the pixels that is audited, chosen at random; 1 for all. If a sample has no
    unsafe pixel, the audit says how many of all pixels may still be unsafe."""

    audit_seed: Annotated[int, Limits(ge=0), Key(Table.AUDIT)] = 0
    """Seed of the random sample."""


@dataclass(frozen=True)
class SmtpSettings:
    __pydantic_config__: ClassVar[dict[str, Any]] = _PYDANTIC_CONFIG

    host: Annotated[
        str,
        Limits(min_length=1, pattern=r"^[A-Za-z0-9._:%-]+$(?!\n)"),
        Key(Table.SMTP, takes="a host name or an IP address"),
    ] = "localhost"
    """The mail server."""

    port: Annotated[
        Annotated[int, Limits(ge=1, le=65535)] | None,
        Key(Table.SMTP, default=", ".join(f"{port} ({name})" for name, port in PORTS.items())),
    ] = None
    """Its port. The default depends on `security`."""

    security: Annotated[Literal["none", "starttls", "ssl"], Key(Table.SMTP)] = "none"
    """Whether and how the connection is encrypted. With `starttls` or `ssl` a mail is sent only if
    the certificate of the server is valid; `SSL_CERT_FILE` in the environment names further
    authorities."""

    sender: Annotated[
        str, Limits(pattern=rf"^({ADDRESS})?$(?!\n)"), Key(Table.SMTP, takes="an address")
    ] = ""
    """Address of the sender. Empty: `margin-cache@` and the full name of this machine."""


@dataclass(frozen=True)
class RunSettings:
    """The keys of a whole run, besides those of a margin."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _PYDANTIC_CONFIG

    audit_strict: Annotated[bool, Key(Table.AUDIT)] = False
    """Whether `snakemake audit` also fails, with exit code 1, for a margin that is safe but not
    clean: with rows beyond the threshold, unsorted files or wrong metadata."""

    completion_email_address: Annotated[
        str | tuple[str, ...], Key(Table.MAIL, takes="text or a list of texts")
    ] = ""
    """Address that gets one mail when a run is done or has failed. Separate several addresses by
    commas, or give a list. Empty: no mail."""

    smtp: Annotated[dict[str, Any], Key(Table.MAIL, takes="a mapping")] = field(
        default_factory=dict
    )
    """The mail server, by its own keys."""

    progress_bar: Annotated[bool, Key(Table.HOW)] = True
    """Whether bars show how many partitions and pixels are done, instead of Snakemake's lines about
    each job; without a terminal, at most one line a minute. Warnings and errors are shown in any
    case, and Snakemake's log has all lines."""

    margins: Annotated[tuple[dict[str, Any], ...], Key(Table.WHAT, takes="a list of mappings")] = ()
    """Several margins in one run: each mapping overrides the keys of a margin for one of them."""


class MailSettings(NamedTuple):
    """Recipients and server of the mail at the end of a run; the server has a port."""

    recipients: tuple[str, ...]
    server: SmtpSettings


def annotations_of(model: type) -> dict[str, Any]:
    return {key.name: key.type for key in fields(model)}


def key_of(annotation: Any) -> Key:
    return next(note for note in annotation.__metadata__ if isinstance(note, Key))


def given_keys(settings: MarginSettings, table: Table) -> list[str]:
    """Return the keys of a table whose values differ from the defaults."""
    defaults = MarginSettings()
    return [
        key.name
        for key in fields(settings)
        if key_of(key.type).table == table
        and getattr(settings, key.name) != getattr(defaults, key.name)
    ]


def guaranteed_threshold(settings: MarginSettings) -> float:
    """Return the threshold in arcsec within which a margin has all rows.

    The threshold of a coarse margin with a given order follows from the order, as in hats-import.
    """
    if settings.fine_filtering or settings.margin_order < 0:
        return settings.margin_threshold
    return resolution(settings.margin_order) / COARSE_FACTOR


def choose_margin_order(margin_order: int, threshold: float, index_order: int = MAX_ORDER) -> int:
    """Return the order of the coarse filter's cells: the requested one, or for -1 the finest.

    Cells can neither be thinner than the threshold nor finer than the catalog's spatial index.
    """
    by_threshold = finest_margin_order(threshold)
    finest = min(by_threshold, index_order)
    if margin_order > finest:
        where = " in this catalog" if finest < by_threshold else ""
        raise MarginCacheError(
            f"margin_order: {margin_order} is too fine for a margin_threshold of {threshold:g} "
            f"arcsec{where}. Use an order from 0 to {finest}, or -1 to have it chosen."
        )
    return finest if margin_order < 0 else margin_order
