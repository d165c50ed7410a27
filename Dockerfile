# Images for clusters (docs/launching.md): docker build --target=cpu|cuda|tpu .
# Each holds the pinned versions of requirements.txt and runs as a user without rights.

FROM python:3.11-slim-bookworm AS base
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /negflax
COPY requirements.txt ./
RUN pip install --requirement requirements.txt
COPY pyproject.toml setup.py README.md LICENSE ./
COPY negflax ./negflax
COPY launch ./launch
COPY configs ./configs
RUN pip install --no-deps --editable . \
    && useradd --create-home --uid 10001 negflax
# Programs are started as `python -m launch.NAME`; SIGTERM reaches them, as no shell is between.
STOPSIGNAL SIGTERM
CMD ["python", "-m", "launch.train", "--help"]

FROM base AS cuda
# The pinned jax and what it needs beside it for NVIDIA GPUs.
RUN pip install "jax[cuda13]==$(python -c 'import jax; print(jax.__version__)')"
USER 10001

FROM base AS tpu
RUN pip install "jax[tpu]==$(python -c 'import jax; print(jax.__version__)')"
USER 10001

FROM base AS cpu
USER 10001
