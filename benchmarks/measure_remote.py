"""How long catalogs behind URLs take: states of many objects, and a server that answers late.

Needs nginx. The servers are on this machine; what a network adds is a pause before each answer.

    python benchmarks/measure_remote.py
    python benchmarks/measure_remote.py --only runs --skies dense large
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import psutil
import pyarrow as pa
from compare import MAKE_SKY, Case, sky_called
from library import ROOT, provenance
from margin_cache.catalog.remote import connect_catalog
from margin_cache.config.validation import settings_of_margins
from margin_cache.margin.map import map_partitions
from margin_cache.margin.model import save_margin
from margin_cache.margin.prepare import prepare_margins
from margin_cache.storage.object_store import connect
from support import skies
from support.faulty_server import faulty_server
from support.measuring import measure
from support.object_servers import Nginx, nginx
from support.workflow_runs import without_snakemake
from support.write_hats import write_hats
from workflow_jobs import apart, jobs_of, run_job

_CONNECTIONS = 16
"""As many as a map job uses."""


def measure_states(directory: Path, partitions: int) -> None:
    """Time the listing of a catalog of many partitions: the first one, and one without changes."""
    table = directory / "sky/many"
    listed = [(6, pixel) for pixel in range(partitions)]
    for order, pixel in listed:
        path = table / f"dataset/Norder={order}/Dir={pixel // 10000 * 10000}/Npix={pixel}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 100)
    lines = "".join(f"{order},{pixel}\n" for order, pixel in listed)
    (table / "partition_info.csv").write_text(f"Norder,Npix\n{lines}")
    (table / "properties").write_text(
        "obs_collection=many\ndataproduct_type=object\nhats_col_ra=ra\nhats_col_dec=dec\n"
    )
    with nginx(directory / "sky", directory / "nginx") as server:
        for which in ("first", "again"):
            start, worked = time.perf_counter(), time.process_time()
            connect_catalog(f"{server.url}/many", {})
            seconds, worked = time.perf_counter() - start, time.process_time() - worked
            print(f"{partitions} states, {which}: {seconds:.1f} s, of a processor {worked:.1f} s")


def write_even_sky(directory: Path, rows: int, order: int) -> None:
    """Write the catalog `sky`, of some rows of 22 columns and all pixels of an order."""
    rng = np.random.default_rng(order)
    ra, dec = skies.uniform_sky(rng, rows)
    columns = {f"c{number}": rng.normal(size=rows) for number in range(20)}
    partitions = np.array([[order, pixel] for pixel in range(12 * 4**order)])
    write_hats(directory, "sky", pa.table({"ra": ra, "dec": dec, **columns}), partitions)


def measure_latency(directory: Path, rows: int, latency: float) -> None:
    """Time a margin with and without a pause before each answer."""
    write_even_sky(directory / "skies", rows, 1)
    with faulty_server(directory / "skies") as server:
        for pause in (0.0, latency, 0.0, latency):
            server.latency, server.bytes_sent = pause, 0
            config = {
                "input_catalog_path": f"{server.url}/sky",
                "tmp_dir": str(directory / f"tmp{time.monotonic_ns()}"),
                "output_path": str(directory / f"out{time.monotonic_ns()}"),
            }
            start = time.perf_counter()
            for _ in without_snakemake(config):
                seconds = time.perf_counter() - start
            sent = server.bytes_sent / 1e6
            print(f"{pause * 1000:.0f} ms before each answer: {seconds:.1f} s, {sent:.0f} MB")


def measure_throughput(directory: Path, rows: int, kilobytes: int) -> None:
    """Time mapping, and plain downloads of the same files by as many connections, in turn.

    Without a limit, mapping is also compared with that of the catalog on disk.
    """
    write_even_sky(directory / "throughput", rows, 2)
    files = sorted((directory / "throughput").rglob("Npix=*"))
    total = sum(file.stat().st_size for file in files)
    print(
        "| limit | MB | share downloaded | plain download s | from disk s | from the URL s "
        "| download / URL | URL / disk |\n|---|---:|---:|---:|---:|---:|---:|---:|"
    )
    for limit in (kilobytes, 0):
        own = directory / f"nginx{limit}"
        with nginx(directory / "throughput", own, limit) as server:
            urls = [f"{server.url}/{file.relative_to(directory / 'throughput')}" for file in files]
            downloads, mappings, local = [], [], []
            for number in range(5):
                start = time.perf_counter()
                with ThreadPoolExecutor(_CONNECTIONS) as pool:
                    downloaded = sum(pool.map(_download, urls))
                downloads.append(time.perf_counter() - start)
                assert downloaded == total
                before = server.bytes_sent()
                mappings.append(_time_mapping(f"{server.url}/sky", directory / f"{limit}-{number}"))
                share = (server.bytes_sent() - before) / total
                path = str(directory / "throughput/sky")
                local.append(_time_mapping(path, directory / f"local{limit}-{number}"))
            plain, mapping, disk = map(statistics.median, (downloads, mappings, local))
            print(
                f"| {f'{limit * _CONNECTIONS / 1000:.0f} MB/s' if limit else 'none'} "
                f"| {total / 1e6:.0f} | {share:.2f} | {plain:.2f} | {disk:.2f} | {mapping:.2f} "
                f"| {plain / mapping:.2f} | {mapping / disk:.2f} |"
            )


def measure_runs(directory: Path, case: Case, repeat: int) -> None:
    """Time map jobs and whole runs, on disk and behind a URL without a limit, in turn.

    The least ratio is that of processors that are always busy with the work of the run on disk, a
    bare download of the files, and the server.
    """
    with nginx(case.hats.parent, directory / f"nginx-{case.name}") as server:
        locations = {"disk": str(case.hats), "url": f"{server.url}/{case.name}"}
        works = [("a bare download", 0, "url", lambda: _download_all(locations["url"], case.hats))]
        for cores in (1, 2):
            for place, location in locations.items():
                own = directory / f"{case.name}-{place}-{cores}"
                own.mkdir()
                jobs = partial(_map_jobs, own, location, case, cores)
                works.append(("map jobs", cores, place, jobs))
                run = partial(_whole_run, own, location, case, cores)
                works.append(("whole run", cores, place, run))
        found: dict[tuple[str, int, str], list[tuple[float, float, float]]] = {}
        for _ in range(repeat):
            for what, cores, place, work in works:
                before = _server_seconds(server)
                wall, cpu = work()
                served = _server_seconds(server) - before
                found.setdefault((what, cores, place), []).append((wall, cpu, served))
    medians = {
        key: [statistics.median(column) for column in zip(*rows, strict=True)]
        for key, rows in found.items()
    }
    wall, cpu, served = medians["a bare download", 0, "url"]
    print(f"| {case.name} | a bare download | | | | {wall:.2f} | {cpu:.2f} | {served:.2f} | | |")
    for what, cores, place in medians:
        if place == "url" and cores:
            disk, disk_cpu, _ = medians[what, cores, "disk"]
            url, url_cpu, server_cpu = medians[what, cores, "url"]
            least = max(1, (disk_cpu + cpu + served) / (os.cpu_count() or 1) / disk)
            print(
                f"| {case.name} | {what} | {cores} | {disk:.2f} | {disk_cpu:.2f} | {url:.2f} "
                f"| {url_cpu:.2f} | {server_cpu:.2f} | {url / disk:.2f} | {least:.2f} |"
            )


def _map_jobs(directory: Path, location: str, case: Case, cores: int) -> tuple[float, float]:
    """Run the map jobs; return their seconds, and those of CPU."""
    (directory / "jobs").mkdir(exist_ok=True)
    config = {
        "input_catalog_path": location,
        "margin_threshold": case.threshold,
        "output_artifact_name": "margin",
    }
    jobs = apart(jobs_of, directory / "jobs", config, "map_partitions")
    start = time.perf_counter()
    with ThreadPoolExecutor(cores) as pool:
        usages = list(pool.map(lambda job: run_job(job, directory / "jobs"), jobs))
    return time.perf_counter() - start, sum(usage.cpu for usage in usages)


def _whole_run(directory: Path, location: str, case: Case, cores: int) -> tuple[float, float]:
    """Make a margin with Snakemake; return the seconds, and those of CPU of all processes."""
    run = Path(tempfile.mkdtemp(dir=directory))
    command: list[str | Path] = [
        *(Path(sys.executable).with_name("snakemake"), "--snakefile", ROOT / "Snakefile"),
        *("--directory", run, "--cores", str(cores), "--config", f"input_catalog_path={location}"),
        f"margin_threshold={case.threshold:g}",
    ]
    usage = measure(command, run)
    return usage.wall, usage.cpu


def _download_all(url: str, directory: Path) -> tuple[float, float]:
    """Download all files in ranges, as a map job does, and drop them; return as `_map_jobs`."""
    store = connect(url, {})
    names = [file.relative_to(directory).as_posix() for file in directory.rglob("Npix=*")]
    states = store.states(names)
    start, worked = time.perf_counter(), time.process_time()
    for name, state in states.items():
        for first in range(0, state.size, 4 << 20):
            store.read_range(name, first, min(first + (4 << 20), state.size), state)
    return time.perf_counter() - start, time.process_time() - worked


def _server_seconds(server: Nginx) -> float:
    """Return the CPU seconds of nginx."""
    process = psutil.Process(int((server.log.parent / "nginx.pid").read_text()))
    times = [one.cpu_times() for one in (process, *process.children())]
    return sum(time.user + time.system for time in times)


def _time_mapping(location: str, tmp_dir: Path) -> float:
    """Return the seconds that the map jobs of a catalog take, in this process."""
    config = {
        "input_catalog_path": location,
        "tmp_dir": str(tmp_dir),
        "job_size_mb": 100_000,
        "partitions_per_job": 1000,
    }
    (margin,) = prepare_margins(settings_of_margins(config))
    save_margin(margin)
    start = time.perf_counter()
    for job, name in enumerate(margin.plan.map_names):
        map_partitions(margin.plan, job, margin.files.shard(name))
    return time.perf_counter() - start


def _download(url: str) -> int:
    with urlopen(url) as response:
        return len(response.read())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--partitions", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kilobytes", type=int, default=5_000, help="[1/s], of a connection")
    parser.add_argument("--only", choices=("states", "latency", "throughput", "runs"))
    parser.add_argument("--skies", nargs="*", default=(), help="of runs, by benchmark_skies.py")
    parser.add_argument("--directory", type=Path, default=ROOT / "benchmarks" / "skies")
    parser.add_argument("--repeat", type=int, default=3, help="of runs")
    parser.add_argument("--latency", type=float, default=0.05, help="[s]")
    arguments = parser.parse_args()
    skies_directory = arguments.directory.resolve()
    print(provenance())
    with tempfile.TemporaryDirectory(prefix="remote-") as name:
        directory = Path(name)
        os.chdir(directory)
        if arguments.only in (None, "states"):
            measure_states(directory, arguments.partitions)
        if arguments.only in (None, "latency"):
            measure_latency(directory, arguments.rows, arguments.latency)
        if arguments.only in (None, "throughput"):
            measure_throughput(directory, arguments.rows, arguments.kilobytes)
        if arguments.skies and arguments.only in (None, "runs"):
            print(
                "| sky | | cores | from disk s | CPU s | from the URL s | CPU s | CPU of nginx s "
                "| URL / disk | least |\n|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"
            )
        for sky in arguments.skies if arguments.only in (None, "runs") else ():
            subprocess.run(
                [sys.executable, MAKE_SKY, sky, skies_directory],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            measure_runs(directory, sky_called(sky, skies_directory, 1), arguments.repeat)


if __name__ == "__main__":
    main()
