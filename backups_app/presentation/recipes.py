"""Recipes: commands for what no button does, filled in for this system. A test runs each, word for word."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import dataclass, replace

from django.conf import settings
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from backups_app import config
from backups_app.errors import QradminError
from backups_app.models import Backup

A_NAME = "qrdb_20250525_143022.sql"
A_CONTAINER = "qr_generator_api"


@dataclass(frozen=True)
class Part:
    """One step of a recipe: what it does, and the commands for it."""

    text: str | Promise
    commands: str


@dataclass(frozen=True)
class Recipe:
    """Commands for a shell, one part after the other in the same session."""

    title: str | Promise
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Place:
    """What a recipe works with: the database's server, the backup, and the API's container."""

    host: str = "db.example.org"
    port: int = 5432
    user: str = "qr_user"
    database: str = "qrdb"
    major: str = "15"
    name: str = A_NAME
    container: str = A_CONTAINER
    trial: str = ""  # a trial database that is there already
    migrate: tuple[str, ...] = ("alembic", "upgrade", "head")


def here(backup: Backup | None, trial: str = "") -> Place:
    """As the settings have it, and this backup; examples where nothing is set."""
    place = Place(
        trial=trial,
        major=(backup.server_version if backup else "").partition(".")[0] or Place.major,
        name=backup.name if backup else A_NAME,
        container=settings.API_CONTAINER or A_CONTAINER,
    )
    with suppress(QradminError):
        place = replace(place, migrate=config.migrate_command())
    with suppress(QradminError):
        server = config.managed_database()
        place = replace(place, host=server.host, port=server.port, user=server.user, database=server.database)
    return place


def rows(place: Place) -> Recipe:
    """Chosen QR codes with their scans, out of a backup into the live database; nothing is overwritten."""
    return Recipe(
        _("Bring back single QR codes by hand"),
        (
            _beginning(place, "rows", 'cd "$(mktemp -d)"\n'),
            *_second_database(place),
            Part(
                _("See which QR codes the backup has and the live database has not."),
                r"""psql --dbname="$LIVE" --command="\copy (SELECT id FROM qr_codes) TO 'live.csv' CSV"
psql --dbname="$COPY" --set=ON_ERROR_STOP=1 <<'SQL'
CREATE TABLE live (id varchar PRIMARY KEY);
\copy live FROM 'live.csv' CSV
SELECT id, short_id, title, created_at FROM qr_codes
 WHERE id NOT IN (SELECT id FROM live) ORDER BY created_at;
SQL
""",
            ),
            Part(
                _("Name those that shall come back, and write them and their scans into two files."),
                r"""psql --dbname="$COPY" --set=ON_ERROR_STOP=1 <<'SQL'
CREATE TABLE wanted (id varchar PRIMARY KEY);
INSERT INTO wanted VALUES ('id of a QR code'), ('id of another');
\copy (SELECT q.* FROM qr_codes q JOIN wanted w ON w.id = q.id) TO 'codes.csv' CSV HEADER
\copy (SELECT s.* FROM scan_logs s JOIN wanted w ON w.id = s.qr_code_id) TO 'scans.csv' CSV HEADER
SQL
""",
            ),
            Part(
                _(
                    "Put them into the live database, all or nothing. What is there already stays as it is;"
                    " columns that differ stop it."
                ),
                r"""psql --dbname="$LIVE" --set=ON_ERROR_STOP=1 --single-transaction --file=- <<'SQL'
