"""The keys of the configuration: each with its type, limits, default and description.

``make reference`` writes the JSON schema, config/config.yaml and the tables of config/README.md
from this module. Jobs import it too, so it imports nothing that is slow to start.
"""

from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal

from margin_cache.config.keys import Key, Limits, Table, key_of
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import (
    COARSE_FACTOR,
    MAX_ORDER,
    finest_margin_order,
    resolution,
)

SMTP_USER = "MARGIN_CACHE_SMTP_USER"
"""Name of the environment variable with the user for the mail server."""

SMTP_PASSWORD = "MARGIN_CACHE_SMTP_PASSWORD"  # the name of a variable, not a password
"""Name of the environment variable with the password for the mail server."""

PORTS = {"none": 25, "starttls": 587, "ssl": 465}
"""Default port of the mail server for each value of ``smtp.security``."""


_FOR_PYDANTIC = {"extra": "forbid", "use_attribute_docstrings": True}


@dataclass(frozen=True)
class MarginSettings:
    """The keys of one margin."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FOR_PYDANTIC

    input_catalog_path: Annotated[
        str, Limits(min_length=1), Key(Table.WHAT, default="the demo sky")
    ] = "demo/hipparcos"
    """Directory or URL of a HiPSCat or HATS catalog of objects or sources, or of a HATS collection,
    whose primary table is meant. URLs are those of fsspec, as `https://` or `s3://`; docs/remote.md
    tells more of them."""

    input_storage_options: Annotated[
        dict[str, Any], Key(Table.WHAT, takes="a mapping of options of the URL's driver in fsspec")
    ] = field(default_factory=dict, repr=False)
    """Options for the store behind a URL, as `{anon: true}`. Those that could be secrets may stand
    in a configuration file only, not after `--config`; they are written nowhere else. Without
    effect on directories."""

    output_path: Annotated[str, Limits(min_length=1), Key(Table.WHAT)] = "results"
    """Directory in which the directory of the margin is made, or such a URL, of S3 and what speaks
    its language. It may be the one that the catalog lies in, or the collection, but not the catalog
    itself."""

    output_storage_options: Annotated[
        dict[str, Any], Key(Table.WHAT, takes="a mapping of options of the URL's driver in fsspec")
    ] = field(default_factory=dict, repr=False)
    """As `input_storage_options`, for the store that the margin is written to."""

    output_artifact_name: Annotated[
        str,
        Limits(max_length=128, pattern=r"^([A-Za-z0-9_-][A-Za-z0-9._-]*)?$(?!\n)"),
        Key(
            Table.WHAT,
            takes='a name of letters, digits, ".", "_" and "-" that does not begin with "."',
        ),
    ] = ""
    """Name of the margin. Empty: the catalog's name and the threshold, as `gaia_10arcs` or
    `gaia_0.5arcs`."""

    margin_threshold: Annotated[float, Limits(ge=0.001, le=36000), Key(Table.WHAT)] = 5.0
    """Rows within this many arcsec of a pixel are in its margin. It may be larger than the
    partitions. A coarse margin with `margin_order` given has the threshold of that order."""

    margin_order: Annotated[int, Limits(ge=-1, le=MAX_ORDER), Key(Table.WHAT)] = -1
    """Order of the cells by which candidates are found. `-1`: the finest that the threshold allows.
    With exact filtering it makes no difference to the result. With `fine_filtering: false` it must
    be above the highest order of the catalog's partitions, and one that is given says which
    threshold the margin has: 8245.17 arcsec for order 4, half as much for each further one."""

    fine_filtering: Annotated[bool, Key(Table.WHAT)] = True
    """`true`: rows within the threshold, no others. `false`: all rows in cells of `margin_order`
    that touch the pixel, as hats-import writes."""

    debug_filter_pixel_list: Annotated[
        tuple[tuple[Annotated[int, Limits(ge=0, le=MAX_ORDER)], Annotated[int, Limits(ge=0)]], ...],
        Key(Table.WHAT, takes="an array of [order, pixel] pairs of whole numbers"),
    ] = ()
    """Only the partitions that overlap one of these pixels: that are it, lie in it, or hold it. The
    catalog is restricted to them first, so that the rest of the sky counts as empty."""

    create_metadata: Annotated[bool, Key(Table.WHAT)] = True
    """Whether the margin gets a `_metadata` file, which holds the footers of all its files and can
    be large. One of more than 2 GB, which nothing could read, is not written."""

    write_table_kwargs: Annotated[
        dict[str, Any], Key(Table.WHAT, takes="a mapping of options of PyArrow's Parquet writer")
    ] = field(default_factory=dict)
    """Options of PyArrow's Parquet writer that take the place of those that the primary's files are
    written with, as `{compression: gzip, row_group_size: 10000}`. A `compression` alone has its
    default level."""

    overwrite: Annotated[bool, Key(Table.WHAT)] = False
    """Whether to replace a margin of the same name that was made with other parameters or by
    another tool. The old one stays until the new one is whole. Nothing but a margin is replaced."""

    npix_suffix: Annotated[
        str,
        Limits(max_length=64, pattern=r"^(/|\.[A-Za-z0-9][A-Za-z0-9._-]*)$(?!\n)"),
        Key(Table.HATS, takes='"/", or "." and letters, digits, ".", "_" and "-" after it'),
    ] = ".parquet"
    """What the names of the margin's files end with. `/`: each pixel has a directory, with one
    file."""

    npix_parquet_name: Annotated[
        str,
        Limits(max_length=128, pattern=r"^([A-Za-z0-9][A-Za-z0-9._=-]*)?$(?!\n)"),
        Key(
            Table.HATS,
            takes='a name of letters, digits, ".", "_", "=" and "-" that begins with one of the '
            "first two",
        ),
    ] = ""
    """Name of the file in each directory, if `npix_suffix` is `/`. Empty: the pixel's, as
    `Npix=10.parquet`."""

    addl_hats_properties: Annotated[
        dict[str, Any], Key(Table.HATS, takes="a mapping of names to values")
    ] = field(default_factory=dict)
    """Further lines of the margin's properties, as `{obs_copyright: CDS}`. What the workflow itself
    says of the margin stays: lines that would contradict it are refused; but `hats_builder`,
    `hats_creation_date`, `hats_estsize`, `hats_release_date` and `hats_version` are left out."""

    create_thumbnail: Annotated[bool, Key(Table.HATS)] = False
    """Whether the margin gets a `data_thumbnail.parquet`, with one row of each of its files."""

    create_per_partition_stats: Annotated[bool, Key(Table.HATS)] = False
    """Whether it gets a `per_partition_statistics.parquet`, with the statistics of each row
    group."""

    create_partition_info_png: Annotated[bool, Key(Table.HATS)] = False
    """Whether it gets a `partition_info.png`, a map of its pixels on the sky."""

    create_summary_html: Annotated[bool, Key(Table.HATS)] = False
    """Whether it gets an `index.html`, which describes it and its columns."""

    create_summary_md: Annotated[bool, Key(Table.HATS)] = False
    """Whether it gets a `README.md`, with the same."""

    tmp_dir: Annotated[str, Key(Table.HOW)] = ""
    """Directory of the intermediate files, which lie in `tmp_dir/NAME`. Empty: `intermediate` in
    the working directory. On a cluster it must be one that all nodes see."""

    delete_intermediate_parquet_files: Annotated[bool, Key(Table.HOW)] = True
    """Whether to delete the shards once the margin is finished. Receipts and logs, which are small,
    stay: with them, a later change of one partition costs only the reduce jobs around it, and the
    map jobs that these read."""

    resume: Annotated[bool, Key(Table.HOW)] = True
    """Whether a run goes on from the intermediate files that are there, and leaves a margin that is
    complete. `false`: each run makes the margin from the beginning, as `--forceall` does; the old
    one stays until the new one is whole."""

    partitions_per_job: Annotated[
        Annotated[int, Limits(ge=1)] | Literal["auto"],
        Key(Table.HOW, takes="auto or a whole number of 1 or more"),
    ] = "auto"
    """How many partitions a map job and how many pixels a reduce job covers. `auto`: as many as
    their sizes suggest."""

    job_size_mb: Annotated[float, Limits(ge=0.001), Key(Table.HOW)] = 1000.0
    """The Parquet, in MB, that an auto map job covers, about."""

    audit_catalog_path: Annotated[str, Key(Table.AUDIT)] = ""
    """Directory of the margin that `snakemake audit` checks against `input_catalog_path`, whoever
    made it. Empty: the one that this configuration makes. What it finds is written into
    `output_path/NAME_audit`."""

    audit_threshold: Annotated[float, Limits(ge=0, le=36000), Key(Table.AUDIT)] = 0.0
    """Arcsec within which the margin has to have all rows. 0: what its own metadata say."""

    audit_fraction: Annotated[float, Limits(ge=1e-6, le=1), Key(Table.AUDIT)] = 1.0
    """How many of the pixels are looked at, by chance: 1 for all. Of a sample without faults, the
    audit says how many pixels may have some nevertheless."""

    audit_seed: Annotated[int, Limits(ge=0), Key(Table.AUDIT)] = 0
    """Number that determines which pixels are in the sample."""


@dataclass(frozen=True)
class SmtpSettings:
    """The keys of `smtp`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FOR_PYDANTIC

    host: Annotated[
        str,
        Limits(min_length=1, pattern=r"^[A-Za-z0-9._:%-]+$(?!\n)"),
        Key(Table.SMTP, takes="a name of a host or an IP address"),
    ] = "localhost"
    """The mail server."""

    port: Annotated[
        Annotated[int, Limits(ge=1, le=65535)] | None,
        Key(Table.SMTP, default=", ".join(f"{port} ({name})" for name, port in PORTS.items())),
    ] = None
    """Its port. The default goes by `security`."""

    security: Annotated[Literal["none", "starttls", "ssl"], Key(Table.SMTP)] = "none"
    """Whether the connection is encrypted, and how. With `starttls` or `ssl` no mail is sent unless
    the server's certificate is valid; `SSL_CERT_FILE` in the environment names further
    authorities."""

    sender: Annotated[str, Key(Table.SMTP)] = ""
    """Address of the sender. Empty: `margin-cache@` and the machine's full name."""


