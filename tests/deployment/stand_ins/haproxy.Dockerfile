# Stands in for the official image of HAProxy.
FROM debian:bookworm-slim
RUN apt-get update -q && apt-get install -q -y --no-install-recommends busybox haproxy \
    && ln -s /bin/busybox /usr/local/bin/wget
