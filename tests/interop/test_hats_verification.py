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

with tempfile.TemporaryDirectory() as output:
    arguments = VerificationArguments(
        input_catalog_path=sys.argv[1], output_path=output, verbose=False, check_metadata=True
    )
    results = run(arguments).results_df
print(json.dumps({"passed": results["passed"].astype(bool).tolist()}))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    peer_python("hats-import")  # or skip before anything is made
    return once(tmp_path_factory, "hats_verification", make_margins)


@pytest.mark.parametrize("name", OPTIONS)
def test_hats_import_verifies_a_margin_with_any_option(name: str, made: Path) -> None:
    said = run(peer_python("hats-import"), "-c", VERIFY, made / "results" / name)
    passed = json.loads(said.splitlines()[-1])["passed"]
    assert len(passed) > 5 and all(passed)
