# Reports of finished margins: `snakemake report` draws them, and Snakemake's own report shows them.
if not IS_MODULE:

    report: "../report/margins.rst"


rule report:
    input:
        pages=reports.pages,


rule draw_report:
    input:
        sources=reports.sources,
    output:
        **reports.files(report),
    log:
        paths.REPORT_LOG,
    # A job on a cluster finds older plans of the same settings too, which have the same report.
    localrule: True
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=2000,
    params:
        name=reports.margin_name,
        margin=reports.margin_file,
        drawn_at=reports.drawn_at,
        script=session.script("draw_report.py"),
    message:
        "Drawing the report of {params.name}"
    shell:
        "{params.script} --margin={params.margin:q} 2> {log:q}"
