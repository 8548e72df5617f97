"""A new, empty database that is in everything but its tables like another one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from backups_app.errors import EnvironmentProblem, MissingPrivilege
from backups_app.sentences import say
from backups_app.systems.postgres.connections import Server
from backups_app.systems.postgres.databases import insist_on_fitting_name, maintenance
from backups_app.systems.postgres.queries import one_row

# As JSON, because the columns differ: daticulocale became datlocale in 17, daticurules came with 16.
_MODEL = """
SELECT pg_catalog.to_jsonb(d),
       pg_catalog.pg_get_userbyid(d.datdba),
       pg_catalog.pg_encoding_to_char(d.encoding),
       s.spcname,
       d.dattablespace = (SELECT dattablespace FROM pg_catalog.pg_database WHERE datname = 'template0'),
       pg_catalog.has_tablespace_privilege(s.oid, 'CREATE'),
       pg_catalog.shobj_description(d.oid, 'pg_database')
  FROM pg_catalog.pg_database d
  JOIN pg_catalog.pg_tablespace s ON s.oid = d.dattablespace
 WHERE d.datname = %s
"""

_MAY_GIVE_TO_OWNER = """
SELECT r.rolsuper OR pg_catalog.pg_has_role(%s::name, {right}), r.rolsuper OR r.rolcreatedb, r.rolname
  FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
"""

# Privileges in the order in which they can be granted again: the owner's own grants first.
_PRIVILEGES = """
SELECT g.rolname, CASE WHEN x.grantee <> 0 THEN e.rolname END, x.privilege_type, x.is_grantable
  FROM pg_catalog.pg_database d,
       LATERAL pg_catalog.aclexplode(d.datacl) WITH ORDINALITY
               AS x(grantor, grantee, privilege_type, is_grantable, place)
  LEFT JOIN pg_catalog.pg_roles g ON g.oid = x.grantor
  LEFT JOIN pg_catalog.pg_roles e ON e.oid = x.grantee
 WHERE d.datname = %s AND (x.grantee = 0 OR e.oid IS NOT NULL)
 ORDER BY x.grantor <> d.datdba, x.place
"""

_SETTINGS = """
SELECT r.rolname, split_part(c.entry, '=', 1), substr(c.entry, strpos(c.entry, '=') + 1)
  FROM pg_catalog.pg_db_role_setting s
  JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
  LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
 CROSS JOIN LATERAL unnest(s.setconfig) WITH ORDINALITY AS c(entry, place)
 WHERE d.datname = %s AND (s.setrole = 0 OR r.oid IS NOT NULL)
 ORDER BY s.setrole, c.place
