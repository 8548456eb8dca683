# The server with its page and the included model: docs/serve.md. linux/amd64 and linux/arm64.
#   docker build -t emimic .
#   docker run --read-only --tmpfs /tmp -p 127.0.0.1:8000:8000 emimic

FROM node:24-slim AS page
WORKDIR /npm
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund --silent

FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
COPY --from=page /npm/node_modules/onnxruntime-web /npm/onnxruntime-web
RUN python -m venv /opt/emimic
RUN /opt/emimic/bin/pip install --no-cache-dir --quiet --disable-pip-version-check -c constraints.txt '.[server]'
RUN /opt/emimic/bin/python -m emimic.server.build_page --runtime /npm/onnxruntime-web --out /opt/emimic/page
RUN rm -rf /opt/emimic/lib/python3*/site-packages/pip /opt/emimic/lib/python3*/site-packages/pip-*

FROM python:3.13-slim
COPY --from=build /opt/emimic /opt/emimic
# The port, of the server and of its health check.
ENV PATH=/opt/emimic/bin:$PATH PYTHONUNBUFFERED=1 EMIMIC_PORT=8000
USER 65534:65534
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD \
    ["python", "-c", "import os, urllib.request as u; \
    u.urlopen('http://127.0.0.1:' + os.environ['EMIMIC_PORT'] + '/ready', timeout=4)"]
ENTRYPOINT ["emimic", "serve", "--host", "0.0.0.0", "--page", "/opt/emimic/page"]
# Who may reach the port is decided where it is published; `docker run ... emimic --token-file FILE` asks for a token.
CMD ["--insecure"]
