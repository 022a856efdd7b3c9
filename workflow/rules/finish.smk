def receipts_of(wildcards):
    margin = MARGINS[wildcards.work]
    return [str(margin.receipt(name)) for name in margin.plan.reduce_names]


rule finish_margin:
    input:
        receipts_of,
    output:
        "{work}/finished-{state}.json",
    log:
        "{work}/logs/finish_margin/{state}.log",
    threads: 1
    params:
        name=lambda wildcards: MARGINS[wildcards.work].name,
        note=lambda wildcards: str(MARGINS[wildcards.work].intermediate / "margin.json"),
    message:
        "Finishing {params.name}"
    shell:
        "{PYTHON} {SCRIPTS:q}/finish_margin.py --margin {params.note:q} 2> {log:q}"


def summary():
    """Say where each margin is and how large it is."""
    lines = []
    for margin in MARGINS.values():
        made = read_json(margin.finished) or {}
        if made:
            lines.append(
                f"{made['place']}: {made['rows']} rows in {made['files']} files, "
                f"within {margin.settings.margin_threshold:g} arcsec"
            )
    return "\n".join(lines)


def how_to_resume():
    """Say how to go on after a failure."""
    return (
        "The run did not finish. What is done is kept: correct what the messages above say, "
        "then give the same command again."
    )
