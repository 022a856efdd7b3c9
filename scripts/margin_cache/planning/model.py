"""The plan of a margin: which jobs there are, what each covers, and which needs which.

The files of a plan lie in a directory whose name is a digest of all that shapes the result, and
the name of each file has a digest of the state of the partitions that it was made from. So a file
that exists is one that is still right, whatever was changed in the meantime.
"""

import hashlib
import io
import json
import zlib
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from lzma import LZMAError
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache.catalog.model import INDEX_TOLERANCE, CatalogInfo, Partitions
from margin_cache.catalog.partitions import partition_files
from margin_cache.catalog.spec import NPIX, PARQUET_SUFFIX, pixel_path
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import Ints, Pixel
from margin_cache.parquet.primary_options import PrimaryOptions, options_from_json
from margin_cache.planning.coverage import describe, job_label
from margin_cache.storage.files import atomic_path, with_file_name

_DAMAGES = (
    *(ValueError, TypeError, LookupError, EOFError, BadZipFile, zlib.error, LZMAError),
    RuntimeError,  # of a member that seems to be encrypted, or compressed in an unknown way
)
"""What is raised at archives of arrays that make no sense."""


@dataclass(frozen=True)
class MarginParameters:
    """What a margin is made of and how: all that shapes its rows and its jobs.

    Attributes:
        catalog: the primary catalog.
        threshold: margin threshold in arcsec.
        margin_order: order of the coarse filter's cells.
        fine_filtering: whether the exact filter follows the coarse one.
        primary_options: how the primary's files are written, as the margin's are too.
        partitions_per_job: "auto" or a number.
        job_size_mb: Parquet of an auto job, in MB, about.
        create_metadata: whether the margin gets a _metadata file.
        write_table_kwargs: options of the writer of its files that are not as the primary's.
        npix_suffix: what the names of its files end with; "/" if each lies in a directory.
        npix_parquet_name: name of the file in each such directory; empty for the pixel's.
        properties: further lines of its properties.
        optional_files: the keys that ask for further files.
        run_id: with ``resume: false``, an id of the run, which so finds nothing of earlier ones.
    """

    catalog: CatalogInfo
    threshold: float
    margin_order: int
    fine_filtering: bool
    primary_options: PrimaryOptions
    partitions_per_job: int | str
    job_size_mb: float
    create_metadata: bool
    write_table_kwargs: dict[str, Any]
    npix_suffix: str
    npix_parquet_name: str
    properties: dict[str, str]
    optional_files: list[str]
    run_id: str = ""

    @property
    def search_radius(self) -> float:
        """Most arcsec from a pixel to where the index of a row in its exact margin says it is."""
        return self.threshold + INDEX_TOLERANCE

    @property
    def index_shift(self) -> int:
        """Number of bits to the right of the bits of ``margin_order`` in the spatial index."""
        return self.catalog.index_shift + 2 * (self.catalog.index_order - self.margin_order)


def content_id(parameters: MarginParameters, schema: pa.Schema, partitions: Partitions) -> str:
    """Return the digest of all that shapes a margin's rows and files but the partitions' state.

    Args:
        parameters: what shapes the margin; how its jobs are cut makes no difference.
        schema: the Arrow schema of the primary, with its metadata.
        partitions: the partitions of the primary, in nested order.
    """
    shaping = asdict(replace(parameters, partitions_per_job="auto", job_size_mb=0))
    # What the margin holds does not depend on the run.
    del shaping["run_id"]
    # The digest of a margin must not change with the name of an attribute.
    shaping["further_files"] = shaping.pop("optional_files")
    return _digest(
        json.dumps(shaping, sort_keys=True).encode()
        + schema.serialize().to_pybytes()
        + partitions.orders.tobytes()
        + partitions.pixels.tobytes(),
        8,
    )


