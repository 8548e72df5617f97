"""The site as a process with an environment of its own, and clients for its pages."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import SiteDatabase

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path, site_database: SiteDatabase) -> Run:
    """A function: run Python with these words and this environment, and nothing of the developer's own."""
    (tmp_path / "backups").mkdir(mode=0o700)
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "staticfiles.json").write_text("{}")
    whole = {
        "PATH": os.environ["PATH"],
        "ENV_FILE": os.devnull,
        "DJANGO_SETTINGS_MODULE": "qradmin.settings",
        "SECRET_KEY": "only-for-tests-" + 50 * "x",
        "DEBUG": "False",
        "DATABASE_URL": site_database.url,
        "MANAGED_DATABASE_URL": "postgresql://nobody:nothing@127.0.0.1:1/qrdb",
        "BACKUP_LOCATIONS": f"working={tmp_path / 'backups'}",
        "STATIC_ROOT": str(tmp_path / "static"),
    }

    def run(*words: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
        chosen = {name: value for name, value in (whole | environment).items() if value is not None}
        return subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=chosen,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run
