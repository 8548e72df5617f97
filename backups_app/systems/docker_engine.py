"""The Docker Engine, reached for one action; its errors as one sentence each."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker
from docker.errors import APIError, DockerException, NotFound
from docker.utils.socket import STDERR, STDOUT, frames_iter
from requests.exceptions import RequestException

from backups_app.errors import ContainerProblem
from backups_app.sentences import say

__all__ = ["DEFAULT_SOCKET", "STDERR", "STDOUT", "connected", "output_of", "unknown"]

DEFAULT_SOCKET = "unix:///var/run/docker.sock"


@contextmanager
def connected(host: str, container: str, *, timeout_seconds: float) -> Iterator[docker.APIClient]:
    """A client for the engine at ``host``; every error about ``container`` becomes a ContainerProblem."""
    try:
        _knock(host, timeout_seconds)
        # "auto" asks GET /version: no one version fits both Docker 20.10 and Docker 29
        engine = docker.APIClient(base_url=host, version="auto", timeout=max(1, round(timeout_seconds)))
        try:
            yield engine
        finally:
            engine.close()
    except NotFound as error:
        raise unknown(host, container, str(error)) from error
    except APIError as error:
        raise _refused(error, host, container) from error
    except (DockerException, RequestException, OSError) as error:
        raise _unreachable(error, host) from error


def output_of(engine: docker.APIClient, handle: str) -> Iterator[tuple[int, bytes]]:
    """Start a prepared program and follow its output: (STDOUT or STDERR, bytes), until it ends."""
    stream: Any = engine.exec_start(handle, socket=True)
    try:
        yield from frames_iter(stream, tty=False)  # type: ignore[no-untyped-call]
    finally:
        stream._response.close()  # noqa: SLF001 - the library keeps it there and closes it nowhere


def _knock(host: str, timeout_seconds: float) -> None:
    """Open and close the socket: the library leaves its own open when nobody answers."""
    if host.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(timeout_seconds)
            door.connect(host.removeprefix("unix://"))


def unknown(host: str, container: str, detail: str = "") -> ContainerProblem:
    """The error for a container that is not there."""
    return ContainerProblem(
        say(
            "There is no container {name} at {host}: correct API_CONTAINER or create it.",
            name=container,
            host=host,
        ),
        detail=detail,
    )


def _refused(error: APIError, host: str, container: str) -> ContainerProblem:
    if error.status_code == 403:
        return ContainerProblem(
            say(
                "The access filter at {host} does not allow it: "
                "allow inspect, start, stop, exec and logs of containers.",
                host=host,
            ),
            detail=str(error),
        )
    explanation = str(error.explanation or error).strip().rstrip(".")
    return ContainerProblem(
        say("Docker refused it for {name}: {reason}.", name=container, reason=explanation[:300]),
        detail=str(error),
    )


def _unreachable(error: Exception, host: str) -> ContainerProblem:
    causes = list(_causes(error))
    if any(isinstance(cause, PermissionError) for cause in causes):
        sentence = say(
            "The Docker Engine at {host} cannot be used: "
            "permission denied: add the service's user to the socket's group.",
            host=host,
        )
    elif any(isinstance(cause, FileNotFoundError) for cause in causes):
        sentence = say(
            "The Docker Engine at {host} cannot be used: "
            "there is no such socket: start Docker or correct DOCKER_HOST.",
            host=host,
        )
    elif any(isinstance(cause, TimeoutError) for cause in causes) or "timed out" in str(error).lower():
        sentence = say("The Docker Engine at {host} cannot be used: it does not answer in time.", host=host)
    elif "403" in str(error) and "Forbidden" in str(error):
        sentence = say(
            "The Docker Engine at {host} cannot be used: "
            "its access filter refuses even GET /version: allow that call.",
            host=host,
        )
    else:
        sentence = say(
            "The Docker Engine at {host} cannot be used: "
            "it is not running or not reachable: start Docker or correct DOCKER_HOST.",
            host=host,
        )
    return ContainerProblem(sentence, detail=str(error))


def _causes(error: BaseException | None) -> Iterator[object]:
    """The error and all that it was made from, which libraries hide in arguments and contexts."""
    while error is not None:
        for hidden in (*error.args, getattr(error, "reason", None)):
            if isinstance(hidden, BaseException):
                yield from _causes(hidden)
        yield error
        error = error.__cause__ or error.__context__