"""

# Stored as lists of quoted names (GUC_LIST_QUOTE), and to be set as lists again: the same ones as in pg_dump.
_LISTS = {
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
}


_LIST_ELEMENT = re.compile(r'"((?:[^"]|"")*)"|([^\s,"]+)')


@dataclass(frozen=True)
class _Model:
    owner: str
    encoding: str
    tablespace: str
    has_default_tablespace: bool
    may_use_tablespace: bool
    comment: str | None
    row: dict[str, Any]


def create_like(server: Server, name: str, *, live: str) -> list[str]:
    """Create ``name``, empty, with the encoding, locale, owner and all else that ``live`` has.

    What pg_dump of one database does not carry comes along: privileges, comment, connection limit,
    settings of the database and of roles in it. Returns a sentence for each thing that this role may
    not copy, with the statement for a superuser to run. When it fails, ``name`` does not exist.
    """
    insist_on_fitting_name(name)
    with maintenance(server, avoiding={name}) as connection:
        model = _model_of(connection, live)
        _insist_on_privileges(connection, model)
        _create(connection, name, model)
        try:
            return [*_tablespace_warning(name, model), *_copy_properties(connection, name, live, model)]
        except BaseException:
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
            raise


def creation(name: str, model: _Model) -> sql.Composed:
    """The CREATE DATABASE statement for a database like ``model``."""
    row = model.row
    options = [
        sql.SQL("TEMPLATE template0"),
        sql.SQL("OWNER {}").format(sql.Identifier(model.owner)),
        sql.SQL("ENCODING {}").format(sql.Literal(model.encoding)),
        sql.SQL("LC_COLLATE {}").format(sql.Literal(row["datcollate"])),
        sql.SQL("LC_CTYPE {}").format(sql.Literal(row["datctype"])),
        *_locale_options(row),
    ]
    if not model.has_default_tablespace and model.may_use_tablespace:
        options.append(sql.SQL("TABLESPACE {}").format(sql.Identifier(model.tablespace)))
    if row["datconnlimit"] >= 0:
        options.append(sql.SQL("CONNECTION LIMIT {}").format(sql.Literal(row["datconnlimit"])))
    return sql.SQL("CREATE DATABASE {} WITH {}").format(sql.Identifier(name), sql.SQL(" ").join(options))


def _locale_options(row: dict[str, Any]) -> Iterator[sql.Composable]:
    provider = row.get("datlocprovider")
    locale = row.get("datlocale") or row.get("daticulocale")
    if provider == "c":
        yield sql.SQL("LOCALE_PROVIDER libc")
    elif provider == "i":
        yield sql.SQL("LOCALE_PROVIDER icu ICU_LOCALE {}").format(sql.Literal(locale))
        if row.get("daticurules"):
            yield sql.SQL("ICU_RULES {}").format(sql.Literal(row["daticurules"]))
    elif provider == "b":
        yield sql.SQL("LOCALE_PROVIDER builtin BUILTIN_LOCALE {}").format(sql.Literal(locale))


def _model_of(connection: psycopg.Connection[TupleRow], live: str) -> _Model:
    found = connection.execute(_MODEL, (live,)).fetchone()
    if found is None:
        raise EnvironmentProblem(
            say("There is no database {name} on this server: check the configured name.", name=live)
        )
    row, owner, encoding, tablespace, is_default, may_use, comment = found
    return _Model(owner, encoding, tablespace, is_default, may_use, comment, row)


def _insist_on_privileges(connection: psycopg.Connection[TupleRow], model: _Model) -> None:
    # Since 16 a member may be allowed to inherit from a role but not to give things to it.
    right = "SET" if connection.info.server_version >= 160000 else "MEMBER"
    query = sql.SQL(_MAY_GIVE_TO_OWNER).format(right=sql.Literal(right))
    is_owner, may_create, user = one_row(connection, query, (model.owner,))
    if not may_create:
        statement = sql.SQL("ALTER ROLE {} CREATEDB").format(sql.Identifier(user)).as_string(connection)
        raise MissingPrivilege(
            say(
                "The role {user} may not create databases, and a backup is restored into a new one: "
                "let a superuser run {statement};",
                user=user,
                statement=statement,
            )
        )
    if not is_owner:
        grant = sql.SQL("GRANT {} TO {}").format(sql.Identifier(model.owner), sql.Identifier(user))
        raise MissingPrivilege(
            say(
                "The role {user} may not create a database for {owner}, who owns the live one: "
                "let a superuser run {statement};",
                user=user,
                owner=model.owner,
                statement=grant.as_string(connection),
            )
        )


def _create(connection: psycopg.Connection[TupleRow], name: str, model: _Model) -> None:
    try:
        connection.execute(creation(name, model))
    except psycopg.errors.DuplicateDatabase as error:
        raise EnvironmentProblem(
            say("There is a database {name} already; it was left as it is.", name=name), detail=str(error)
        ) from error


def _tablespace_warning(name: str, model: _Model) -> Iterator[str]:
    if not model.has_default_tablespace and not model.may_use_tablespace:
        yield say(
            "The new database does not lie in the tablespace {tablespace}, in which this role may not "
            "create; a superuser can move it: ALTER DATABASE {name} SET TABLESPACE {tablespace};",
            tablespace=model.tablespace,
            name=name,
        )


def _copy_properties(
    connection: psycopg.Connection[TupleRow], name: str, live: str, model: _Model
) -> Iterator[str]:
    database = sql.Identifier(name)
    if model.comment is not None:
        comment = sql.SQL("COMMENT ON DATABASE {} IS {}").format(database, sql.Literal(model.comment))
        yield from _tried(connection, comment)
    if model.row["datacl"] is not None:
        yield from _copy_privileges(connection, database, live, model.owner)
    for role, setting, value in connection.execute(_SETTINGS, (live,)).fetchall():
        yield from _tried(connection, _setting(database, role, setting, value))


def _copy_privileges(
    connection: psycopg.Connection[TupleRow], database: sql.Identifier, live: str, owner: str
) -> Iterator[str]:
    for grantee in (sql.SQL("PUBLIC"), sql.Identifier(owner)):
        yield from _tried(connection, sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(database, grantee))
    for grantor, grantee_name, privilege, is_grantable in connection.execute(_PRIVILEGES, (live,)).fetchall():
        grant = sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(
            sql.SQL(privilege),
            database,
            sql.SQL("PUBLIC") if grantee_name is None else sql.Identifier(grantee_name),
            sql.SQL(" WITH GRANT OPTION" if is_grantable else ""),
        )
        if grantor == owner or not _was_run_as(connection, grantor, grant):
            yield from _tried(connection, grant)


def _was_run_as(connection: psycopg.Connection[TupleRow], role: str | None, statement: sql.Composed) -> bool:
    """Grant in the name of who granted it before; without that right, the owner grants it."""
    if role is None:
        return False
    try:
        with connection.transaction():
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
            connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


def _setting(database: sql.Identifier, role: str | None, setting: str, value: str) -> sql.Composed:
    whose = (
        sql.SQL("ALTER DATABASE {}").format(database)
        if role is None
        else sql.SQL("ALTER ROLE {} IN DATABASE {}").format(sql.Identifier(role), database)
    )
    # A setting of an extension has two parts, app.tenant, which are quoted each.
    name = sql.SQL(".").join(sql.Identifier(part) for part in setting.split("."))
    return sql.SQL("{} SET {} TO {}").format(whose, name, _setting_value(setting, value))


def _setting_value(setting: str, value: str) -> sql.Composable:
    if setting.lower() not in _LISTS:
        return sql.Literal(value)
    return sql.SQL(", ").join(sql.Literal(part) for part in split_list(value) or [""])


def split_list(value: str) -> list[str]:
    """The names in a list setting as it is stored: ``"$user", public`` is ``$user`` and ``public``."""
    return [
        quoted.replace('""', '"') if quoted or not plain else plain
        for quoted, plain in _LIST_ELEMENT.findall(value)
    ]


def _tried(connection: psycopg.Connection[TupleRow], statement: sql.Composed) -> Iterator[str]:
    """Run ``statement``; when PostgreSQL refuses it, a sentence with it for a superuser."""
    try:
        with connection.transaction():
            connection.execute(statement)
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        reason = error.diag.message_primary or type(error).__name__
        yield say(
            "One property of the live database could not be copied ({reason}); a superuser can: {statement};",
            reason=reason,
            statement=statement.as_string(connection),
        )
