"""Whether this role can carry out a restore, asked before anything is begun."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from backups_app.sentences import say
from backups_app.systems.postgres.activity import APPLICATION_NAME, MAY_END
from backups_app.systems.postgres.connections import Server, connect, translated
from backups_app.systems.postgres.queries import one_row

Connection = psycopg.Connection[TupleRow]

_ROLE = """
SELECT r.rolname, r.rolsuper, r.rolsuper OR r.rolcreatedb, o.rolname,
       pg_catalog.pg_has_role(o.oid, 'USAGE'), pg_catalog.pg_has_role(o.oid, {right})
  FROM pg_catalog.pg_roles r, pg_catalog.pg_database d
  JOIN pg_catalog.pg_roles o ON o.oid = d.datdba
 WHERE r.rolname = current_user AND d.datname = current_database()
"""

_SESSIONS_BEYOND_REACH = f"""
SELECT theirs.rolname, theirs.rolsuper, count(*),
       string_agg(DISTINCT nullif(a.application_name, ''), ', ')
  FROM pg_catalog.pg_stat_activity a
  JOIN pg_catalog.pg_roles me ON me.rolname = current_user
  JOIN pg_catalog.pg_roles theirs ON theirs.oid = a.usesysid
 WHERE a.datname = current_database() AND a.pid <> pg_catalog.pg_backend_pid()
   AND coalesce(a.backend_type, 'client backend') = 'client backend' AND NOT {MAY_END}
 GROUP BY theirs.rolname, theirs.rolsuper
 ORDER BY theirs.rolname
"""

_PREPARED = (
    "SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = current_database() ORDER BY prepared"
)

# Extensions that only a superuser may create; plpgsql is in every new database already.
_EXTENSIONS = """
SELECT e.extname
  FROM pg_catalog.pg_extension e
  LEFT JOIN pg_catalog.pg_available_extension_versions v ON v.name = e.extname AND v.version = e.extversion
 WHERE e.extname <> 'plpgsql' AND coalesce(v.superuser, true) AND NOT coalesce(v.trusted, false)
 ORDER BY e.extname
"""

# A restore gives each object back to its owner, which takes the right to become that owner. Members of
# extensions are made by CREATE EXTENSION; 16384 is the first number that is not PostgreSQL's own.
_FOREIGN_OWNERS = """
WITH owned(class, id, owner) AS (
    SELECT 'pg_catalog.pg_class'::regclass, oid, relowner FROM pg_catalog.pg_class
     WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND relpersistence <> 't'
    UNION ALL SELECT 'pg_catalog.pg_proc'::regclass, oid, proowner FROM pg_catalog.pg_proc
    UNION ALL SELECT 'pg_catalog.pg_namespace'::regclass, oid, nspowner FROM pg_catalog.pg_namespace
     WHERE nspname !~ '^pg_'
    UNION ALL SELECT 'pg_catalog.pg_type'::regclass, t.oid, t.typowner FROM pg_catalog.pg_type t
     WHERE t.typelem = 0 AND t.typrelid = 0
    UNION ALL SELECT 'pg_catalog.pg_event_trigger'::regclass, oid, evtowner FROM pg_catalog.pg_event_trigger
    UNION ALL SELECT 'pg_catalog.pg_publication'::regclass, oid, pubowner FROM pg_catalog.pg_publication
    UNION ALL SELECT 'pg_catalog.pg_foreign_server'::regclass, oid, srvowner FROM pg_catalog.pg_foreign_server
    UNION ALL SELECT 'pg_catalog.pg_largeobject'::regclass, oid, lomowner
                FROM pg_catalog.pg_largeobject_metadata
)
SELECT r.rolname, count(*)
  FROM owned o
  JOIN pg_catalog.pg_roles r ON r.oid = o.owner
 WHERE o.id >= 16384
   AND NOT pg_catalog.pg_has_role(r.oid, {right})
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = o.class AND d.objid = o.id AND d.deptype = 'e')
 GROUP BY r.rolname
 ORDER BY r.rolname
