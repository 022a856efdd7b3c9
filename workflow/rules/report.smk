# Reports of finished margins: `snakemake report` draws those that are missing or older than their
# margin, and Snakemake's own report shows what is drawn.
wildcard_constraints:
    report_dir="|".join(re.escape(str(margin.files.report_dir)) for margin in MARGINS.values()),


rule report:
    input:
        lambda wildcards: reports(),


rule draw_report:
    input:
        reported,
    output:
        paths.REPORT_PAGE,
        report(
            expand(paths.FIGURE, figure=paths.FIGURES, allow_missing=True),
            caption="../report/figure.rst",
            category="{report_dir}",
        ),
    log:
        paths.REPORT_LOG,
    # A job on a cluster finds older plans of the same settings too, which have the same report.
    localrule: True
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        disk_mb=100,
        runtime=60,
    params:
        name=lambda wildcards: margin_of_report(wildcards)[1].name,
        margin=lambda wildcards: str(margin_of_report(wildcards)[1].files.margin_file),
        script=script("draw_report.py"),
    message:
        "Drawing the report of {params.name}"
    shell:
        "{params.script} --margin={params.margin:q} 2> {log:q}"
