"""The client programs' command lines: connection facts in, argv and environment out."""

from __future__ import annotations

from pathlib import Path

from backups_app.systems.postgres.clients import Client
from backups_app.systems.postgres.connections import CHECK_CLIENT, Server, environment
from backups_app.systems.processes import Command

# Fast, and able to write even where the database's own settings make sessions read-only.
RESTORE_SETTINGS = (
    "-c synchronous_commit=off -c maintenance_work_mem=256MB -c default_transaction_read_only=off"
)


def dump(
    server: Server,
    client: Client,
    *,
    file: Path,
    snapshot: str | None,
    compression: str,
    application_name: str,
    lock_wait_seconds: int = 60,
) -> Command:
    """Dump the database into ``file`` in custom format; owners and privileges are kept in it."""
    argv = [
        str(client.path),
        "--format=custom",
        f"--file={file}",
        f"--compress={_compression(compression, client)}",
        f"--lock-wait-timeout={lock_wait_seconds}s",
        "--no-password",
    ]
    if snapshot is not None:
        argv.append(f"--snapshot={snapshot}")
    return Command(tuple(argv), environment(server, application_name))


def restore(
    server: Server,
    client: Client,
    *,
    file: Path,
    jobs: int,
    application_name: str,
    with_owner: bool = True,
) -> Command:
    """Restore ``file`` into the database of ``server``, stopping at the first error."""
    argv = [
        str(client.path),
        "--exit-on-error",
        "--no-password",
        f"--dbname={server.database}",
        f"--jobs={jobs}",
    ]
    if not with_owner:
        argv += ["--no-owner", "--no-privileges"]
    argv.append(str(file))
    env = environment(server, application_name) | {"PGOPTIONS": f"{CHECK_CLIENT} {RESTORE_SETTINGS}"}
    return Command(tuple(argv), env)


def read_all(client: Client, file: Path) -> Command:
    """Read and decompress every part of ``file``, keeping nothing."""
    return Command((str(client.path), "--file=/dev/null", str(file)))


def read_all_fed(client: Client) -> Command:
    """The same with an archive that comes by standard input."""
    return Command((str(client.path), "--file=/dev/null"))


def contents(client: Client, file: Path) -> Command:
    """List what ``file`` holds."""
    return Command((str(client.path), "--list", str(file)))


def definitions(client: Client, file: Path) -> Command:
    """Print the definitions of ``file`` that come before its rows, as a script."""
    return Command((str(client.path), "--section=pre-data", "--file=-", str(file)))


def table_data(client: Client, file: Path, *, schema: str, table: str) -> Command:
    """Print the rows of one table of ``file`` as COPY text."""
    return Command(
        (
            str(client.path),
            "--data-only",
            "--file=-",
            f"--schema={schema}",
            f"--table={table}",
            str(file),
        )
    )


def _compression(compression: str, client: Client) -> str:
    """``gzip:1`` as this pg_dump writes it: before version 16 there is only a gzip level."""
    method, _, level = compression.partition(":")
    if client.major >= 16:
        return compression
    return "0" if method == "none" else level or "1"
