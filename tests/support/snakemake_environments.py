"""Environments with other versions of Snakemake, made when they are asked for."""

import fcntl
import re
import shutil
import subprocess
import sys
from pathlib import Path

from support.paths import ROOT

ENVIRONMENTS = ROOT / ".venvs"
NEWEST = "newest"
SNAKEMAKES: dict[str, tuple[str, ...]] = {
    "9.8": ("snakemake==9.8.0", "snakemake-interface-logger-plugins==1.2.4", "pulp==3.2.2"),
    "9.14": ("snakemake==9.14.0",),
    "9.20": ("snakemake==9.20.0",),
    NEWEST: (),
}
"""Pins that take the place of those in requirements.lock."""


def pins_of(version: str) -> tuple[list[str], list[str]]:
    """What is installed, and the pins that hold for it and for all that it needs.

    Args:
        version: a key of SNAKEMAKES, or another version of Snakemake, whose own requirements then
            choose its plugin interfaces.
    """
    locked = re.findall(r"^[\w.-]+==[^\s;]+", _read("requirements.lock"), re.MULTILINE)
    if version in SNAKEMAKES:
        replaced = SNAKEMAKES[version]
        names = tuple(pin.partition("==")[0] + "==" for pin in replaced)
        kept = [pin for pin in locked if not pin.startswith(names)]
    else:
        replaced = (f"snakemake=={version}",)
        kept = [pin for pin in locked if not pin.startswith("snakemake")]
    return _run_requirements(), sorted([*kept, *replaced])


def _run_requirements() -> list[str]:
    """What a local run needs: requirements.in without the SLURM plugin.

    And without hipscat, which only audits need, and which asks for another matplotlib.
    """
    names = re.findall(r"^[\w.-]+", _read("requirements.in"), re.MULTILINE)
    return [name for name in names if name not in ("snakemake-executor-plugin-slurm", "hipscat")]


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def snakemake_of(version: str) -> Path:
    """The program snakemake in the environment of a version, which is made if its pins changed."""
    names, pins = pins_of(version)
    wanted = "\n".join([sys.version, *names, *pins, ""])
    ENVIRONMENTS.mkdir(exist_ok=True)
    environment = ENVIRONMENTS / f"snakemake-{version}"
    made = environment / ".made-from.txt"
    with (ENVIRONMENTS / f"{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists() or made.read_text(encoding="utf-8") != wanted:
            shutil.rmtree(environment, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", environment], check=True)
            constraints = environment / "constraints.txt"
            constraints.write_text("\n".join(pins), encoding="utf-8")
            install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
            python = environment / "bin" / "python"
            subprocess.run([python, *install, "-c", constraints, *names], check=True)
            # Written last, so that an interrupted installation is made again.
            made.write_text(wanted, encoding="utf-8")
    return environment / "bin" / "snakemake"
