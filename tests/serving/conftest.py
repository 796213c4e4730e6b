"""A server in the test's process, which the tests of a module share."""

import pytest
from http_server import serving
from served_models import names_of, with_adapters

from gpt2_tuning.serving.served import Served


@pytest.fixture(scope="module")
def model():
    """A language model with adapters."""
    return with_adapters()


@pytest.fixture(scope="module")
def served(model):
    """The same under the names that it is asked by."""
    return Served(model, names_of())


@pytest.fixture(scope="module")
def running(served):
    """A server of it."""
    with serving(served) as made:
        yield made


@pytest.fixture(scope="module")
def client(running):
    """OpenAI's own, of that server."""
    return running.client()
