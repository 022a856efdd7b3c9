# Audits of margins on disk: `snakemake audit` checks those that `audit_catalog_path` names, or that
# this configuration makes.
rule audit_pixels:
    output:
        findings=paths.AUDIT_FINDINGS,
    log:
        paths.AUDIT_LOG,
    benchmark:
        paths.AUDIT_BENCHMARK
    conda:
        "../envs/audit.yaml"
    resources:
        **audits.resources("audit_pixels"),
    params:
        name=audits.margin_name,
        request=paths.AUDIT_REQUEST,
        covers=session.pixels_covered,
        script=session.script("audit_pixels.py"),
    message:
        "Auditing {params.name}, job {wildcards.job:.5}: {params.covers}"
    shell:
        "{params.script} --request={params.request:q} --job {wildcards.job}"
        " --output={output.findings:q} --failure-mark={log:q}.failed 2> {log:q}"


# Without output, so that it prints the verdicts whenever it is asked for.
rule audit:
    input:
        findings=audits.results,
    log:
        audits.log,
    retries: 0
    # A job on a cluster finds older plans of the same settings too, whose audits would be others.
    localrule: True
    conda:
        "../envs/audit.yaml"
    resources:
        **audits.resources("audit"),
    params:
        directories=audits.directories,
        options=audits.exit_options,
        script=session.script("finish_audits.py"),
    message:
        "Combining the findings"
    shell:
        "{params.script} {params.directories:q} {params.options} 2> {log:q}"
