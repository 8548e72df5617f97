"""A backup is restored without the site: by the very commands of docs/disaster-recovery.md."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deploy.demo import embedded
from tests.operations.site import Site

PAGE = Path(__file__).resolve().parents[2] / "docs" / "disaster-recovery.md"
LOST, RESCUED = "qrdb_lost", "qrdb_rescued"


@pytest.fixture
def commands() -> list[str]:
    """The page's shell commands; the first block says what to work with."""
    return re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def clean(site: Site, superuser: psycopg.Connection[object]) -> Iterator[None]:
    yield
    for name in (LOST, RESCUED):
        superuser.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def test_the_page_restores_a_lost_database(
    one_folder: Site, commands: list[str], clean: None, pg_major: int, superuser: psycopg.Connection[object]
) -> None:
    superuser.execute("CREATE ROLE reporting")
    one_folder.execute("GRANT SELECT ON qr_codes TO reporting")
    backup = one_folder.backup()
    before = one_folder.rows()
    one_folder.execute("DELETE FROM qr_codes")
    damaged = one_folder.rows()

    said = _shell(one_folder, backup.name, commands, pg_major)

    assert f"{backup.name}: OK" in said
    assert "Every table has its rows." in said
    assert one_folder.rows() == before
    assert one_folder.rows(LOST) == damaged
    may_read = "SELECT has_table_privilege('reporting', 'qr_codes', 'SELECT')"
    with one_folder.connected() as connection:
        assert connection.execute(may_read).fetchone() == (True,), "the archive's rights were left out"


def test_a_damaged_copy_is_seen_before_anything_is_done(
    one_folder: Site, commands: list[str], clean: None, pg_major: int
) -> None:
    backup = one_folder.backup()
    file = one_folder.working / backup.name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)

    with pytest.raises(subprocess.CalledProcessError) as failed:
        _shell(one_folder, backup.name, commands[:2], pg_major)

    assert f"{backup.name}: FAILED" in failed.value.stdout


def _plain_tools(folder: Path) -> Path:
    """A folder with nothing but what the page says that every Linux has."""
    tools = folder / "tools"
    tools.mkdir()
    for name in ("bash", "cat", "diff", "mktemp", "sed", "sha256sum", "sort"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    return tools


def _shell(site: Site, name: str, commands: list[str], major: int) -> str:
    """Run the commands as one script, with the page's first block filled in for this server."""
    server = site.server
    values = {
        "NAME": name,
        "LIVE": server.database,
        "PGHOST": server.host,
        "PGPORT": str(server.port),
        "PGUSER": server.user,
        "PGPASSWORD": server.password,
    }
    first, *rest = commands
    assert set(re.findall(r"\b([A-Z]+)=", first)) == set(values), "the page asks for other words"
    programs = embedded.find_bin(major)
    assert programs is not None
    environment = {
        **os.environ,
        **values,
        "PATH": f"{programs}:{_plain_tools(site.second)}",
        "TMPDIR": f"{site.second}",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "".join(rest)],
        cwd=site.working,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout
