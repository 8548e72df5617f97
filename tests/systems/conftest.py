"""Fixtures for the outside world."""

from tests.docker_engine import docker_engine

__all__ = ["docker_engine"]