CREATE TEMPORARY TABLE codes (LIKE qr_codes) ON COMMIT DROP;
CREATE TEMPORARY TABLE scans (LIKE scan_logs) ON COMMIT DROP;
\copy codes FROM 'codes.csv' WITH (FORMAT csv, HEADER match)
\copy scans FROM 'scans.csv' WITH (FORMAT csv, HEADER match)
INSERT INTO qr_codes SELECT * FROM codes ON CONFLICT DO NOTHING;
INSERT INTO scan_logs SELECT * FROM scans ON CONFLICT DO NOTHING;
SQL
""",
            ),
            Part(
                _("Validate the database with its button, scan one of the codes, then clear up."),
                f"{_drop(place)}rm live.csv codes.csv scans.csv\n",
            ),
        ),
    )


def trial(place: Place) -> Recipe:
    """The new version's migrations, tried on a restored copy beside the live database."""
    entry, *words = place.migrate
    return Recipe(
        _("Try the migrations on a copy"),
        (
            _beginning(place, "trial", "NEW_IMAGE=registry.example.org/qr-api:new\n"),
            *_second_database(place),
            Part(
                _(
                    "On the API’s machine, in the QR system’s folder, run the new version’s migrations on the"
                    " copy, in a container of its own that serves nothing; in another shell, give the first"
                    " block again. Special characters of the password have to be percent-encoded."
                ),
                f"""export POSTGRES_HOST="$PGHOST" POSTGRES_PORT="$PGPORT" POSTGRES_DB="$COPY"
export PG_DATABASE_URL="postgresql://$PGUSER:$PGPASSWORD@$PGHOST:$PGPORT/$POSTGRES_DB"
docker run --rm --network qr_generator_network --env-file .env --env POSTGRES_HOST --env POSTGRES_PORT \\
    --env POSTGRES_DB --env PG_DATABASE_URL --workdir /app --entrypoint {shlex.quote(entry)} \\
    "$NEW_IMAGE" {shlex.join(words)}
""",
            ),
            Part(
                _(
                    "The copy has to be at the new revision with every row of the backup; the live database"
                    " at its own revision, as before."
                ),
                """for DATABASE in "$COPY" "$LIVE"; do
    psql --dbname="$DATABASE" --command="SELECT current_database(), version_num,
        (SELECT count(*) FROM qr_codes) AS codes, (SELECT count(*) FROM scan_logs) AS scans
        FROM alembic_version"
done
""",
            ),
            Part(
                _("Validate the copy with its button, then drop it.") if place.trial else _("Drop the copy."),
                _drop(place),
            ),
        ),
    )


def elsewhere(place: Place) -> Recipe:
    """The same on a server to which the database moves: no trial database is there."""
    return trial(replace(place, trial=""))


def files(place: Place) -> Recipe:
    """The application's data and the configuration: what is no part of a database."""
    container = shlex.quote(place.container)
    return Recipe(
        _("Save the application’s data and the configuration"),
        (
            Part(
                _(
                    "In the QR system’s folder, on its machine. The files hold passwords: keep them where"
                    " the backups are."
                ),
                f"""set -o pipefail
umask 077
STAMP=$(date -u +%Y%m%d_%H%M%S)
docker cp {container}:/app/data - | gzip > "qr_data_$STAMP.tar.gz"
tar --create --gzip --file="qr_config_$STAMP.tar.gz" \\
    .env docker-compose.yml traefik.yml dynamic_conf.yml users.htpasswd
sha256sum "qr_data_$STAMP.tar.gz" "qr_config_$STAMP.tar.gz" > "qr_files_$STAMP.sha256"
""",
            ),
        ),
    )


def files_back(place: Place) -> Recipe:
    """The way back of `files`."""
    container = shlex.quote(place.container)
    return Recipe(
        _("Put the application’s data and the configuration back"),
        (
            Part(
                _("In the QR system’s folder, with the three files beside you and the API stopped."),
                f"""STAMP=20250525_143022
set -o pipefail
sha256sum --check "qr_files_$STAMP.sha256"
tar --extract --gzip --file="qr_config_$STAMP.tar.gz"
gzip --decompress --stdout "qr_data_$STAMP.tar.gz" | docker cp --archive - {container}:/app
""",
            ),
        ),
    )


def _beginning(place: Place, purpose: str, more: str) -> Part:
    quoted = {name: shlex.quote(str(value)) for name, value in vars(place).items()}
    if place.trial:
        text = _(
            "In a bash that has psql: with the compose file, docker compose exec worker bash. The password is"
            " that of the database’s role. COPY is the newest trial database."
        )
        copy = f"COPY={quoted['trial']}"
    else:
        text = _(
            "In a bash that has PostgreSQL’s programs of the server’s major version, in the folder with the"
            " backup’s file: with the compose file, docker compose exec --workdir /backups worker bash. The"
            " password is that of the database’s role."
        )
        copy = f'COPY="${{LIVE}}_{purpose}" FILE="$PWD"/{quoted["name"]}'
    return Part(
        text,
        f"""umask 077
export PATH=/usr/lib/postgresql/{quoted["major"]}/bin:"$PATH"
export PGHOST={quoted["host"]} PGPORT={quoted["port"]} PGUSER={quoted["user"]}
LIVE={quoted["database"]}
{copy}
{more}read -rsp 'Password: ' PGPASSWORD && export PGPASSWORD
""",
    )


def _second_database(place: Place) -> tuple[Part, ...]:
    """Nothing to do where a trial database is there already."""
    if place.trial:
        return ()
    text = _("Restore it into a second database. The live one is not touched.")
    commands = """createdb --template=template0 --encoding=UTF8 "$COPY"
pg_restore --exit-on-error --no-owner --no-privileges --dbname="$COPY" "$FILE"
"""
    return (Part(text, commands),)


def _drop(place: Place) -> str:
    """A trial database has a button for it, and goes by itself."""
    return "" if place.trial else 'dropdb "$COPY"\n'
