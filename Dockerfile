# The twin in a container: runs the feature pipeline on a schedule; docker-compose.yml starts the service from the same image.
# State lives under /data; addresses and secrets come from the environment (.env.example), never from the image.
FROM python:3.11.15-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home twin \
    && install --directory --owner=twin --group=twin /app /data
USER twin
WORKDIR /app
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TWIN_HOME=/data

# The packages are installed before the code arrives, so that a change of code does not install them again.
# torch is named exactly: pip then takes a CPU build where an index offers one. To offer one, build with
# --build-arg PIP_EXTRA_INDEX_URL=<address of an index of CPU builds>; without it the (much larger) default build is installed.
ARG PIP_EXTRA_INDEX_URL
# Extras to install, separated by commas: otel (traces), train (a model of one's own, loaded in this process). None by default.
ARG TWIN_EXTRAS=""
COPY --chown=twin:twin pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir llm_engineering \
    && touch llm_engineering/__init__.py \
    && python -m venv .venv \
    && .venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check -c constraints.txt "torch==2.13.0" -e ".${TWIN_EXTRAS:+[$TWIN_EXTRAS]}"
COPY --chown=twin:twin . .

VOLUME /data
# Healthy means: the settings are sound and the warehouse answers. A scheduler that has died ends the container by itself.
HEALTHCHECK --interval=60s --timeout=30s --start-period=60s --retries=3 \
    CMD ["python", "-m", "tools.warehouse", "status", "--json"]
# What `poe schedule` runs, without poe in between, so that a stop signal reaches the scheduler. Times are UTC.
CMD ["python", "-m", "tools.schedule", "--cron", "0 6 * * *", "--config", "configs/feature.yaml"]
