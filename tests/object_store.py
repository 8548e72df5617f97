"""A real object store over HTTP, and a relay in front of it that can cut or stall its connections."""

from __future__ import annotations

import json
import secrets
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from threading import Event, Thread
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from backups_app.systems.vault import Credentials

KEY = Credentials("AKIAEXAMPLE", "secret-word")


@pytest.fixture(scope="session")
def store_url() -> Iterator[str]:
    """The address of a running object store."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(store_url: str) -> Iterator[Any]:
    """A client of the store, which holds nothing but the empty bucket `backups`."""
    with urllib.request.urlopen(urllib.request.Request(f"{store_url}/moto-api/reset", method="POST")):
        pass
    made = boto3.client(
        "s3",
        endpoint_url=store_url,
        region_name="us-east-1",
        aws_access_key_id=KEY.access_key,
        aws_secret_access_key=KEY.secret_key,
    )
    made.create_bucket(Bucket="backups")
    yield made
    made.close()


def held(client: object) -> list[str]:
    return [entry["Key"] for entry in client.list_objects_v2(Bucket="backups").get("Contents", [])]


def unfinished(client: object) -> list[str]:
    return [entry["Key"] for entry in client.list_multipart_uploads(Bucket="backups").get("Uploads", [])]


def accepted_key(url: str) -> tuple[str, str]:
    """Access key and secret key that the store accepts while it looks at keys."""
    iam = boto3.client(
        "iam",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=KEY.access_key,
        aws_secret_access_key=KEY.secret_key,
    )
    name = f"user-{secrets.token_hex(4)}"
    iam.create_user(UserName=name)
    everything = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
    iam.put_user_policy(UserName=name, PolicyName="stores", PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


@contextmanager
def authentication(url: str) -> Iterator[None]:
    """Have the store look at keys, which it does not do by itself."""

    def reset(count: bytes) -> None:
        request = urllib.request.Request(f"{url}/moto-api/reset-auth", data=count, method="POST")
        request.add_header("Content-Type", "text/plain")
        with urllib.request.urlopen(request):
            pass

    reset(b"0")
    try:
        yield
    finally:
        reset(b"inf")


class Relay:
    """A TCP relay in front of the store, which can cut its connections after so many bytes."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self.target = (host, int(port))
        self.cut_upload_after = self.cut_download_after = sys.maxsize
        self.cuts = sys.maxsize
        self.stalled = Event()
        self.stall_upload_after = sys.maxsize
        self.uploaded = self.downloaded = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.open: list[socket.socket] = []
        self.accepting = Thread(target=self.accept, daemon=True)
        self.accepting.start()

    def accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            self.open.append(near)
            far = socket.create_connection(self.target)
            self.open.append(far)
            Thread(target=self.copy, args=(near, far, "upload"), daemon=True).start()
            Thread(target=self.copy, args=(far, near, "download"), daemon=True).start()

    def copy(self, source: socket.socket, target: socket.socket, way: str) -> None:
        try:
            while data := source.recv(65536):
                setattr(self, f"{way}ed", getattr(self, f"{way}ed") + len(data))
                if self.cuts and getattr(self, f"{way}ed") > getattr(self, f"cut_{way}_after"):
                    self.cuts -= 1
                    break
                if way == "upload" and self.uploaded > self.stall_upload_after:
                    self.stalled.set()
                    time.sleep(60)
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            with_no_error(lambda end=end: end.shutdown(socket.SHUT_RDWR))

    def close(self) -> None:
        with_no_error(lambda: self.listener.shutdown(socket.SHUT_RDWR))  # wakes the thread that accepts
        self.listener.close()
        self.accepting.join()
        for end in self.open:
            with_no_error(lambda end=end: end.shutdown(socket.SHUT_RDWR))
            end.close()


def with_no_error(call: Callable[[], object]) -> None:
    with suppress(OSError):
        call()


@contextmanager
def relayed(url: str) -> Iterator[Relay]:
    with closing(Relay(url)) as relay:
        yield relay
