# One image for every emc-cdc command: docker build -t emc-cdc . && docker run --rm emc-cdc --help
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
# For the compiled hot path; the image itself has no compiler.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/emc-cdc
COPY pyproject.toml setup.py constraints.txt LICENSE README.md ./
COPY connector connector
RUN /opt/emc-cdc/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt .

FROM python:3.12-slim-bookworm
# Volumes mounted below /data take over this directory's owner.
RUN useradd --system --uid 10001 --home-dir /data emc-cdc \
    && mkdir -p /data/capture /data/delivery /data/simulator \
    && chown -R emc-cdc /data
COPY --from=build /opt/emc-cdc /opt/emc-cdc
ENV PATH=/opt/emc-cdc/bin:$PATH PYTHONUNBUFFERED=1
USER emc-cdc
WORKDIR /data
ENTRYPOINT ["emc-cdc"]
CMD ["--help"]