"""


def restore_problems(server: Server) -> list[str]:
    """What would make a restore of ``server``'s database fail, each a sentence that says what to grant or do.

    Empty when a restore can begin. Raises ServerUnavailable when the database cannot be reached.
    """
    with translated(server), connect(server, application_name=APPLICATION_NAME) as connection:
        return problems_of(connection)


def problems_of(connection: Connection) -> list[str]:
    """The same of the database that ``connection`` is in."""
    return [sentence for check in _CHECKS for sentence in check(connection)]


def _role_problems(connection: Connection) -> Iterator[str]:
    query = sql.SQL(_ROLE).format(right=_right_to_become(connection))
    user, is_superuser, may_create, owner, is_member, may_become = one_row(connection, query)
    if not may_create:
        yield say(
            "The role {user} may not create databases, and a backup is restored into a new one: "
            "let a superuser run {statement};",
            user=user,
            statement=f"ALTER ROLE {_quoted(connection, user)} CREATEDB",
        )
    if not is_superuser and not (is_member and may_become):
        yield say(
            "The database belongs to {owner}, so {user} may not rename it: let a superuser run {statement};",
            owner=owner,
            user=user,
            statement=f"GRANT {_quoted(connection, owner)} TO {_quoted(connection, user)}",
        )


def _session_problems(connection: Connection) -> Iterator[str]:
    (user,) = one_row(connection, "SELECT current_user")
    grant = f"GRANT pg_signal_backend TO {_quoted(connection, user)}"
    for role, is_superuser, count, applications in connection.execute(_SESSIONS_BEYOND_REACH).fetchall():
        named = applications or say("no name")
        if is_superuser:
            yield _superusers_sessions(user, role, count, named)
        else:
            yield _others_sessions(user, role, count, named, grant)


def _superusers_sessions(user: str, role: str, count: int, applications: str) -> str:
    if count == 1:
        return say(
            "The role {user} may not end 1 connection of {role} to this database ({applications}): "
            "close it before the restore.",
            user=user,
            role=role,
            applications=applications,
        )
    return say(
        "The role {user} may not end {count} connections of {role} to this database ({applications}): "
        "close them before the restore.",
        user=user,
        count=count,
        role=role,
        applications=applications,
    )


def _others_sessions(user: str, role: str, count: int, applications: str, grant: str) -> str:
    if count == 1:
        return say(
            "The role {user} may not end 1 connection of {role} to this database ({applications}): "
            "let a superuser run {statement};",
            user=user,
            role=role,
            applications=applications,
            statement=grant,
        )
    return say(
        "The role {user} may not end {count} connections of {role} to this database ({applications}): "
        "let a superuser run {statement};",
        user=user,
        count=count,
        role=role,
        applications=applications,
        statement=grant,
    )


def _prepared_problems(connection: Connection) -> Iterator[str]:
    for (gid,) in connection.execute(_PREPARED).fetchall():
        literal = sql.Literal(gid).as_string(connection)
        yield say(
            "The prepared transaction {name} keeps the database in use: "
            "run COMMIT PREPARED {literal}; or ROLLBACK PREPARED {literal};",
            name=gid,
            literal=literal,
        )


def _extension_problems(connection: Connection) -> Iterator[str]:
    if _is_superuser(connection):
        return
    for (name,) in connection.execute(_EXTENSIONS).fetchall():
        yield say(
            "Only a superuser may create the extension {name}, which the database uses: "
            "restore with a superuser's login.",
            name=name,
        )


def _ownership_problems(connection: Connection) -> Iterator[str]:
    if _is_superuser(connection):
        return
    (user,) = one_row(connection, "SELECT current_user")
    query = sql.SQL(_FOREIGN_OWNERS).format(right=_right_to_become(connection))
    for owner, count in connection.execute(query).fetchall():
        grant = f"GRANT {_quoted(connection, owner)} TO {_quoted(connection, user)}"
        if count == 1:
            yield say(
                "1 object belongs to {owner}, whom {user} may not give it back to: "
                "let a superuser run {statement};",
                owner=owner,
                user=user,
                statement=grant,
            )
        else:
            yield say(
                "{count} objects belong to {owner}, whom {user} may not give them back to: "
                "let a superuser run {statement};",
                count=count,
                owner=owner,
                user=user,
                statement=grant,
            )


_CHECKS: tuple[Callable[[Connection], Iterator[str]], ...] = (
    _role_problems,
    _session_problems,
    _prepared_problems,
    _extension_problems,
    _ownership_problems,
)


def _is_superuser(connection: Connection) -> bool:
    query = "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
    return bool(one_row(connection, query)[0])


def _right_to_become(connection: Connection) -> sql.Literal:
    """Since 16 a member may be allowed to inherit from a role but not to act as it."""
    return sql.Literal("SET" if connection.info.server_version >= 160000 else "MEMBER")


def _quoted(connection: Connection, name: str) -> str:
    return str(one_row(connection, "SELECT pg_catalog.quote_ident(%s)", (name,))[0])
