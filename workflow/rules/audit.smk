# The audit of a margin on disk: `snakemake audit` checks the one that `audit_catalog_path` names.
# Without output: it is made whenever it is asked for, and its files stay where it finds faults.
rule audit:
    log:
        str(next(iter(MARGINS.values())).files.plan_dir / "audit.log"),
    retries: 0
    conda:
        "../envs/audit.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        disk_mb=100,
        runtime=1440,
    params:
        arguments=audit_command,
        script=script("audit_margin.py"),
    message:
        "Auditing {params.arguments}"
    shell:
        "{params.script} {params.arguments} 2> {log:q}"
