"""A secret is hidden wherever it stands for itself, and a short one tears no text and no name apart."""

from __future__ import annotations

import pytest

from backups_app.systems.processes import Command
from backups_app.systems.secrecy import hidden

NAMES = ("qrdb", "qr_owner", "db.example.org")


@pytest.mark.parametrize(
    ("text", "secret", "told"),
    [
        # a long one anywhere
        ("cannot parse x\\thunter2-hunter2\\n", "hunter2-hunter2", "cannot parse x\\t***\\n"),
        ("postgresql://me:hunter2-hunter2@db/x", "hunter2-hunter2", "postgresql://me:***@db/x"),
        # a short one as a whole word
        ("the login with hunter2 failed.", "hunter2", "the login with *** failed."),
        ("password=hunter2", "hunter2", "password=***"),
        ('FATAL: "hunter2".', "hunter2", 'FATAL: "***".'),
        ("postgresql://me:hunter2@db/x", "hunter2", "postgresql://me:***@db/x"),
        # and nowhere within another one
        ("backups_app/backups, /var/backups/a", "backups", "backups_app/backups, /var/backups/a"),
        ("qrdb_20261125_120000.sql", "sql", "qrdb_20261125_120000.sql"),
        ("qrdb_20261125_120000.sql", "20261125", "qrdb_20261125_120000.sql"),
        ("Restore 12: restored", "restore", "Restore 12: restored"),
        # one that is a public name where it stands as a password
        (
            "There is no database qrdb at db.example.org.",
            "qrdb",
            "There is no database qrdb at db.example.org.",
        ),
        ('{"backup": "qrdb_20261125_120000.sql"}', "qrdb", '{"backup": "qrdb_20261125_120000.sql"}'),
        (
            "postgresql://qr_owner:qrdb@db.example.org/qrdb",
            "qrdb",
            "postgresql://qr_owner:***@db.example.org/qrdb",
        ),
        ("PGPASSWORD=qrdb and password: 'qrdb'", "qrdb", "PGPASSWORD=*** and password: '***'"),
        # one that is part of a public name
        ("db.example.org has no example", "example", "db.example.org has no ***"),
        # a very short one
        ("a is a letter, password=a", "a", "a is a letter, password=***"),
        ("Backup 12 of 12, redis://:12@h", "12", "Backup 12 of 12, redis://:***@h"),
        ("nothing to hide", "", "nothing to hide"),
    ],
)
def test_a_secret_is_hidden_where_it_stands_for_itself(text: str, secret: str, told: str) -> None:
    assert hidden(text, [secret], NAMES) == told


def test_the_longest_secret_goes_first() -> None:
    assert hidden("other first-second", ["first", "first-second", "other"]) == "*** ***"


def test_a_programs_error_keeps_the_name_of_its_database() -> None:
    command = Command(("pg_dump",), {"PGPASSWORD": "qrdb", "PGDATABASE": "qrdb", "PGUSER": "qr_owner"})

    said = 'pg_dump: error: database "qrdb" does not exist (password=qrdb)'

    assert command.masked(said) == 'pg_dump: error: database "qrdb" does not exist (password=***)'
