"""What every test may use: the folder of real test data, or a skip that says why it is absent.

Nothing here or in a child process knows the stores and secrets of the person who runs the tests.
"""

import os
from collections import Counter
from pathlib import Path

import hypothesis
import pytest

from llm_engineering.settings import ENV_FILE, variables

OWN = variables()
for name in list(os.environ):
    if name.upper() in OWN or name.upper().startswith(("OPENAI_", "OTEL_", "ZENML_")):
        del os.environ[name]
os.environ[ENV_FILE] = ""  # children find no .env either
os.environ.setdefault("ZENML_ANALYTICS_OPT_IN", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# The same examples in every run of the pipeline that decides about a change; new ones every time at a person's desk.
# How long one takes says something about the machine, not about us.
PATIENT = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("desk", PATIENT)
hypothesis.settings.register_profile("ci", PATIENT, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "desk")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share one id would be run once in a parallel run, and nobody would see it (``pytest -n 0`` names them)."""
    shared = [name for name, count in Counter(item.nodeid for item in items).items() if count > 1]
    if shared:
        raise pytest.UsageError(f"several tests have one id: {', '.join(shared)}")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes name no test: what gzip writes holds the second it was written in, and each process of a run collects anew."""
    return argname if isinstance(val, bytes) else None


DATA = Path(os.environ.get("TWIN_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def data() -> Path:
    """Real test data: the folder that ``TWIN_TEST_DATA`` names (default ``../shared/data``; see CONTRIBUTING.md)."""
    if not DATA.is_dir():
        pytest.skip(f"real test data is absent: no folder {DATA} (set TWIN_TEST_DATA)")
    return DATA
