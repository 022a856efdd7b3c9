"""What the benchmark says that a command takes is what it takes, with all that it starts."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import benchmark_skies, oracle, skies
from support.measuring import Usage, measure
from support.paths import ROOT


def measured(codes: list[str], directory: Path) -> list[Usage]:
    """Measure Python codes, from a process that is itself small, as the benchmark's is."""
    outer = (
        "import dataclasses, json, sys; from support.measuring import Path, measure\n"
        "for code in sys.argv[1:]:\n"
        "    usage = measure([sys.executable, '-c', code], Path.cwd())\n"
        "    print(json.dumps(dataclasses.asdict(usage)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", outer, *codes],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT / "tests")},
        check=True,
        stdout=subprocess.PIPE,
    )
    return [Usage(**json.loads(line)) for line in said.stdout.splitlines()]


def test_processes_that_a_command_starts_count(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(30_000_000))
    work = (
        "import time; data = open('data', 'rb').read(); more = b'x' * 250_000_000\n"
        "end = time.process_time() + 0.4\n"
        "while time.process_time() < end: sum(range(100_000))"
    )
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}], check=True)"
    # What the first takes does not count for the second.
    busy, idle = measured([code, "import time; time.sleep(0.5)"], tmp_path)
    assert idle.wall >= 0.5 and idle.cpu < busy.cpu
    assert idle.peak_mb < 200 and idle.read_mb < 20
    assert busy.wall >= 0.4 and busy.cpu >= 0.4
    assert 280 <= busy.peak_mb < 500
    assert 30 <= busy.read_mb < 60


def test_a_command_that_fails_ends_the_measurement_with_what_it_wrote(tmp_path: Path) -> None:
    code = "import os; raise SystemExit(f'no such {os.environ[\"WHAT\"]} in {os.getcwd()}')"
    with pytest.raises(SystemExit, match=re.escape(f"no such thing in {tmp_path.resolve()}")):
        measure([sys.executable, "-c", code], tmp_path, WHAT="thing")


def test_variables_that_slow_a_command_down_are_not_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"NUMBA_DISABLE_JIT", "PYTHONDONTWRITEBYTECODE"}
    code = f"import os, sys; sys.exit(bool({names} & set(os.environ)))"
    for name in names:
        monkeypatch.setenv(name, "1")
    measure([sys.executable, "-c", code], tmp_path)


def test_the_sky_of_many_partitions_has_2352_and_33_empty_pixels() -> None:
    table, partitions = benchmark_skies.many()
    assert len(partitions) == 2352
    assert len(oracle.negative_pixels(partitions)) == 33
    counts = skies.row_bounds(
        np.sort(skies.nested_pixels(table["ra"].to_numpy(), table["dec"].to_numpy())), partitions
    )
    assert (counts[1] > counts[0]).all()


def test_the_dense_sky_has_partitions_of_very_different_sizes() -> None:
    table, partitions = benchmark_skies.dense(40_000)
    pixels = skies.nested_pixels(table["ra"].to_numpy(), table["dec"].to_numpy())
    first, last = skies.row_bounds(np.sort(pixels), partitions)
    assert table.num_columns == 59 and 240 < len(partitions) < 280
    assert np.percentile(last - first, 25) < 40 and 500 < (last - first).max() <= 600


def test_margins_are_judged_by_the_rows_of_the_partitions(tmp_path: Path) -> None:
    sky = tmp_path / "sky"
    catalog = sky / "hats" / "sky"
    catalog.mkdir(parents=True)
    (catalog / "partition_info.csv").write_text("Norder,Npix\n2,7\n3,5\n")
    truth = [
        benchmark_skies.codes(np.array([[order, pixel]]), np.array(ids))
        for order, pixel, ids in ((2, 7, [1, 2, 3, 4]), (3, 5, [1, 9]), (3, 6, [2, 3]))
    ]
    np.savez(sky / "truth.npz", codes=np.sort(np.concatenate(truth)))
    # Two rows are missing, one is false, one there twice; and the empty sky is divided otherwise.
    for order, pixel, ids in ((2, 7, [1, 3, 4, 4, 8]), (3, 5, [9]), (4, 24, [2]), (4, 25, [3])):
        file = tmp_path / f"margin/Norder={order}/Dir=0/Npix={pixel}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"id": ids}), file)
    assert benchmark_skies.judge(sky, tmp_path / "margin") == (8, 2, 2)
