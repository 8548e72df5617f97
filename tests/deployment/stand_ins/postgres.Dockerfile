# Stands in for the official image of PostgreSQL: the same variables, data folder and user.
FROM debian:bookworm-slim
RUN apt-get update -q \
    && apt-get install -q -y --no-install-recommends postgresql-common \
    && sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf \
    && apt-get install -q -y --no-install-recommends postgresql-15 \
    && install -d -o postgres -g postgres /var/lib/postgresql/data /var/run/postgresql
COPY start-postgres /start-postgres
ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
STOPSIGNAL SIGINT
VOLUME /var/lib/postgresql/data
ENTRYPOINT ["/start-postgres"]
