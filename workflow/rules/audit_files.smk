# What an audit is asked to check.
import os
import shlex


def audit_command(wildcards, input):
    """Return the arguments of the audit, or end this process with a line if they do not fit."""
    margins = list(MARGINS.values())
    if AUDITED is None or len(margins) != 1:
        line = "audit_catalog_path: name the margin that is to be checked"
        if AUDITED is not None:
            line = "margins: an audit is of one margin; give its input_catalog_path instead"
        print(f"error: {line}", file=sys.stderr, flush=True)
        os._exit(1)
    settings, parameters = margins[0].settings, margins[0].plan.parameters
    if parameters.catalog.url:
        line = f"input_catalog_path: {parameters.catalog.url} is a URL, and an audit reads catalogs"
        print(f"error: {line} on disk; give the directory of a copy", file=sys.stderr, flush=True)
        os._exit(1)
    arguments = [f"--primary={parameters.catalog.path}", f"--margin={AUDITED}"]
    arguments.append(f"--output-dir={settings.output_path}")
    if not settings.fine_filtering:
        arguments.append(f"--cell-order={parameters.margin_order}")
    return shlex.join(arguments)