@dataclass(frozen=True)
class RunSettings:
    """The keys of a whole run, which stand beside those of a margin."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FOR_PYDANTIC

    completion_email_address: Annotated[
        str | tuple[str, ...], Key(Table.MAIL, takes="text or an array of texts")
    ] = ""
    """Address that gets one mail when a run is done or has failed; several are separated by
    commas, or stand in a list. Empty: no mail."""

    smtp: Annotated[SmtpSettings, Key(Table.MAIL)] = SmtpSettings()
    """The mail server, by its own keys."""

    progress_bar: Annotated[bool, Key(Table.HOW)] = True
    """Whether bars show how much of the partitions and pixels is done, in the place of what
    Snakemake says of each job; a line a minute at most, where there is no terminal. Warnings and
    errors are seen either way, and the rest stands in Snakemake's log."""

    margins: Annotated[tuple[MarginSettings, ...], Key(Table.WHAT)] = ()
    """Several margins in one run: each mapping overrides the keys of a margin for one of them."""


@dataclass(frozen=True)
class MailSettings:
    """Whom a mail goes to when a run ends, and how.

    Attributes:
        recipients: their addresses.
        host: the mail server.
        port: its port.
        security: none, starttls or ssl.
        sender: address of the sender; empty for one that names the machine.
    """

    recipients: tuple[str, ...]
    host: str
    port: int
    security: str
    sender: str


