"""The site's settings: the only reader of the environment. Every variable stands in .env.example."""

from __future__ import annotations

import secrets
from datetime import timedelta
from pathlib import Path

from backups_app.systems.postgres.connections import STILL_THERE
from qradmin.environment import Environment

BASE_DIR = Path(__file__).resolve().parent.parent
# The most that a number may be set to: seconds, hours, minutes.
A_WEEK, A_YEAR_IN_HOURS, A_YEAR_IN_MINUTES = 604_800, 8_760, 525_600

env = Environment()
USUAL_FILE = str(BASE_DIR / ".env")
ENV_FILE = env.str("ENV_FILE", default=USUAL_FILE)
if ENV_FILE:
    env.read_file("ENV_FILE", ENV_FILE, is_named=ENV_FILE != USUAL_FILE)

# --- Django -------------------------------------------------------------------------------------

DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default="")
# The checks refuse to start without one; until they have spoken, nothing may be signed with an empty key.
IS_SECRET_KEY_SET = bool(SECRET_KEY)
SECRET_KEY = SECRET_KEY or secrets.token_urlsafe(50)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

INSTALLED_APPS = [
    "backups_app.apps.SiteAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    # Before the queue's own app: its command that starts a worker is ours.
    "backups_app.apps.BackupsConfig",
    "django_q",
    "axes",
]

