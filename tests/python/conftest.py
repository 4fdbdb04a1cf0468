"""Random tests print their seed, the same for all unless SIGNSPLIT_TEST_SEED says otherwise."""

import os

import numpy as np
import pytest

SEED = int(os.environ.get("SIGNSPLIT_TEST_SEED", "20260321"), 0)


def pytest_report_header():
    return f"SIGNSPLIT_TEST_SEED={SEED}"


@pytest.fixture
def rng(request):
    """A generator of its own for every test, decided by the seed and the test's name."""
    return np.random.default_rng([SEED, *request.node.name.encode()])
