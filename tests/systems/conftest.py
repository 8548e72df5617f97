"""Fixtures for the outside world."""

from tests.docker_engine import docker_engine
from tests.object_store import bucket, store_url

__all__ = ["bucket", "docker_engine", "store_url"]
