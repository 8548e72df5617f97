"""One stack for all tests of the deployment: `make test-containers`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deployment.engine import engine_with_images
from tests.deployment.stack import Deployment


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with engine_with_images() as engine:
        deployment = Deployment(engine, tmp_path_factory.mktemp("stack"))
        try:
            deployment.up()
            yield deployment
        finally:
            deployment.down()
