# Audits of margins on disk: `snakemake audit` checks those that `audit_catalog_path` names, or that
# this configuration makes. The last rule has no output: it says what is found whenever it is asked.
wildcard_constraints:
    audit_dir=r".*_audit/[0-9a-f]{16}",


rule audit_pixels:
    output:
        paths.AUDIT_PIECE,
    log:
        paths.AUDIT_LOG,
    benchmark:
        paths.AUDIT_BENCHMARK
    conda:
        "../envs/audit.yaml"
    threads: 1
    resources:
        mem_mb=asked("audit_pixels", "mem_mb", for_audit_pixels),
        disk_mb=asked("audit_pixels", "disk_mb", for_audit_pixels),
        runtime=asked("audit_pixels", "runtime", for_audit_pixels),
    params:
        name=lambda wildcards: Path(wildcards.audit_dir).parent.name.removesuffix("_audit"),
        request=lambda wildcards: str(paths.audit_request(wildcards.audit_dir)),
        covers=lambda wildcards, output: describe_job(wildcards.job),
        script=script("audit_pixels.py"),
    message:
        "Auditing {params.name}, job {wildcards.job:.5}: {params.covers}"
    shell:
        "{params.script} --request={params.request:q} --job {wildcards.job}"
        " --output={output:q} 2> {log:q}"


rule audit:
    input:
        lambda wildcards: audit_pieces(),
    log:
        paths.AUDITS_LOG.format(audits_dir=next(iter(MARGINS.values())).files.plan_dir),
    retries: 0
    # A job on a cluster finds older plans of the same settings too, whose audits would be others.
    localrule: True
    conda:
        "../envs/audit.yaml"
    threads: 1
    resources:
        mem_mb=asked("audit", "mem_mb", for_audit),
        disk_mb=asked("audit", "disk_mb", for_audit),
        runtime=asked("audit", "runtime", for_audit),
    params:
        requests=lambda wildcards, input: list(
            dict.fromkeys(str(Path(file).parents[1]) for file in input)
        ),
        script=script("finish_audits.py"),
    message:
        "Putting together what was found"
    shell:
        "{params.script} {params.requests:q} 2> {log:q}"
