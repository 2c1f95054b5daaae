"""Alone, in whatever environment: what needs a library that is not installed is skipped, and says which."""

from collections.abc import Generator

import pytest

from tests.conformance.case import cannot_run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """An objective asks for its libraries when it is called."""
    try:
        return (yield)
    except ModuleNotFoundError as error:
        pytest.skip(cannot_run(error))
