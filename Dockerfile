# One image, one command each: worker, projector, archive, serve, marks, streams apply, migrate up.
# IMAGE_PYTHON pins what it is built on, best by digest.
ARG IMAGE_PYTHON=python:3.13-slim

FROM ${IMAGE_PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python -m venv /opt/psm && python -m venv /opt/build
# Libraries first: they change rarely, and every one is pinned by its hash. nkeys is published as
# source only, and built by what is pinned, too.
COPY requirements/runtime.txt requirements/build.txt requirements/
RUN /opt/build/bin/pip install --require-hashes --only-binary :all: -r requirements/build.txt \
 && /opt/build/bin/pip wheel --require-hashes --only-binary :all: --no-binary nkeys \
      --no-build-isolation --wheel-dir libraries -r requirements/runtime.txt \
 && /opt/psm/bin/pip install --no-deps --no-index libraries/*.whl
COPY pyproject.toml README.md LICENSE ./
COPY contracts contracts
COPY workers workers
COPY projections projections
RUN /opt/build/bin/python -m hatchling build -t wheel \
 && /opt/psm/bin/pip install --no-deps --no-index dist/*.whl \
 && /opt/psm/bin/pip uninstall --yes pip \
 && find /opt/psm/bin -type f ! -name psm -delete \
 && /opt/psm/bin/python -m compileall -q /opt/psm/lib

FROM ${IMAGE_PYTHON}
LABEL org.opencontainers.image.title="Portfolio & State Manager" \
      org.opencontainers.image.licenses=Apache-2.0
# Nothing is written outside /tmp, so that the root file system may be read-only.
ENV PATH=/opt/psm/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
RUN groupadd --gid 10001 psm && useradd --uid 10001 --gid 10001 --no-create-home psm
COPY --from=build /opt/psm /opt/psm
WORKDIR /tmp
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["psm"]
CMD ["--help"]
