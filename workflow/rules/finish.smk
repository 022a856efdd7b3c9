rule finish_margin:
    input:
        missing_receipts_of,
    output:
        "{work}/finished-{state}.json",
    log:
        "{work}/logs/finish_margin/{state}.log",
    localrule: is_finished_locally()
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=asked("mem_mb", for_finish),
        disk_mb=asked("disk_mb", for_finish),
        runtime=asked("runtime", for_finish),
    params:
        name=name_of,
        note=lambda wildcards: str(MARGINS[wildcards.work].intermediate / "margin.json"),
        script=script("finish_margin.py"),
    message:
        "Finishing {params.name}"
    shell:
        "{params.script} --margin {params.note:q} 2> {log:q}"
