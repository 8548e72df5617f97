"""The URL of a PostgreSQL database, taken apart; what is wrong with it is said without showing any of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from backups_app.errors import NotConfigured
from backups_app.sentences import say

SCHEMES = ("postgresql", "postgres", "psql", "pgsql")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# What may stand behind the question mark of any database, with the pattern of its values: libpq's own names.
OPTIONS = {
    "sslmode": "|".join(SSL_MODES),
    "sslrootcert": "/.+",
    "sslcert": "/.+",
    "sslkey": "/.+",
    "target_session_attrs": "any|read-write|read-only|primary|standby|prefer-standby",
}
LONGEST_NAME = 63
_HOST = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.%]+)\]|(?P<name>[\w.%-]+))(?::(?P<port>.*))?")


@dataclass(frozen=True)
class Address:
    """Where a database is, and as whom to log in; a host is a name, an address, or the folder of a socket."""

    hosts: tuple[str, ...]
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    options: Mapping[str, str]

    @property
    def host(self) -> str:
        """As libpq takes several: it connects to the first that answers."""
        return ",".join(self.hosts)


def parse(variable: str, url: str, *, options: Mapping[str, str], example: str) -> Address:
    """Take ``url`` apart; NotConfigured names the ``variable`` and looks like the ``example``.

    ``options``: what may stand behind the question mark, each with the pattern of its values.
    """
    scheme, separator, rest = url.partition("://")
    if scheme not in SCHEMES or not separator:
        raise NotConfigured(
            say(
                "{variable} does not begin with postgresql://: it has to look like {example}, unquoted.",
                variable=variable,
                example=example,
            )
        )
    place, _slash, tail = rest.partition("/")
    path, _question, query = tail.partition("?")
    if set("?#") & {*place, *path} or "#" in query:
        raise NotConfigured(
            say("{variable} holds a ? or # that has to be written as %3F or %23.", variable=variable)
        )
    login, _at, hosts = place.rpartition("@")
    user, _colon, password = login.partition(":")
    folder, _slash, database = path.rpartition("/")
    if not hosts and folder.startswith("/"):
        hosts, path = folder.replace("/", "%2F"), database
    names, port = _hosts(variable, hosts, example)
    address = Address(
        names, port, unquote(user), unquote(password), unquote(path), _options(variable, query, options)
    )
    _insist_on_whole(variable, address, example)
    return address


def _hosts(variable: str, text: str, example: str) -> tuple[tuple[str, ...], int]:
    found = [_HOST.fullmatch(host) for host in text.split(",")]
    hosts = [match for match in found if match]
    names = tuple(_host(match["v6"] or unquote(match["name"])) for match in hosts)
    if len(hosts) != len(found) or not all(names):
        raise incomplete(variable, example)
    ports = {_port(match["port"] or "5432") for match in hosts}
    if 0 in ports:
        raise NotConfigured(
            say(
                "{variable} has a wrong port: it has to look like {example}.",
                variable=variable,
                example=example,
            )
        )
    if len(ports) > 1:
        raise NotConfigured(say("{variable} names hosts with different ports.", variable=variable))
    return names, ports.pop()


def _host(name: str) -> str:
    """Empty when it is none."""
    if name.startswith("/"):
        return name
    return "" if "/" in name else name.lower()


def _port(text: str) -> int:
    """Zero when it is none."""
    number = int(text) if re.fullmatch(r"[0-9]{1,5}", text) else 0
    return number if number < 65536 else 0


def _options(variable: str, query: str, known: Mapping[str, str]) -> dict[str, str]:
    # None is repeated: a password with an unescaped question mark would stand in it.
    pairs = parse_qsl(query, keep_blank_values=True)
    if len(dict(pairs)) != len(pairs) or not all(re.fullmatch(known.get(k, r"(?!)"), v) for k, v in pairs):
        raise NotConfigured(
            say(
                "{variable} may end in ?sslmode= with one of {modes}{others}, and in nothing else.",
                variable=variable,
                modes=", ".join(SSL_MODES),
                others="".join(f", &{name}=" for name in known if name != "sslmode"),
            )
        )
    return dict(pairs)


def _insist_on_whole(variable: str, address: Address, example: str) -> None:
    if not address.database or "/" in address.database:
        raise incomplete(variable, example)
    for text in (*address.hosts, address.user, address.password, address.database):
        if any(ord(letter) < 32 for letter in text):
            raise NotConfigured(say("{variable} holds a control character.", variable=variable))
    if len(address.database.encode()) > LONGEST_NAME:
        raise NotConfigured(
            say(
                "{variable} names a database of more than {longest} characters, which there cannot be.",
                variable=variable,
                longest=LONGEST_NAME,
            )
        )


def incomplete(variable: str, example: str) -> NotConfigured:
    """The error for a URL that lacks something."""
    return NotConfigured(
        say("{variable} is not complete: it has to look like {example}.", variable=variable, example=example)
    )
