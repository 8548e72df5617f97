"""A Docker Engine with networks, and the images that the compose file names, made on this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from docker.errors import ImageNotFound

from tests.docker_engine import Engine
from tests.real_world import need

ROOT = Path(__file__).resolve().parents[2]
STAND_INS = Path(__file__).resolve().parent / "stand_ins"
BASE, SITE = "debian:bookworm-slim", "qradmin:latest"
POSTGRES, HAPROXY = "qradmin-test-postgres:latest", "qradmin-test-haproxy:latest"
# The machine's own bundle: package clients in a build may have to go through its proxy.
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PIP_CONFIGURATION = Path(os.environ.get("PIP_CONFIG_FILE", "/etc/pip.conf"))


@contextmanager
def engine_with_images() -> Iterator[Engine]:
    """An engine that has every image of the compose file.

    QRADMIN_TEST_ENGINE names the folder of an engine to use and to keep, so that a second run is quick.
    """
    need(os.geteuid() == 0, "only root may start a Docker Engine")
    for program, package in (
        ("dockerd", "docker.io"),
        ("docker-compose", "docker-compose"),
        ("debootstrap", "debootstrap"),
    ):
        need(shutil.which(program) is not None, f"{program} is not installed (Debian: {package})")
    kept = os.environ.get("QRADMIN_TEST_ENGINE")
    # Its containers find each other; the default bridge is left to others.
    engine = Engine(Path(kept or tempfile.mkdtemp(prefix="qradmin-docker-")), switches=())
    try:
        need(engine.start(), f"dockerd does not start here: {engine.log}")
        make_images(engine)
        yield engine
    finally:
        if kept:
            engine.stop()
        else:
            engine.clean_up()


def make_images(engine: Engine) -> None:
    if not _has(engine, BASE):
        _make_base(engine)
    secrets = ["--secret", f"id=ca_bundle,src={CERTIFICATES}"]
    if PIP_CONFIGURATION.is_file():
        secrets += ["--secret", f"id=pip_conf,src={PIP_CONFIGURATION}"]
    # PostgreSQL's own repository is not asked: Debian's one version is enough here.
    versions = ["--build-arg", "POSTGRES_REPOSITORY=", "--build-arg", "POSTGRES_MAJORS=15"]
    builds = (
        (SITE, ROOT, [*secrets, *versions]),
        (POSTGRES, STAND_INS, [f"--file={STAND_INS}/postgres.Dockerfile"]),
        (HAPROXY, STAND_INS, [f"--file={STAND_INS}/haproxy.Dockerfile"]),
    )
    with ThreadPoolExecutor() as together:
        for built in [together.submit(_build, engine, *build) for build in builds]:
            built.result()


def _make_base(engine: Engine) -> None:
    """A minimal Debian under the name of the official image."""
    with tempfile.TemporaryDirectory(prefix="qradmin-base-") as name:
        root = Path(name) / "root"
        command = ["debootstrap", "--variant=minbase", "bookworm", str(root), _mirror()]
        made = subprocess.run(command, capture_output=True, text=True)
        need(made.returncode == 0, f"debootstrap made no Debian: {made.stdout[-500:]}")
        # The official image does the same: without it each package waits for the disk.
        (root / "etc/dpkg/dpkg.cfg.d/docker").write_text("force-unsafe-io\n")
        archive = Path(name) / "root.tar"
        subprocess.run(["tar", "--create", f"--file={archive}", f"--directory={root}", "."], check=True)
        repository, _, tag = BASE.partition(":")
        with engine.client() as client, archive.open("rb") as data:
            client.api.import_image_from_data(data, repository=repository, tag=tag)


def _mirror() -> str:
    """Where this machine's own packages come from."""
    command = ["apt-get", "download", "--print-uris", "base-files"]
    found = re.search(r"'(http\S+)/pool/", subprocess.run(command, capture_output=True, text=True).stdout)
    return found[1] if found else "http://deb.debian.org/debian"


def _build(engine: Engine, image: str, folder: Path, options: Sequence[str]) -> None:
    environment = os.environ | {"DOCKER_HOST": engine.host, "DOCKER_BUILDKIT": "1"}
    command = [
        _docker(),
        "build",
        "--network=host",
        "--progress=plain",
        f"--tag={image}",
        *options,
        str(folder),
    ]
    built = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, f"{image} was not built: {built.stdout[-2000:]}{built.stderr[-4000:]}"


def _docker() -> str:
    """A Docker client that can build: newer ones need a plugin that is not always there."""
    for program in filter(None, (shutil.which("docker"), "/usr/bin/docker")):
        version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
        is_old = int((re.search(r"version (\d+)", version) or ["", "99"])[1]) < 23
        if is_old or subprocess.run([program, "buildx", "version"], capture_output=True).returncode == 0:
            return program
    need(False, "no Docker client on this machine can build (Debian: docker.io)")
    raise AssertionError


def _has(engine: Engine, image: str) -> bool:
    with engine.client() as client:
        try:
            client.images.get(image)
        except ImageNotFound:
            return False
    return True
