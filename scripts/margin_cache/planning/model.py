"""The plan of a margin: which jobs there are, what each covers, and which needs which.

The files of a plan lie in a directory named by a digest of everything that determines the result,
and the name of each file has a digest of the state of the partitions behind it. So a file that
exists is valid, whatever has changed since.
"""

import hashlib
import io
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from margin_cache import __version__
from margin_cache.catalog.model import CatalogInfo, Partitions
from margin_cache.catalog.partitions import partition_files
from margin_cache.catalog.spec import NPIX, PARQUET_SUFFIX, pixel_path
from margin_cache.errors import DamagedFileError
from margin_cache.healpix.nested import Ints, Pixel
from margin_cache.parquet.primary_options import PrimaryOptions, options_from_json
from margin_cache.storage.files import atomic_path, with_file_name

_LIBRARY = Path(__file__).resolve().parent.parent

_DIGEST_BYTES = 16  # at the start of a plan's file


@dataclass(frozen=True)
class MarginParameters:
    """Everything that determines the rows, the files and the jobs of a margin.

    Attributes:
        margin_order: order of the cells of the coarse filter.
        npix_suffix: end of the names of partitions; "/" if each is a directory.
        npix_parquet_name: name of the file in each such directory; empty for the pixel's.
        optional_files: keys of the configuration that ask for optional files.
        run_id: unique id of a run with ``resume: false``, which keeps it from files of other runs.
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
    def cell_shift(self) -> int:
        """Number of bits to the right of those of ``margin_order`` in the spatial index."""
        info = self.catalog
        return info.index_shift + 2 * (info.index_order - self.margin_order)


def content_id(parameters: MarginParameters, schema: pa.Schema, partitions: Partitions) -> str:
    """Return the digest of what determines rows and files, without the partitions' state.

    Margins have it in their provenance. The location of the catalog is no part of it.
    """
    shaping = asdict(replace(parameters, partitions_per_job="auto", job_size_mb=0, run_id=""))
    del shaping["catalog"]["path"]
    return _digest(
        json.dumps(shaping, sort_keys=True).encode()
        + schema.serialize().to_pybytes()
        + partitions.orders.tobytes()
        + partitions.pixels.tobytes(),
        8,
    )


def plan_id(library: str, parameters: MarginParameters, content: str) -> str:
    """Return the digest of what determines a plan, without the partitions' state."""
    return _digest(json.dumps([library, content, asdict(parameters)]).encode(), 8)


def library_version(version: str = __version__, library: Path = _LIBRARY) -> str:
    """Return the version of the library; of a development version, with a digest of its code.

    After a change of the code, margins and intermediate files are made again; after an update from
    one release to another, they are not.
    """
    if ".dev" not in version:  # PEP 440
        return version
    digest = hashlib.blake2b(digest_size=5)
    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library)
        if name.parts[0] != "audit":  # which has no influence on margins
            digest.update(name.as_posix().encode() + b"\0" + path.read_bytes())
    return f"{version}+{digest.hexdigest()}"


def is_current(made: str, library: str) -> bool:
    """Return whether a margin that version ``made`` of the library has made is still valid."""
    return made == library or ".dev" not in made + library


