"""What holds for all tests."""

import os

import pytest

# Before NumPy is imported: workers are as many as cores, and their threads would wait for each
# other. Runs of the workflow do not get it from here, see support/workflow_runs.py.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# So that an assertion in there says what it compared.
pytest.register_assert_rewrite("support")