def plan_id(library: str, parameters: MarginParameters, content: str) -> str:
    """Return the digest of everything that a plan follows from but the partitions' state.

    Args:
        library: version of the library, as ``identity.library_version`` gives it.
        parameters: what shapes the margin and its jobs.
        content: the plan's ``content_id``.
    """
    return _digest(json.dumps([library, content, asdict(parameters)]).encode(), 8)


@dataclass(frozen=True)
class Plan:
    """Partitions, destinations and jobs of a margin.

    Attributes:
        library: version of the library that has made the plan.
        parameters: what shapes the margin.
        schema: the Arrow schema of the primary catalog, with its metadata.
        partitions: the n partitions of the primary catalog, in nested order.
        destination_orders, destination_pixels: the pixels that can have margin rows: the
            partitions and the negative pixels, which together tile the sky; nested order, shape
            (d,).
        destination_partitions: index of the partition that a destination is, or -1, shape (d,).
        map_bounds: map job j covers partitions ``map_bounds[j]:map_bounds[j + 1]``.
        reduce_bounds: the same for reduce jobs and destinations.
        need_bounds, needs: reduce job j reads the shards of the map jobs
            ``needs[need_bounds[j]:need_bounds[j + 1]]``.
    """

    library: str
    parameters: MarginParameters
    schema: pa.Schema
    partitions: Partitions
    destination_orders: Ints
    destination_pixels: Ints
    destination_partitions: Ints
    map_bounds: Ints
    reduce_bounds: Ints
    need_bounds: Ints
    needs: Ints

    @cached_property
    def content_id(self) -> str:
        """Digest of all that shapes the margin's rows and files but the partitions' state."""
        return content_id(self.parameters, self.schema, self.partitions)

    @cached_property
    def plan_id(self) -> str:
        """Digest of everything that the plan follows from but the partitions' state."""
        return plan_id(self.library, self.parameters, self.content_id)

    @cached_property
    def input_fingerprint(self) -> str:
        """Digest of the state of all partition files."""
        return _digest(self.partitions.state_bytes(0, len(self.partitions)))

    @cached_property
    def map_names(self) -> list[str]:
        """Names of the map jobs: number, ends and state of the partitions covered."""
        orders, pixels = self.partitions.orders, self.partitions.pixels
        return [
            f"{job:05d}-{job_label(orders[start:stop], pixels[start:stop])}-"
            + _digest(self.partitions.state_bytes(start, stop))
            for job, (start, stop) in enumerate(
                zip(self.map_bounds[:-1], self.map_bounds[1:], strict=True)
            )
        ]

    @cached_property
    def reduce_names(self) -> list[str]:
        """Names of the reduce jobs: number, ends, destinations, and state of what they read.

        A partition of another size can move the bounds of jobs that do not read it.
        """
        orders, pixels = self.destination_orders, self.destination_pixels
        return [
            f"{job:05d}-{job_label(orders[start:stop], pixels[start:stop])}-"
            + _digest(
                self.destination_orders[start:stop].tobytes()
                + self.destination_pixels[start:stop].tobytes()
                + "".join(self.map_names[need] for need in self.needs_of(job)).encode()
            )
            for job, (start, stop) in enumerate(
                zip(self.reduce_bounds[:-1], self.reduce_bounds[1:], strict=True)
            )
        ]

    def destination(self, index: int) -> Pixel:
        """Return the pixel of a destination."""
        return Pixel(int(self.destination_orders[index]), int(self.destination_pixels[index]))

    def margin_path(self, destination: int) -> str:
        """Return the path of a destination's file in the margin."""
        parameters, pixel = self.parameters, self.destination(destination)
        name = pixel_path(pixel, parameters.npix_suffix)
        if parameters.npix_suffix == "/":
            name += parameters.npix_parquet_name or f"{NPIX}={pixel.number}{PARQUET_SUFFIX}"
        dataset = parameters.catalog.dataset
        return f"{dataset}/{name}" if dataset else name

    def map_job_of(self, name: str) -> int:
        """Return the number of the map job with a name."""
        return _job_of(name, self.map_names)

    def reduce_job_of(self, name: str) -> int:
        """Return the number of the reduce job with a name."""
        return _job_of(name, self.reduce_names)

    def covered_by_map_job(self, name: str) -> str:
        """Return in words what the map job with a name covers."""
        job = self.map_job_of(name)
        part = slice(self.map_bounds[job], self.map_bounds[job + 1])
        return describe(self.partitions.orders[part], self.partitions.pixels[part], "partition")

    def covered_by_reduce_job(self, name: str) -> str:
        """Return in words what the reduce job with a name covers."""
        job = self.reduce_job_of(name)
        part = slice(self.reduce_bounds[job], self.reduce_bounds[job + 1])
        return describe(self.destination_orders[part], self.destination_pixels[part], "pixel")

    def files_of(self, job: int) -> list[str]:
        """Return the paths of the partition files that a map job reads."""
        part = slice(self.map_bounds[job], self.map_bounds[job + 1])
        return [
            str(file)
            for pixel, _ in self.partitions.take(part)
            for file in partition_files(self.parameters.catalog, pixel)
        ]

    def newest_of(self, job: int) -> int:
        """Return the time of the last change of any partition that a map job reads, in ns."""
        return int(self.partitions.times[self.map_bounds[job] : self.map_bounds[job + 1]].max())

    def needs_of(self, job: int) -> Ints:
        """Return the numbers of the map jobs whose shards a reduce job reads, ascending."""
        return self.needs[self.need_bounds[job] : self.need_bounds[job + 1]]