MIDDLEWARE = [
    "qradmin.headers.security_headers",
    "qradmin.health.answer_health",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "qradmin.urls"
WSGI_APPLICATION = "qradmin.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- The site's own database: the audit trail and the queue ---------------------------------------

DATABASES = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{BASE_DIR / 'var' / 'site.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # WAL and IMMEDIATE: the web process and several workers write at the same time.
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
else:
    DATABASES["default"] |= {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}
    # A server that takes the connection and stays silent must hold up no page and no start; wsgi.py says how
    # long a page waits for an answer.
    DATABASES["default"]["OPTIONS"] = {"connect_timeout": 5, **STILL_THERE, **DATABASES["default"]["OPTIONS"]}
DATABASE_WAIT_SECONDS = env.float("DATABASE_WAIT_SECONDS", default=60, most=86_400)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- The queue --------------------------------------------------------------------------------------

OPERATION_TIME_LIMIT = env.int("OPERATION_TIME_LIMIT", default=14400, least=1, most=A_WEEK)
# Empty: the site's own database is the queue.
QUEUE_REDIS_URL = env.str("QUEUE_REDIS_URL", default="")
Q_CLUSTER = {
    "name": "qradmin",
    "label": "Queue",
    "orm": "default",
    "redis": QUEUE_REDIS_URL,
    "broker_class": f"backups_app.broker.{'RedisBroker' if QUEUE_REDIS_URL else 'AtMostOnceBroker'}",
    "workers": env.int("QUEUE_WORKERS", default=2, least=1, most=64),
    "queue_limit": 2,
    "bulk": 1,
    "poll": env.float("QUEUE_POLL_SECONDS", default=0.2, least=0.01, most=60),
    "timeout": OPERATION_TIME_LIMIT + 600,
    "retry": OPERATION_TIME_LIMIT + 1200,
    "max_attempts": 1,
    "ack_failures": True,
    "catch_up": False,
    "recycle": 200,
    "save_limit": 500,
}

# --- The managed database and its backups -------------------------------------------------------------

MANAGED_DATABASE_URL = env.str("MANAGED_DATABASE_URL", default="")
DRILL_DATABASE_URL = env.str("DRILL_DATABASE_URL", default="")
BACKUP_LOCATIONS = env.str("BACKUP_LOCATIONS", default=f"working={BASE_DIR / 'var' / 'backups'}")
BACKUP_COMPRESSION = env.str("BACKUP_COMPRESSION", default="best")
# The largest file that may be uploaded, in MB of 1024 KB.
UPLOAD_LIMIT_MB = env.int("UPLOAD_LIMIT_MB", default=1024, least=1, most=1_048_576)
UPLOAD_FOLDER = env.str("UPLOAD_FOLDER", default="")
BACKUP_KEEP = env.str("BACKUP_KEEP", default="5")
SITE_BACKUP_KEEP = env.int("SITE_BACKUP_KEEP", default=7, least=1, most=99_999)
BACKUP_KEEP_DAILY = env.str("BACKUP_KEEP_DAILY", default="0")
BACKUP_KEEP_WEEKLY = env.str("BACKUP_KEEP_WEEKLY", default="0")
BACKUP_KEEP_MONTHLY = env.str("BACKUP_KEEP_MONTHLY", default="0")
SAFETY_BACKUP_DAYS = env.str("SAFETY_BACKUP_DAYS", default="7")
POSTGRES_CLIENT_FOLDERS = env.list("POSTGRES_CLIENT_FOLDERS", default=[])
STANDSTILL_SECONDS = env.int("STANDSTILL_SECONDS", default=15, least=1, most=A_WEEK)
SAFETY_BACKUP_TIME_LIMIT = env.int("SAFETY_BACKUP_TIME_LIMIT", default=180, least=1, most=A_WEEK)
STALL_TIME_LIMIT = env.int("STALL_TIME_LIMIT", default=600, least=1, most=A_WEEK)
REPLACED_DATABASE_HOURS = env.float("REPLACED_DATABASE_HOURS", default=24, most=A_YEAR_IN_HOURS)
TRIAL_DATABASE_HOURS = env.float("TRIAL_DATABASE_HOURS", default=72, most=A_YEAR_IN_HOURS)
REQUIRED_TABLES = env.list("REQUIRED_TABLES", default=["qr_codes", "alembic_version"])
REQUIRED_COLUMNS = env.str(
    "REQUIRED_COLUMNS",
    default=(
        "qr_codes: id content qr_type redirect_url created_at scan_count last_scan_at"
        " fill_color back_color size border"
    ),
)
CONTENT_ALARM_PERCENT = env.float("CONTENT_ALARM_PERCENT", default=20, most=100)
EXPECTED_REVISION = env.str("EXPECTED_REVISION", default="")
# Every migration revision of the managed system, oldest first.
KNOWN_REVISIONS = env.list(
    "KNOWN_REVISIONS", default=["17f4914834ef", "c10a8618571d", "d59b26b7dd93", "8d13a4dfeb1d"]
)

# Shown in the runbooks, as: Database team: 4711; Out of hours: 112. What is promised is the college's to say.
CONTACTS = env.str("CONTACTS", default="")
RESPONSE_TIMES = env.str("RESPONSE_TIMES", default="")

# --- The API's container --------------------------------------------------------------------------------

API_CONTAINER = env.str("API_CONTAINER", default="")
API_HEALTH_URL = env.str("API_HEALTH_URL", default="")
API_MIGRATE_COMMAND = env.str("API_MIGRATE_COMMAND", default="alembic upgrade head")
API_STOP_GRACE = env.int("API_STOP_GRACE", default=10, most=3600)
API_HEALTHY_TIME_LIMIT = env.int("API_HEALTHY_TIME_LIMIT", default=120, least=1, most=A_WEEK)
API_ANSWER_TIME_LIMIT = env.int("API_ANSWER_TIME_LIMIT", default=5, least=1, most=3600)
API_MIGRATE_TIME_LIMIT = env.int("API_MIGRATE_TIME_LIMIT", default=300, least=1, most=A_WEEK)
DOCKER_TIME_LIMIT = env.int("DOCKER_TIME_LIMIT", default=30, least=1, most=3600)
DOCKER_HOST = env.str("DOCKER_HOST", default="")

# --- Object stores ----------------------------------------------------------------------------------------

S3_ACCESS_KEY = env.str("S3_ACCESS_KEY", default="")
S3_SECRET_KEY = env.str("S3_SECRET_KEY", default="")
S3_SESSION_TOKEN = env.str("S3_SESSION_TOKEN", default="")
# Of the locations that have a key of their own.
S3_KEYS = env.store_keys(BACKUP_LOCATIONS)

# --- Accounts, sessions, transport ------------------------------------------------------------------------

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
SESSION_COOKIE_AGE = round(env.float("SESSION_HOURS", default=12, least=0.1, most=A_YEAR_IN_HOURS) * 3600)
# Before a restore the password is asked for again when it was last given longer ago; 0 asks each time.
REAUTHENTICATION_MINUTES = env.float("REAUTHENTICATION_MINUTES", default=15, most=A_YEAR_IN_MINUTES)
SESSION_COOKIE_HTTPONLY = True
CSRF_FAILURE_VIEW = "backups_app.refusals.csrf_failed"
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
HTTPS_ONLY = env.bool("HTTPS_ONLY", default=not DEBUG)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = HTTPS_ONLY
LANGUAGE_COOKIE_SAMESITE = "Lax"
LANGUAGE_COOKIE_HTTPONLY = True
SECURE_SSL_REDIRECT = HTTPS_ONLY
SECURE_HSTS_SECONDS = 31536000 if HTTPS_ONLY else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS_ONLY
# Whether a name goes into the browsers' preload lists is for the owner of its domain to decide.
SILENCED_SYSTEM_CHECKS = ["security.W021"]
# The site itself speaks plain HTTP: with TLS alone, something in front speaks it.
BEHIND_TLS_PROXY = env.bool("BEHIND_TLS_PROXY", default=HTTPS_ONLY)
if BEHIND_TLS_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# Failed logins are counted for each pair of name and address.
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AXES_FAILURE_LIMIT = env.int("LOGIN_ATTEMPTS", default=5, least=1, most=10_000)
AXES_COOLOFF_TIME = timedelta(
    minutes=env.float("LOGIN_PAUSE_MINUTES", default=15, least=0.1, most=A_YEAR_IN_MINUTES)
)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_CLIENT_IP_CALLABLE = "qradmin.headers.client_address"
AXES_LOCKOUT_TEMPLATE = "admin/locked_out.html"
AXES_RESET_ON_SUCCESS = True
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False

# --- Health ------------------------------------------------------------------------------------------------

HEALTH_BACKUP_HOURS = env.float("HEALTH_BACKUP_HOURS", default=26, least=0.1, most=A_YEAR_IN_HOURS)
DRILL_OVERDUE_DAYS = env.float("DRILL_OVERDUE_DAYS", default=8, least=0.1, most=3650)
MINIMUM_BACKUP_BYTES = env.int("MINIMUM_BACKUP_BYTES", default=30000, most=1_000_000_000_000)

# --- Language, time, static files, logs ---------------------------------------------------------------------

LANGUAGE_CODE = env.choice("LANGUAGE_CODE", ["en", "de"], default="en")
LOCALE_PATHS = [BASE_DIR / "locale"]
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
TIME_ZONE = env.time_zone("TIME_ZONE", default="UTC")
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = env.str("STATIC_ROOT", default=str(BASE_DIR / "staticfiles"))
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}

LOG_LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
LOG_FORMAT = env.choice("LOG_FORMAT", ["json", "text"], default="text" if DEBUG else "json")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "qradmin.logs.JsonLines"}, "text": {"()": "qradmin.logs.TextLines"}},
    "filters": {"operation": {"()": "qradmin.logs.OperationNames"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT, "filters": ["operation"]}
    },
    "root": {"handlers": ["console"], "level": env.choice("LOG_LEVEL", LOG_LEVELS, default="INFO")},
    "loggers": {
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        "django_q": {"level": "WARNING"},
        "django-q": {"level": "WARNING"},
    },
}

# What was set to something unusable: the start-up checks name each.
ENVIRONMENT_PROBLEMS = env.problems
