"""What a job covers: its first and its last pixel, in words and in the names of jobs."""

from margin_cache.healpix.nested import Ints


def describe(orders: Ints, pixels: Ints, word: str) -> str:
    """Return what a job covers, as `20 partitions, 4/254 to 1/21`: orders and pixels.

    Args:
        orders: orders of the pixels covered, in nested order, one at least.
        pixels: their numbers.
        word: for one of them.
    """
    names = _ends(orders, pixels, "{}/{}")
    return f"{len(orders)} {word}{'' if len(orders) == 1 else 's'}, {' to '.join(names)}"


def job_label(orders: Ints, pixels: Ints) -> str:
    """Return what a job covers, as `o4p254-o1p21`, for its name.

    SLURM shows nothing else of what the workflow knows of a job.
    """
    return "-".join(_ends(orders, pixels, "o{}p{}"))


def describe_job(job: str) -> str:
    """Return what a job covers, as `4/254 to 1/21`, by its name."""
    _, *ends, _ = job.split("-")
    return " to ".join(end.removeprefix("o").replace("p", "/") for end in ends)


def _ends(orders: Ints, pixels: Ints, pattern: str) -> list[str]:
    """Return the first and the last pixel, or the only one."""
    ends = sorted({0, len(orders) - 1})
    return [pattern.format(int(orders[end]), int(pixels[end])) for end in ends]
