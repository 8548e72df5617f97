"""The secrets of the compose file are made once, for the demo or for the real system, never for both."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

from tests.site.conftest import ROOT

URL = "postgresql://qr_user:hunter2@qr_generator_postgres:5432/qrdb"


def make(folder: Path, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(ROOT / "deploy" / "container" / "make-secrets"), *words],
        env={"PATH": os.environ["PATH"], "SECRETS": str(folder), "SETTINGS": f"{folder}.env"},
        input=typed,
        capture_output=True,
        text=True,
    )


def test_the_secrets_are_random_and_only_the_owner_opens_their_folder(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"

    made = make(first, typed=f"{URL}\n")
    make(second, typed=f"{URL}\n")

    assert made.returncode == 0, made.stderr
    assert stat.S_IMODE(first.stat().st_mode) == 0o700
    assert (first / "managed_database_url").read_text() == URL
    assert len((first / "secret_key").read_text()) == 128
    assert (first / "secret_key").read_text() != (second / "secret_key").read_text()
    assert (first / "site_database_password").read_text() in (first / "database_url").read_text()


def test_only_the_demo_speaks_plain_http_and_only_the_real_system_joins_a_network(tmp_path: Path) -> None:
    demo, real = tmp_path / "demo", tmp_path / "real"
    (tmp_path / "kept.env").write_text("TIME_ZONE=Europe/Berlin\n")

    make(demo, "--demo")
    make(real, typed=f"{URL}\n")
    make(tmp_path / "kept", "--demo")

    assert "\nCOMPOSE_PROJECT_NAME=qradmin-demo\n" in (tmp_path / "demo.env").read_text()
    assert "\nHTTPS_ONLY=False\n" in (tmp_path / "demo.env").read_text()
    lines = (tmp_path / "real.env").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "COMPOSE_PROJECT_NAME=qradmin",
        "QR_NETWORK_EXISTS=true",
    ]
    assert (tmp_path / "kept.env").read_text() == "TIME_ZONE=Europe/Berlin\n"


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make(folder, "--demo")
    before = {path.name: path.read_text() for path in folder.iterdir()}

    again = make(folder, "--demo")

    assert again.returncode == 0
    assert {path.name: path.read_text() for path in folder.iterdir()} == before


def test_the_demos_secrets_are_not_taken_for_the_real_system(tmp_path: Path) -> None:
    demo, real = tmp_path / "demo", tmp_path / "real"
    make(demo, "--demo")
    make(real, typed=f"{URL}\n")

    refused = make(demo, typed=f"{URL}\n"), make(real, "--demo")

    assert [one.returncode for one in refused] == [1, 1]
    assert "those of the demo system" in refused[0].stderr
    assert f"the folder {demo}/ and the file {demo}.env" in refused[0].stderr
    assert (real / "managed_database_url").read_text() == URL


def test_the_settings_of_one_system_are_not_taken_for_the_other(tmp_path: Path) -> None:
    folder, settings = tmp_path / "secrets", tmp_path / "secrets.env"
    make(folder, "--demo")
    shutil.rmtree(folder)

    refused = make(folder, typed=f"{URL}\n")

    assert refused.returncode == 1
    assert f"The file {settings} is that of the demo system" in refused.stderr
    assert not folder.exists()
    settings.unlink()
    assert make(folder, typed=f"{URL}\n").returncode == 0
    shutil.rmtree(folder)
    assert "is that of the real system" in make(folder, "--demo").stderr
