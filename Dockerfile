# syntax=docker/dockerfile:1
# Images: the worker's for the services, the trainer's with the training libraries, and MLflow's server. They have a numeric user and
# write only to the state folder and /tmp, so that they run with a read-only root.
FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/tamiz
COPY requirements-run.lock /build/
RUN /opt/tamiz/bin/pip install --require-hashes --no-deps -r /build/requirements-run.lock

# Packages that a worker does not need: MLflow's server, scikit-learn, pandas and the extra `training`.
FROM build AS build-training
COPY requirements-train.lock /build/
RUN /opt/tamiz/bin/pip install --require-hashes --no-deps -r /build/requirements-train.lock

FROM python:3.11-slim-bookworm AS base
ENV PATH=/opt/tamiz/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    TAMIZ_STATE_DIR=/var/lib/tamiz
COPY schemas /app/schemas
COPY scoring /app/scoring
COPY monitoring /app/monitoring
COPY training /app/training
COPY stream_app /app/stream_app
COPY tamiz /app/tamiz
# Byte code, because a program cannot write it at its start.
RUN python -m compileall -q /app
RUN install -d -m 0700 -o 10001 -g 10001 /var/lib/tamiz /etc/tamiz
WORKDIR /var/lib/tamiz
VOLUME /var/lib/tamiz
USER 10001:10001
ENTRYPOINT ["python", "-m", "tamiz"]

FROM base AS training
COPY --from=build-training /opt/tamiz /opt/tamiz

# Compiles what Numba would compile at the first start, for every processor of the architecture.
FROM training AS compiled
USER 0
RUN python -m tamiz.precompilation /app/compiled && chmod -R a+rX /app/compiled

# MLflow's server, with the drivers of its database and of S3, and its user management; with its own entry point.
FROM training AS registry
USER 0
COPY requirements-registry.lock /tmp/
RUN /opt/tamiz/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps -r /tmp/requirements-registry.lock
USER 10001:10001
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:5000/health', timeout=4)"]
ENTRYPOINT ["mlflow", "server"]
CMD ["--host", "0.0.0.0", "--port", "5000"]

# Trains on request, and draws the scheduled drift reports. It has no health page: a running process is healthy.
FROM training AS trainer
COPY --from=compiled /app/compiled /app/compiled
HEALTHCHECK NONE
CMD ["retrainer"]

FROM base AS worker
COPY --from=compiled /app/compiled /app/compiled
COPY --from=build /opt/tamiz /opt/tamiz
EXPOSE 6066
HEALTHCHECK --interval=10s --timeout=5s --start-period=90s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:6066/livez', timeout=4)"]
CMD ["worker"]