@dataclass(frozen=True)
class Plan:
    """Partitions, destinations and jobs of a margin.

    Attributes:
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
        return content_id(self.parameters, self.schema, self.partitions)

    @cached_property
    def plan_id(self) -> str:
        return plan_id(self.library, self.parameters, self.content_id)

    @cached_property
    def input_fingerprint(self) -> str:
        """Digest of the state of all partition files."""
        return _digest(self.partitions.state_bytes(0, len(self.partitions)))

    @cached_property
    def map_names(self) -> list[str]:
        """Names of the map jobs: number, first and last partition, and state of the partitions."""
        orders, pixels = self.partitions.orders, self.partitions.pixels
        return [
            f"{job:05d}-{job_label(orders[start:stop], pixels[start:stop])}-"
            + _digest(self.partitions.state_bytes(start, stop))
            for job, (start, stop) in enumerate(pairwise(self.map_bounds))
        ]

    @cached_property
    def reduce_names(self) -> list[str]:
        """Names of the reduce jobs: number, first and last destination, and digest.

        The digest covers the job's destinations and the names of the map jobs that it reads. The
        destinations count too, because a partition of another size can move the bounds of jobs that
        do not read it.
        """
        orders, pixels = self.destination_orders, self.destination_pixels
        return [
            f"{job:05d}-{job_label(orders[start:stop], pixels[start:stop])}-"
            + _digest(
                orders[start:stop].tobytes()
                + pixels[start:stop].tobytes()
                + "".join(self.map_names[need] for need in self.needs_of(job)).encode()
            )
            for job, (start, stop) in enumerate(pairwise(self.reduce_bounds))
        ]

    def has_rows_of(self, other: "Plan") -> bool:
        """Return whether the shards of this plan have all rows that those of another one have.

        Its jobs must read the same partitions. An exact margin has all rows within a smaller
        threshold; a coarse one all candidates of a finer margin order, as an exact one's are too.
        """
        mine, others = self.parameters, other.parameters
        if mine.fine_filtering:
            is_wider = others.fine_filtering and others.threshold <= mine.threshold
        else:
            is_wider = others.margin_order >= mine.margin_order
        return (
            is_wider
            and mine.catalog == others.catalog
            and self.map_names == other.map_names
            and self.schema.equals(other.schema, check_metadata=True)
            and np.array_equal(self.destination_orders, other.destination_orders)
            and np.array_equal(self.destination_pixels, other.destination_pixels)
            and np.array_equal(self.destination_partitions, other.destination_partitions)
        )

    def destination(self, index: int) -> Pixel:
        return Pixel(int(self.destination_orders[index]), int(self.destination_pixels[index]))

    def margin_path(self, destination: int) -> str:
        """Return the path of a destination's file in the margin."""
        parameters, pixel = self.parameters, self.destination(destination)
        name = pixel_path(pixel, parameters.npix_suffix)
        if parameters.npix_suffix == "/":
            name += parameters.npix_parquet_name or f"{NPIX}={pixel.number}{PARQUET_SUFFIX}"
        return parameters.catalog.parquet_path(name)

    def map_job_of(self, name: str) -> int:
        """Return the number of a map job; an error if it reads partitions in another state."""
        return _job_of(name, self.map_names)

    def reduce_job_of(self, name: str) -> int:
        return _job_of(name, self.reduce_names)

    def map_slice(self, job: int) -> slice:
        return slice(self.map_bounds[job], self.map_bounds[job + 1])

    def reduce_slice(self, job: int) -> slice:
        return slice(self.reduce_bounds[job], self.reduce_bounds[job + 1])

    def files_of(self, job: int) -> list[str]:
        """Return the paths, in the catalog, of the partition files that a map job reads."""
        return [
            file
            for pixel, _ in self.partitions.take(self.map_slice(job))
            for file in partition_files(self.parameters.catalog, pixel)
        ]

    def needs_of(self, job: int) -> Ints:
        """Return the numbers of the map jobs whose shards a reduce job reads, ascending."""
        return self.needs[self.need_bounds[job] : self.need_bounds[job + 1]]


def job_label(orders: Ints, pixels: Ints) -> str:
    """Return `o4p254-o1p21` for pixels in nested order, as a part of the name of a job.

    SLURM shows nothing else of what a job covers.
    """
    ends = sorted({0, len(orders) - 1})
    return "-".join(f"o{orders[end]}p{pixels[end]}" for end in ends)


def describe_job(name: str) -> str:
    """Return `4/254 to 1/21` for the name of a job."""
    _, *ends, _ = name.split("-")
    return " to ".join(end.removeprefix("o").replace("p", "/") for end in ends)


def _digest(data: bytes, size: int = 5) -> str:
    return hashlib.blake2b(data, digest_size=size).hexdigest()


def _job_of(name: str, names: list[str]) -> int:
    job = int(name.partition("-")[0])
    if names[job] != name:
        raise ValueError(f"{name} is not a job of this plan")
    return job


def save_plan(plan: Plan, path: Path) -> None:
    """Write a plan unless it is on disk already."""
    arrays = {
        name: value for name, value in vars(plan).items() if isinstance(value, np.ndarray)
    } | vars(plan.partitions)
    # In Parquet's format, because Arrow's own loses names inside maps.
    schema, content = io.BytesIO(), io.BytesIO()
    pq.write_metadata(plan.schema, schema)
    np.savez(
        content,
        parameters=np.array(json.dumps([plan.library, asdict(plan.parameters)])),
        schema=np.frombuffer(schema.getbuffer(), dtype=np.uint8),
        **arrays,
    )
    data = hashlib.blake2b(content.getbuffer(), digest_size=_DIGEST_BYTES).digest()
    data += content.getvalue()
    if not path.exists() or path.read_bytes() != data:
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)


def load_plan(path: Path) -> Plan:
    """Read a plan from a file in a directory that is named by the plan's id."""
    with with_file_name(path):
        content = path.read_bytes()
    digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if digest == hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest():
        values = dict(np.load(io.BytesIO(content)))
        library, parameters = json.loads(str(values.pop("parameters")))
        parameters["catalog"] = CatalogInfo(**parameters["catalog"])
        parameters["primary_options"] = options_from_json(parameters["primary_options"])
        partitions = {name: values.pop(name) for name in Partitions.__annotations__}
        plan = Plan(
            library=library,
            parameters=MarginParameters(**parameters),
            schema=pq.read_schema(pa.BufferReader(values.pop("schema"))),
            partitions=Partitions(**partitions),
            **values,
        )
        if plan.plan_id == path.parent.name:
            return plan
    raise DamagedFileError(path, "is damaged, or belongs to another plan")