def given_keys(settings: MarginSettings, table: Table) -> list[str]:
    """Return those keys of a table that are not as by default."""
    defaults = MarginSettings()
    return [
        key.name
        for key in fields(settings)
        if key_of(key.type).table == table
        and getattr(settings, key.name) != getattr(defaults, key.name)
    ]


def guaranteed_threshold(settings: MarginSettings) -> float:
    """Return the threshold in arcsec within which a margin has all rows.

    That of a coarse margin whose order is given goes by the order, as hats-import computes it.
    """
    if settings.fine_filtering or settings.margin_order < 0:
        return settings.margin_threshold
    return resolution(settings.margin_order) / COARSE_FACTOR


def choose_margin_order(margin_order: int, threshold: float, index_order: int = MAX_ORDER) -> int:
    """Return the order of the coarse filter's cells.

    Args:
        margin_order: the order asked for; -1 for the finest.
        threshold: margin threshold in arcsec.
        index_order: order of the catalog's spatial index, the finest that cells can have.

    Raises:
        MarginCacheError: the order asked for is too fine.
    """
    by_threshold = finest_margin_order(threshold)
    finest = min(by_threshold, index_order)
    if margin_order > finest:
        place = " in this catalog" if finest < by_threshold else ""
        raise MarginCacheError(
            f"margin_order: {margin_order} is too fine for a margin_threshold of "
            f"{threshold:g} arcsec{place}; use an order from 0 to {finest}, or -1 to have it chosen"
        )
    return finest if margin_order < 0 else margin_order
