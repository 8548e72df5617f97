"""Storage locations are read from one setting, and what is wrong with it is said in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from backups_app.errors import NotConfigured
from backups_app.systems.vault import Credentials, LocalLocation, open_location, parse_locations


def test_paths_file_urls_and_buckets_are_read_in_order() -> None:
    folder, url, bucket = parse_locations(
        " local=/var/backups , nas=file:///mnt/my%20nas,"
        "off_site-1=s3://my-bucket/qr/prod?endpoint_url=https://store.example:9000&region=eu-1,"
    )

    assert (folder.alias, folder.folder, folder.is_local) == ("local", Path("/var/backups"), True)
    assert (url.alias, url.folder) == ("nas", Path("/mnt/my nas"))
    assert (bucket.alias, bucket.url, bucket.is_local) == ("off_site-1", "s3://my-bucket/qr/prod", False)
    assert bucket.options == {"endpoint_url": "https://store.example:9000", "region": "eu-1"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "No storage location is set"),
        (" , ", "No storage location is set"),
        ("/var/backups", "no proper alias"),
        ("=/var/backups", "no proper alias"),
        ("my place=/var/backups", "no proper alias"),
        ("../x=/var/backups", "no proper alias"),
        ("a" * 41 + "=/var/backups", "no proper alias"),
        ("local=", "absolute path"),
        ("local=backups", "absolute path"),
        ("local=./backups", "absolute path"),
        ("local=~/backups", "absolute path"),
        ("local=//server/share", "absolute path"),
        ("local=/", "root folder"),
        ("local=/var/../etc", "'..'"),
        ("local=/var/back\0ups", "NUL"),
        ("local=file://server/share", "file:///absolute/path"),
        ("local=file:relative", "file:///absolute/path"),
        ("local=ftp://server/x", "unknown scheme 'ftp'"),
        ("local=http://[::1/x", "not a valid URL"),
        ("a=/x,a=/y", "used twice"),
        ("a=/x,A=/y", "used twice"),
        ("a=/x,b=/x", "the same place"),
        ("a=/x,b=/x/", "the same place"),
        ("a=/x,b=file:///x", "the same place"),
        ("a=s3://bucket/x,b=s3://bucket/x/", "the same place"),
        (
            "a=s3://b-1?endpoint_url=https://store.example,b=s3://b-1?endpoint_url=https://Store.Example:443/",
            "the same place",
        ),
        ("a=s3://", "s3://bucket/prefix"),
        ("a=s3://bucket/../x", "prefix"),
        ("a=s3://bucket?colour=red", "unknown option 'colour'"),
        ("a=s3://bucket?endpoint_url=store:9000", "endpoint_url"),
        ("a=s3://bucket?endpoint_url=http://[::1", "endpoint_url"),
        ("a=s3://bucket?endpoint_url=http://a%20store:9000", "endpoint_url"),
        ("a=s3://bucket?endpoint_url=http://store:port", "endpoint_url"),
        ("a=s3://bucket?endpoint_url=", "endpoint_url of a is empty"),
        ("a=s3://bucket?region=", "region of a is empty"),
        ("a=s3://bucket?region=eu%20central", "region of a"),
        ("a=s3://bucket?addressing_style=odd", "addressing_style"),
    ],
)
def test_a_wrong_setting_is_named_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(NotConfigured) as error:
        parse_locations(text)

    assert said in error.value.message
    assert len(error.value.message.splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "a=s3://AKIA:hunter2@bucket/x",
        "a=s3://bucket/x?secret_key=hunter2",
        "a=s3://bucket/x?aws_access_key_id=hunter2",
        "a=s3://bucket/x?endpoint_url=https://me:hunter2@store.example",
        "s3://AKIA:hunter2@bucket/x",
        "hunter?=s3://AKIA:hunter2@bucket/x",
    ],
)
def test_credentials_in_the_setting_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(NotConfigured) as error:
        parse_locations(text)

    assert "hunter2" not in error.value.message


def test_two_ways_to_one_folder_are_found_behind_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    with pytest.raises(NotConfigured, match="the same place"):
        parse_locations(f"a={tmp_path}/real,b={tmp_path}/link")


def test_a_spec_opens_without_touching_anything(tmp_path: Path) -> None:
    local, bucket = parse_locations(f"a={tmp_path}/none,b=s3://bucket/x?endpoint_url=http://127.0.0.1:1")

    assert open_location(local) == LocalLocation(alias="a", folder=tmp_path / "none")
    opened = open_location(bucket, Credentials("AKIA", "hunter2"))
    assert opened.describe() == "b (s3://bucket/x at http://127.0.0.1:1)"
    assert "hunter2" not in repr(opened)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_mounted_twice_is_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bind mount has a path of its own, and the same device and number."""
    once, twice, other = (tmp_path / name for name in ("once", "twice", "other"))
    for folder in (once, twice, other):
        folder.mkdir()
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **how: stat(once if path == twice else path, **how))

    assert len(parse_locations(f"a={once},b={other}")) == 2
    with pytest.raises(NotConfigured, match="a and b are the same place"):
        parse_locations(f"a={once},b={twice}")