def _digest(data: bytes, size: int = 5) -> str:
    return hashlib.blake2b(data, digest_size=size).hexdigest()


def _job_of(name: str, names: list[str]) -> int:
    job = int(name.partition("-")[0])
    if names[job] != name:
        raise ValueError(f"{name} is not a job of this plan")
    return job


def save_plan(plan: Plan, path: Path) -> None:
    """Write a plan to a file, atomically."""
    arrays = {
        name: value for name, value in vars(plan).items() if isinstance(value, np.ndarray)
    } | vars(plan.partitions)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            library=np.array(plan.library),
            parameters=np.array(json.dumps(asdict(plan.parameters))),
            schema=np.frombuffer(_as_parquet(plan.schema), dtype=np.uint8),
            **arrays,
        )


def _as_parquet(schema: pa.Schema) -> bytes:
    """Return a schema as Parquet has it: Arrow's own format loses names inside maps."""
    file = io.BytesIO()
    pq.write_metadata(schema, file)
    return file.getvalue()


def load_plan(path: Path) -> Plan:
    """Read a plan that ``save_plan`` wrote, into a directory that has the plan's id for a name.

    Raises:
        FileNotFoundError: there is none.
        MarginCacheError: it is damaged, or another plan.
    """
    try:
        plan = _load_plan(path)
        if plan.plan_id != path.parent.name:
            raise ValueError("another plan")
        return plan
    except (*_DAMAGES, pa.ArrowException):
        raise MarginCacheError(
            f"{path}: is damaged, or another plan; start the run again, which makes it again"
        ) from None


def _load_plan(path: Path) -> Plan:
    with with_file_name(path), path.open("rb") as opened, np.load(opened) as file:
        values = dict(file)
    parameters = json.loads(str(values.pop("parameters")))
    parameters["catalog"] = CatalogInfo(**parameters["catalog"])
    parameters["catalog"].name_by_url()
    parameters["primary_options"] = options_from_json(parameters["primary_options"])
    return Plan(
        library=str(values.pop("library")),
        parameters=MarginParameters(**parameters),
        schema=pq.read_schema(pa.BufferReader(values.pop("schema"))),
        partitions=Partitions(**{name: values.pop(name) for name in Partitions.__annotations__}),
        **values,
    )
