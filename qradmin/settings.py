"""The site's settings: the only reader of the environment. Every variable stands in .env.example."""

from __future__ import annotations

from pathlib import Path

from environ import FileAwareEnv

BASE_DIR = Path(__file__).resolve().parent.parent

env = FileAwareEnv()
if (BASE_DIR / ".env").is_file():
    env.read_env(str(BASE_DIR / ".env"))

# --- Django -------------------------------------------------------------------------------------

DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default="")
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
    "django_q",
    "backups_app.apps.BackupsConfig",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "qradmin.headers.security_headers",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
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
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- The queue --------------------------------------------------------------------------------------

OPERATION_TIME_LIMIT = env.int("OPERATION_TIME_LIMIT", default=4 * 3600)
Q_CLUSTER = {
    "name": "qradmin",
    "label": "Queue",
    "orm": "default",
    "broker_class": "backups_app.broker.AtMostOnceBroker",
    "workers": env.int("QUEUE_WORKERS", default=2),
    "queue_limit": 2,
    "bulk": 1,
    "poll": env.float("QUEUE_POLL_SECONDS", default=0.2),
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
BACKUP_KEEP = env.str("BACKUP_KEEP", default="5")
POSTGRES_CLIENT_FOLDERS = env.list("POSTGRES_CLIENT_FOLDERS", default=[])
SAFETY_BACKUP_TIME_LIMIT = env.int("SAFETY_BACKUP_TIME_LIMIT", default=180)
STALL_TIME_LIMIT = env.int("STALL_TIME_LIMIT", default=600)
REPLACED_DATABASE_HOURS = env.float("REPLACED_DATABASE_HOURS", default=24)
REQUIRED_TABLES = env.list("REQUIRED_TABLES", default=["qr_codes", "alembic_version"])
REQUIRED_COLUMNS = env.str(
    "REQUIRED_COLUMNS",
    default=(
        "qr_codes: id content qr_type redirect_url created_at scan_count last_scan_at"
        " fill_color back_color size border"
    ),
)
CONTENT_ALARM_PERCENT = env.float("CONTENT_ALARM_PERCENT", default=20)
EXPECTED_REVISION = env.str("EXPECTED_REVISION", default="")
# Every migration revision of the managed system, oldest first.
KNOWN_REVISIONS = env.list(
    "KNOWN_REVISIONS", default=["17f4914834ef", "c10a8618571d", "d59b26b7dd93", "8d13a4dfeb1d"]
)

# Shown in the runbooks, as: Database team: 4711; Out of hours: 112
CONTACTS = env.str("CONTACTS", default="")
RESPONSE_TIMES = env.str(
    "RESPONSE_TIMES", default="Database corrupt: 15 minutes; Codes deleted: 1 hour; A backup failed: 4 hours"
)

# --- The API's container --------------------------------------------------------------------------------

API_CONTAINER = env.str("API_CONTAINER", default="")
API_HEALTH_URL = env.str("API_HEALTH_URL", default="")
API_MIGRATE_COMMAND = env.str("API_MIGRATE_COMMAND", default="alembic upgrade head")
API_STOP_GRACE = env.int("API_STOP_GRACE", default=10)
API_HEALTHY_TIME_LIMIT = env.int("API_HEALTHY_TIME_LIMIT", default=120)
DOCKER_HOST = env.str("DOCKER_HOST", default="")

# --- Object stores ----------------------------------------------------------------------------------------

S3_ACCESS_KEY = env.str("S3_ACCESS_KEY", default="")
S3_SECRET_KEY = env.str("S3_SECRET_KEY", default="")
S3_SESSION_TOKEN = env.str("S3_SESSION_TOKEN", default="")

# --- Accounts, sessions, transport ------------------------------------------------------------------------

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "admin:login"
SESSION_COOKIE_AGE = env.int("SESSION_HOURS", default=12) * 3600
SESSION_COOKIE_HTTPONLY = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
HTTPS_ONLY = env.bool("HTTPS_ONLY", default=False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS_ONLY
SECURE_SSL_REDIRECT = HTTPS_ONLY
SECURE_HSTS_SECONDS = 31536000 if HTTPS_ONLY else 0
if env.bool("BEHIND_TLS_PROXY", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# --- Language, time, static files, logs ---------------------------------------------------------------------

LANGUAGE_CODE = env.str("LANGUAGE_CODE", default="en")
LOCALE_PATHS = [BASE_DIR / "locale"]
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
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

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
    "loggers": {"django_q": {"level": "WARNING"}, "django-q": {"level": "WARNING"}},
}
