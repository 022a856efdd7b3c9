# What the rules share: the margins of this run, its audits and its reports.
sys.path.insert(0, str(BASE / "scripts"))

try:
    from margin_cache.margin import paths
    from margin_cache.run import on_error, on_start, on_success
    from margin_cache.run.audits import Audits
    from margin_cache.run.reports import Reports
    from margin_cache.run.session import open_session

    session = open_session(workflow, config, BASE, IS_MODULE)
except ModuleNotFoundError as error:
    sys.exit(
        f"error: the Python package {error.name} is not installed beside Snakemake; install the "
        f"packages of {BASE / 'environment.yml'}"
    )

audits = Audits(session)
reports = Reports(session)


wildcard_constraints:
    **session.constraints,
