"""The settings of a margin and of a mail, as the configuration gives them once it is checked."""

from dataclasses import dataclass

from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import MAX_ORDER, finest_margin_order


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


@dataclass(frozen=True)
class MarginSettings:
    """The settings of one margin: the keys of the configuration, checked."""

    input_catalog_path: str
    output_path: str
    output_artifact_name: str
    margin_threshold: float
    margin_order: int
    fine_filtering: bool
    debug_filter_pixel_list: tuple[tuple[int, int], ...]
    overwrite: bool
    tmp_dir: str
    delete_intermediate_parquet_files: bool
    partitions_per_job: int | str
    job_size_mb: float
    create_metadata: bool


def choose_margin_order(margin_order: int, threshold: float, index_order: int = MAX_ORDER) -> int:
    """Return the order of the coarse filter's cells.

    Args:
        margin_order: the order wanted, or -1 for the finest.
        threshold: margin threshold in arcsec.
        index_order: order of the catalog's spatial index, the finest that cells can have.

    Raises:
        MarginCacheError: the order is too fine.
    """
    finest = min(finest_margin_order(threshold), index_order)
    if margin_order > finest:
        raise MarginCacheError(
            f"margin_order: {margin_order} is too fine for a margin_threshold of {threshold:g} "
            f"arcsec; use an order from 0 to {finest}, or -1 to have it chosen"
        )
    return finest if margin_order < 0 else margin_order
