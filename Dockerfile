# kpedge serve: docker build -t kpedge . && docker run --rm -p 127.0.0.1:8000:8000 --read-only --tmpfs /tmp kpedge
FROM python:3.12-slim AS build
COPY . /src
WORKDIR /src
# The headless OpenCV needs no libGL; the two variants overwrite each other's files, so only one may be installed.
RUN sed -i 's/"opencv-python>=/"opencv-python-headless>=/' pyproject.toml \
    && python -m venv /opt/kpedge \
    && /opt/kpedge/bin/pip install --no-cache-dir '.[serve]'

FROM python:3.12-slim
COPY --from=build /opt/kpedge /opt/kpedge

USER 10001:10001
ENV PATH=/opt/kpedge/bin:$PATH PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["kpedge", "serve", "--host", "0.0.0.0"]
