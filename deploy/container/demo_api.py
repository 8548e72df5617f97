"""A stand-in for the QR system's API: makes the sample database when it is missing, answers /health."""

from __future__ import annotations

import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from deploy.demo import sample

PORT = 8000


def secret(name: str) -> str:
    return Path(os.environ[f"{name}_FILE"]).read_text().strip()


def managed_url() -> str:
    return secret("MANAGED_DATABASE_URL")


def make_sample(url: str, attempts: int = 60) -> None:
    """Role, database and content, as far as they are missing."""
    parts = urlsplit(url)
    database = parts.path.lstrip("/")
    admin = (
        f"postgresql://{os.environ['ADMIN_USER']}:{secret('ADMIN_PASSWORD')}@{parts.hostname}:{parts.port}"
    )
    while True:
        try:
            superuser = psycopg.connect(f"{admin}/postgres", autocommit=True)
            break
        except psycopg.OperationalError:
            attempts -= 1
            if not attempts:
                raise
            time.sleep(1)
    with superuser:
        sample.create_owner(superuser, str(parts.password))
        if superuser.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone():
            return
        partial = f"{database}_new"
        superuser.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(partial)))
        sample.create_database(superuser, partial)
        with psycopg.connect(parts._replace(path=f"/{partial}").geturl()) as owner:
            sample.create_filled(owner, codes=334, scans=5010)
        superuser.execute(
            sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
                sql.Identifier(partial), sql.Identifier(database)
            )
        )


class Health(BaseHTTPRequestHandler):
    """GET /health in the words of the QR system."""

    def do_GET(self) -> None:
        try:
            with psycopg.connect(managed_url(), connect_timeout=3) as connection:
                connection.execute("SELECT count(*) FROM qr_codes")
            status, database = "healthy", "pass"
        except psycopg.Error:
            status, database = "unhealthy", "fail"
        body = json.dumps({"status": status, "checks": {"database": {"status": database}}}).encode()
        self.send_response(200 if status == "healthy" else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""


if __name__ == "__main__":
    make_sample(managed_url())
    ThreadingHTTPServer(("0.0.0.0", PORT), Health).serve_forever()  # noqa: S104 - within its container
