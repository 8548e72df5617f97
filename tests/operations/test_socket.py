"""A managed database that is reached by the folder of its socket is backed up and restored like any other."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from pytest_django.fixtures import Settings

from backups_app import config
from deploy.demo import embedded, sample
from tests.operations.site import Site


@pytest.fixture
def by_socket(
    transactional_db: None, settings: Settings, monkeypatch: pytest.MonkeyPatch, folders: tuple[Path, Path]
) -> Iterator[Site]:
    place = Path(tempfile.mkdtemp(prefix="qradmin-tests-socket-"))
    place.chmod(0o777)  # the server runs as another user when the tests run as root
    monkeypatch.setitem(embedded.ALWAYS, "unix_socket_directories", str(place))
    programs = embedded.find_bin(16)
    assert programs is not None
    with embedded.start(place / "server", bin=programs, for_tests=True) as server:
        with psycopg.connect(server.url(), autocommit=True) as superuser:
            sample.create_owner(superuser, "owner")
            sample.create_database(superuser)
        settings.MANAGED_DATABASE_URL = (
            f"postgresql://{sample.OWNER}:owner@{quote(str(place), safe='')}:{server.port}/{sample.DATABASE}"
        )
        settings.BACKUP_LOCATIONS = f"working={folders[0]}"
        managed = config.managed_database()
        with psycopg.connect(
            host=managed.host, port=managed.port, user=managed.user, password="owner", dbname=managed.database
        ) as owner:
            sample.create_filled(owner)
        yield Site(managed, *folders)
    embedded.forget(place / "server")
    shutil.rmtree(place, ignore_errors=True)


def test_a_database_behind_a_socket_is_backed_up_proven_and_restored(by_socket: Site) -> None:
    assert by_socket.server.host.startswith("/")

    backup = by_socket.backup()
    proven = by_socket.prove(backup)
    restored = by_socket.restore(backup)

    assert (proven.state, restored.state) == ("succeeded", "succeeded"), restored.error
    assert restored.result["rows"]["public.qr_codes"] == [334, 334]
