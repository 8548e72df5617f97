"""Fixtures of the tests that run the real thing."""

from tests.docker_engine import docker_engine
from tests.end_to_end.api import api, api_site, plain_site
from tests.end_to_end.browser import chromium, web, web_servers
from tests.end_to_end.cluster import (
    any_site,
    new_site,
    own_database,
    postgresql_site,
    site,
    site_server,
    sites,
    sqlite_site,
)

__all__ = [
    "any_site",
    "api",
    "api_site",
    "chromium",
    "docker_engine",
    "new_site",
    "own_database",
    "plain_site",
    "postgresql_site",
    "site",
    "site_server",
    "sites",
    "sqlite_site",
    "web",
    "web_servers",
]
