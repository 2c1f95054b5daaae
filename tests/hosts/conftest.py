"""One folder of tiny models for all host tests."""

import pytest

from tests.hosts.tiny import Tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return Tiny(tmp_path_factory.mktemp("tiny"))
