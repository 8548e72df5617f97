# One image; what a container does is its command: web, worker, migrate, or any command of manage.py.
# No syntax line: the builder's own Dockerfile language is enough, and nothing is fetched for it.
ARG BASE_IMAGE=debian:bookworm-slim

# --- Python packages, and PostgreSQL's signing key as Debian ships it ------------------------------
FROM ${BASE_IMAGE} AS packages
ENV DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1
RUN apt-get update -q \
    && apt-get install -q -y --no-install-recommends ca-certificates postgresql-common python3 python3-venv
COPY requirements.txt /build/
# Where the package index is a private one: a pip.conf and a CA bundle as build secrets; neither stays.
RUN --mount=type=secret,id=pip_conf --mount=type=secret,id=ca_bundle set -eu; \
    if [ -s /run/secrets/pip_conf ]; then export PIP_CONFIG_FILE=/run/secrets/pip_conf; fi; \
    if [ -s /run/secrets/ca_bundle ]; then export PIP_CERT=/run/secrets/ca_bundle; fi; \
    python3 -m venv /opt/qradmin; \
    /opt/qradmin/bin/pip install --quiet --no-cache-dir --require-hashes -r /build/requirements.txt; \
    /opt/qradmin/bin/pip uninstall --quiet --yes pip setuptools

# --- The image ----------------------------------------------------------------------------------------
FROM ${BASE_IMAGE}
# The majors of the servers that are backed up; a restore insists on the same major.
ARG POSTGRES_MAJORS="15 16 17 18"
# PostgreSQL's own repository; empty: the majors that the base image's distribution has.
ARG POSTGRES_REPOSITORY="https://apt.postgresql.org/pub/repos/apt"
COPY --from=packages /usr/share/postgresql-common/pgdg/apt.postgresql.org.asc /usr/share/keyrings/postgresql.asc
RUN --mount=type=secret,id=ca_bundle set -eu; \
    export DEBIAN_FRONTEND=noninteractive; \
    apt-get update -q; \
    apt-get install -q -y --no-install-recommends ca-certificates python3 tini tzdata; \
    if [ -n "$POSTGRES_REPOSITORY" ]; then \
        . /etc/os-release; \
        echo "deb [signed-by=/usr/share/keyrings/postgresql.asc] $POSTGRES_REPOSITORY $VERSION_CODENAME-pgdg main" \
            >/etc/apt/sources.list.d/postgresql.list; \
        if [ -s /run/secrets/ca_bundle ]; then trust="-o Acquire::https::CaInfo=/run/secrets/ca_bundle"; fi; \
        apt-get ${trust:-} update -q; \
    fi; \
    for major in $POSTGRES_MAJORS; do set -- "$@" "postgresql-client-$major"; done; \
    apt-get ${trust:-} install -q -y --no-install-recommends "$@"; \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*; \
    useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent qradmin; \
    install -d -m 0700 -o qradmin -g qradmin /backups /uploads

COPY --from=packages /opt/qradmin /opt/qradmin
COPY . /app
WORKDIR /app
ENV PATH=/opt/qradmin/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DJANGO_SETTINGS_MODULE=qradmin.settings \
    STATIC_ROOT=/app/staticfiles \
    BACKUP_LOCATIONS=working=/backups
# Everything is compiled and collected now: the container's file system may be read-only.
RUN rm requirements.txt && chmod -R a+rX /app && python3 manage.py collectstatic --no-input --verbosity 0 \
    && python3 -m compileall -q /app

USER qradmin
VOLUME /backups
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python3", "-m", "deploy.container.healthy"]
ENTRYPOINT ["tini", "--", "/app/deploy/container/entrypoint"]
CMD ["web"]
