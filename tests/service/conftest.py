"""Asynchronous tests run on asyncio alone."""

import pytest


@pytest.fixture
def anyio_backend():
    return "asyncio"
