"""hats-import's own verification finds margins right, with whichever of its options."""

import json
from pathlib import Path

import pytest
from support.once import once
from support.optioned_margins import OPTIONS, make_margins
from support.peers import peer_python, run

VERIFY = """
import json, sys, tempfile
from hats_import.verification.arguments import VerificationArguments
from hats_import.verification.run_verification import run

for margin in sys.argv[1:]:
    with tempfile.TemporaryDirectory() as output:
        arguments = VerificationArguments(
            input_catalog_path=margin, output_path=output, verbose=False, check_metadata=True
        )
        results = run(arguments).results_df
    print("\\n" + json.dumps({margin: results["passed"].astype(bool).tolist()}))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    peer_python("hats-import")  # or skip before anything is made
    return once(tmp_path_factory, "hats_options", make_margins)


def test_hats_import_verifies_a_margin_with_any_option(made: Path) -> None:
    margins = [str(made / "results" / name) for name in OPTIONS]
    said = run(peer_python("hats-import"), "-c", VERIFY, *margins)
    passed: dict[str, list[bool]] = {}
    for line in said.splitlines():
        if line.startswith('{"/'):
            passed |= json.loads(line)
    assert passed.keys() == set(margins)
    for name, results in passed.items():
        assert len(results) > 5 and all(results), name
