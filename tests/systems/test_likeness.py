"""A database made like another one has all that a dump does not carry."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import sql

from backups_app.errors import EnvironmentProblem, MissingPrivilege
from backups_app.systems.postgres.connections import Server
from backups_app.systems.postgres.databases import exists
from backups_app.systems.postgres.likeness import create_like, split_list
from deploy.demo import embedded
from tests.conftest import connect_as_superuser, databases_like, on_all_majors
from tests.systems.pg_tools import as_superuser

Connection = psycopg.Connection[Any]

LIVE, NEW = "qrdb", "qrdb_new"

# All of pg_database but what belongs to one database alone; the settings and the comment besides.
PROPERTIES = """
SELECT to_jsonb(d) - ARRAY['oid', 'datname', 'datfrozenxid', 'datminmxid', 'dathasloginevt'],
       shobj_description(d.oid, 'pg_database'),
       (SELECT jsonb_object_agg(s.setrole::text, s.setconfig) FROM pg_db_role_setting s
         WHERE s.setdatabase = d.oid)
  FROM pg_database d WHERE d.datname = %s
"""


def properties(connection: Connection, name: str) -> tuple[Any, ...]:
    row = connection.execute(PROPERTIES, (name,)).fetchone()
    assert row is not None
    return tuple(row)


@on_all_majors
def test_a_plain_database_is_copied_with_all_its_properties(managed: Server, superuser: Connection) -> None:
    assert create_like(managed, NEW, live=LIVE) == []

    assert properties(superuser, NEW) == properties(superuser, LIVE)


@on_all_majors
def test_privileges_are_copied_with_grant_options_and_without_public(
    managed: Server, superuser: Connection, owner: Connection
) -> None:
    superuser.execute("CREATE ROLE reader LOGIN")
    superuser.execute('CREATE ROLE "Odd Role"')
    owner.execute("REVOKE CONNECT ON DATABASE qrdb FROM PUBLIC")
    owner.execute("REVOKE CREATE ON DATABASE qrdb FROM qr_owner")
    owner.execute("GRANT CONNECT, TEMPORARY ON DATABASE qrdb TO reader WITH GRANT OPTION")
    owner.execute('GRANT CREATE ON DATABASE qrdb TO "Odd Role"')

    assert create_like(managed, NEW, live=LIVE) == []

    assert properties(superuser, NEW) == properties(superuser, LIVE)
    assert superuser.execute(
        "SELECT has_database_privilege('reader', %(new)s, 'CONNECT WITH GRANT OPTION'),"
        " has_database_privilege('Odd Role', %(new)s, 'CONNECT'),"
        " has_database_privilege('qr_owner', %(new)s, 'CREATE')",
        {"new": NEW},
    ).fetchone() == (True, False, False)


@on_all_majors
def test_privileges_that_are_all_revoked_stay_revoked(
    managed: Server, superuser: Connection, owner: Connection
) -> None:
    owner.execute("REVOKE ALL ON DATABASE qrdb FROM PUBLIC")

    assert create_like(managed, NEW, live=LIVE) == []

    superuser.execute("CREATE ROLE stranger LOGIN")
    assert superuser.execute(
        "SELECT has_database_privilege('stranger', %s, 'CONNECT')", (NEW,)
    ).fetchone() == (False,)
    assert properties(superuser, NEW) == properties(superuser, LIVE)


@on_all_majors
def test_a_grant_by_a_role_with_grant_option_keeps_who_granted_it(
    managed: Server, superuser: Connection, postgres_server: embedded.EmbeddedServer
) -> None:
    superuser.execute("CREATE ROLE middle")
    superuser.execute("CREATE ROLE last")
    superuser.execute("GRANT CONNECT ON DATABASE qrdb TO middle WITH GRANT OPTION")
    superuser.execute("SET ROLE middle")
    superuser.execute("GRANT CONNECT ON DATABASE qrdb TO last")
    superuser.execute("RESET ROLE")

    assert create_like(as_superuser(managed, postgres_server), NEW, live=LIVE) == []
    create_like(managed, "qrdb_by_owner", live=LIVE)

    assert properties(superuser, NEW) == properties(superuser, LIVE)
    assert superuser.execute("SELECT has_database_privilege('last', 'qrdb_by_owner', 'CONNECT')").fetchone()


@on_all_majors
def test_settings_of_the_database_and_of_roles_in_it_are_copied_to_the_letter(
    managed: Server, superuser: Connection, owner: Connection, postgres_server: embedded.EmbeddedServer
) -> None:
    superuser.execute("CREATE ROLE reader")
    for statement in (
        "ALTER DATABASE qrdb SET timezone TO 'Europe/Berlin'",
        "ALTER DATABASE qrdb SET application_name TO 'it''s \\ \"quoted\", = and more'",
        'ALTER DATABASE qrdb SET search_path TO "$user", public, "Mixed, Case", "quo""te"',
        "ALTER DATABASE qrdb SET work_mem TO '65536kB'",
        "ALTER DATABASE qrdb SET app.tenant TO 'a=b=c'",
        "ALTER DATABASE qrdb SET temp_tablespaces TO ''",
        "ALTER ROLE qr_owner IN DATABASE qrdb SET search_path TO ''",
        "ALTER ROLE reader IN DATABASE qrdb SET statement_timeout TO '5s'",
        "ALTER DATABASE qrdb SET log_statement TO 'ddl'",
        "COMMENT ON DATABASE qrdb IS 'The college''s \"codes\"'",
        "ALTER DATABASE qrdb CONNECTION LIMIT 42",
    ):
        superuser.execute(statement)

    assert create_like(as_superuser(managed, postgres_server), NEW, live=LIVE) == []

    assert properties(superuser, NEW) == properties(superuser, LIVE)
    with (
        connect_as_superuser(postgres_server, NEW) as new,
        connect_as_superuser(postgres_server, LIVE) as live,
    ):
        assert new.execute("SHOW search_path").fetchone() == live.execute("SHOW search_path").fetchone()


@on_all_majors
def test_what_the_owner_may_not_copy_is_told_with_the_statement_for_a_superuser(
    managed: Server, superuser: Connection
) -> None:
    superuser.execute("CREATE ROLE reader")
    superuser.execute("ALTER ROLE reader IN DATABASE qrdb SET statement_timeout TO '5s'")
    superuser.execute("ALTER DATABASE qrdb SET log_statement TO 'ddl'")
    superuser.execute("ALTER DATABASE qrdb SET work_mem TO '64MB'")

    warnings = create_like(managed, NEW, live=LIVE)

    statements = [warning.split("a superuser can: ")[1] for warning in warnings]
    assert sorted(statements) == [
        """ALTER DATABASE "qrdb_new" SET "log_statement" TO 'ddl';""",
        """ALTER ROLE "reader" IN DATABASE "qrdb_new" SET "statement_timeout" TO '5s';""",
    ]
    for statement in statements:
        superuser.execute(statement)
    live_properties, new_properties = properties(superuser, LIVE), properties(superuser, NEW)
    assert new_properties[:2] == live_properties[:2]
    assert {role: sorted(settings) for role, settings in new_properties[2].items()} == {
        role: sorted(settings) for role, settings in live_properties[2].items()
    }


@on_all_majors
@pytest.mark.parametrize(
    "options",
    [
        "ENCODING 'LATIN1' LOCALE 'C'",
        "ENCODING 'SQL_ASCII' LOCALE 'C'",
        "ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'",
    ],
)
def test_encoding_and_locale_are_those_of_the_live_database(
    managed: Server, superuser: Connection, options: str
) -> None:
    superuser.execute(f"CREATE DATABASE qrdb_odd TEMPLATE template0 OWNER qr_owner {options}")

    assert create_like(managed, NEW, live="qrdb_odd") == []

    assert properties(superuser, NEW) == properties(superuser, "qrdb_odd")


@pytest.mark.parametrize("pg_major", [15], indirect=True)  # the wheel's servers are built without ICU
def test_an_icu_locale_is_that_of_the_live_database(managed: Server, superuser: Connection) -> None:
    superuser.execute(
        "CREATE DATABASE qrdb_icu TEMPLATE template0 OWNER qr_owner ENCODING 'UTF8'"
        " LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk' LOCALE 'C.UTF-8'"
    )

    assert create_like(managed, NEW, live="qrdb_icu") == []

    assert properties(superuser, NEW) == properties(superuser, "qrdb_icu")


@pytest.mark.parametrize("pg_major", [18], indirect=True)
@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "PG_UNICODE_FAST"])
def test_a_builtin_locale_is_that_of_the_live_database(
    managed: Server, superuser: Connection, locale: str
) -> None:
    superuser.execute(
        "CREATE DATABASE qrdb_builtin TEMPLATE template0 OWNER qr_owner ENCODING 'UTF8'"
        f" LOCALE_PROVIDER builtin BUILTIN_LOCALE '{locale}' LOCALE 'C'"
    )

    assert create_like(managed, NEW, live="qrdb_builtin") == []

    assert properties(superuser, NEW) == properties(superuser, "qrdb_builtin")


@on_all_majors
def test_without_createdb_the_statement_that_helps_is_told(managed: Server, superuser: Connection) -> None:
    superuser.execute("ALTER ROLE qr_owner NOCREATEDB")

    with pytest.raises(MissingPrivilege, match='ALTER ROLE "qr_owner" CREATEDB;'):
        create_like(managed, NEW, live=LIVE)

    assert not exists(managed, NEW)


@on_all_majors
def test_a_role_that_cannot_give_the_database_to_its_owner_is_told_so(
    managed: Server, superuser: Connection
) -> None:
    superuser.execute("ALTER DATABASE qrdb OWNER TO postgres")

    with pytest.raises(MissingPrivilege, match='GRANT "postgres" TO "qr_owner";'):
        create_like(managed, NEW, live=LIVE)

    assert not exists(managed, NEW)


@on_all_majors
def test_a_member_of_the_owning_group_makes_a_database_for_the_group(
    managed: Server, superuser: Connection
) -> None:
    superuser.execute("CREATE ROLE app_group")
    superuser.execute("GRANT app_group TO qr_owner")
    superuser.execute("ALTER DATABASE qrdb OWNER TO app_group")
    superuser.execute("GRANT CONNECT ON DATABASE qrdb TO pg_monitor")

    assert create_like(managed, NEW, live=LIVE) == []

    assert properties(superuser, NEW) == properties(superuser, LIVE)


def test_an_existing_database_is_left_as_it_is(managed: Server) -> None:
    create_like(managed, NEW, live=LIVE)

    with pytest.raises(EnvironmentProblem, match="already"):
        create_like(managed, NEW, live=LIVE)

    assert databases_like(managed, "^qrdb") == [LIVE, NEW]


def test_a_missing_model_is_told(managed: Server) -> None:
    with pytest.raises(EnvironmentProblem, match="no database nowhere"):
        create_like(managed, NEW, live="nowhere")


def test_a_failure_while_properties_are_copied_leaves_no_database(
    managed: Server, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner.execute("ALTER DATABASE qrdb SET work_mem TO '64MB'")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("backups_app.systems.postgres.likeness._setting", fail)
    with pytest.raises(KeyboardInterrupt):
        create_like(managed, NEW, live=LIVE)

    assert not exists(managed, NEW)


@on_all_majors
def test_a_database_with_an_odd_name_is_copied(managed: Server, superuser: Connection) -> None:
    odd = 'Odd "name"; --'
    superuser.execute(sql.SQL("CREATE DATABASE {} OWNER qr_owner").format(sql.Identifier(odd)))
    superuser.execute(sql.SQL("COMMENT ON DATABASE {} IS 'odd'").format(sql.Identifier(odd)))

    assert create_like(managed, odd + "2", live=odd) == []

    assert properties(superuser, odd + "2") == properties(superuser, odd)


@pytest.mark.parametrize(
    ("stored", "names"),
    [
        ('"$user", public', ["$user", "public"]),
        ('"a, b", "c""d",e', ["a, b", 'c"d', "e"]),
        ('""', [""]),
        ("", []),
    ],
)
def test_a_stored_list_is_split_into_its_names(stored: str, names: list[str]) -> None:
    assert split_list(stored) == names
