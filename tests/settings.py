"""The site's settings for the tests: no secret, no file and no server of the machine it runs on."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

for name in (
    "API_CONTAINER",
    "API_HEALTH_URL",
    "API_MIGRATE_COMMAND",
    "DRILL_DATABASE_URL",
    "BACKUP_KEEP",
    "SAFETY_BACKUP_DAYS",
):
    os.environ.pop(name, None)
# A file, because an operation's heartbeat has a connection of its own.
SITE_FOLDER = Path(tempfile.mkdtemp(prefix="qradmin-tests-site-"))
atexit.register(shutil.rmtree, SITE_FOLDER, ignore_errors=True)
os.environ.update(
    ENV_FILE=os.devnull,
    SECRET_KEY="only-for-tests-" + 50 * "x",
    DEBUG="False",
    HTTPS_ONLY="False",
    ALLOWED_HOSTS="testserver,localhost,127.0.0.1",
    DATABASE_URL=f"sqlite:///{SITE_FOLDER / 'not-used.sqlite3'}",
    # A test that works on a managed database or on files says which: `managed` and `tmp_path`.
    MANAGED_DATABASE_URL="postgresql://nobody:nothing@127.0.0.1:1/not_set_by_this_test",
    BACKUP_LOCATIONS="working=/nonexistent/not-set-by-this-test",
    TIME_ZONE="UTC",
)

from qradmin.settings import *  # noqa: E402, F403

DATABASES["default"]["TEST"] = {"NAME": str(SITE_FOLDER / "site.sqlite3")}  # noqa: F405

# The major version of a PostgreSQL that holds the site's own database instead; conftest.py starts it.
SITE_POSTGRES = int(os.environ.get("SITE_POSTGRES", "0"))
if SITE_POSTGRES:
    DATABASES["default"] = {"ENGINE": "django.db.backends.postgresql", "NAME": "site"}  # noqa: F405

# Django's test client logs in without a request; the tests of the throttle switch it on.
AXES_ENABLED = False
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

# No collected static files here: Django serves them to the browser tests by itself.
MIDDLEWARE = [name for name in MIDDLEWARE if "whitenoise" not in name]  # noqa: F405

# pytest shows by itself what a failed test had logged; tests that look at the lines bring a handler.
LOGGING["handlers"]["console"]["level"] = "CRITICAL"  # type: ignore[index]  # noqa: F405
