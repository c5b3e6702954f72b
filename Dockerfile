# Waypost's images, one target each:
#
#   waypost    the command line, agent, controller, …   docker build --target waypost  -t waypost .
#   provider   demo microservice                           docker build --target provider -t waypost-provider .
#   consumer   demo microservice                           docker build --target consumer -t waypost-consumer .
#   flink      JobManager, TaskManager and the jobs        docker build --target flink    -t waypost-flink .
#
# One public base for all of them, because the Flink distribution comes inside the `apache-flink` wheel: what is pinned
# in requirements.lock is what runs here, in `waypost up` and in the tests. Pin a digest with
# --build-arg PYTHON_IMAGE=python@sha256:…. No BuildKit feature is needed.

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# --- what all images share --------------------------------------------------------------------

FROM ${PYTHON_IMAGE} AS base
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
COPY docker/healthy /usr/local/bin/healthy
RUN groupadd --gid 10001 waypost \
 && useradd --uid 10001 --gid waypost --home-dir /tmp --no-create-home --shell /usr/sbin/nologin waypost

# --- how things are installed -----------------------------------------------------------------

# pip lives beside the venv it fills, so no image carries it: images install nothing when they run. Versions, those of
# the build tools too, are the locked ones. Dependencies come before sources: a changed source reuses their layers.
FROM base AS build
WORKDIR /src
COPY pyproject.toml requirements.lock docker/wishes.py ./
RUN python3 -m venv /opt/pip \
 && /opt/pip/bin/pip install --no-cache-dir --constraint requirements.lock pip \
 && python3 -m venv --without-pip /opt/venv
ENV PATH=/opt/venv/bin:/opt/pip/bin:$PATH \
    PIP_PYTHON=/opt/venv/bin/python3 \
    PIP_CONSTRAINT=/src/requirements.lock \
    PIP_BUILD_CONSTRAINT=/src/requirements.lock \
    PIP_NO_CACHE_DIR=1
RUN python3 wishes.py > wishes.txt && pip install --requirement wishes.txt

FROM build AS wheel
COPY README.md LICENSE ./
COPY waypost waypost
RUN pip wheel --no-deps --wheel-dir /wheel .

# --- the house --------------------------------------------------------------------------------

FROM build AS house-build
RUN python3 wishes.py agent etcd dns kubernetes controller > wishes.txt && pip install --requirement wishes.txt
COPY --from=wheel /wheel /wheel
RUN pip install --no-deps /wheel/*.whl && pip check

FROM base AS waypost
COPY --from=house-build /opt/venv /opt/venv
USER 10001:10001
ENTRYPOINT ["waypost"]
CMD ["--help"]

# --- the demo microservices -------------------------------------------------------------------

FROM build AS examples-build
RUN python3 wishes.py examples > wishes.txt && pip install --requirement wishes.txt
COPY --from=wheel /wheel /wheel
RUN pip install --no-deps /wheel/*.whl && pip check

FROM base AS microservice
COPY --from=examples-build /opt/venv /opt/venv
WORKDIR /app
COPY examples/microservices microservices
USER 10001:10001

FROM microservice AS provider
ENV PORT=8080
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 CMD healthy 127.0.0.1 "$PORT" /health
CMD ["python3", "-m", "microservices.provider"]

FROM microservice AS consumer
ENV PORT=8081
EXPOSE 8081
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 CMD healthy 127.0.0.1 "$PORT" /health
CMD ["python3", "-m", "microservices.consumer"]

# --- Flink and the jobs -----------------------------------------------------------------------

FROM base AS java
# The directory is where the package's alternatives go; slim images leave it out.
RUN mkdir -p /usr/share/man/man1 \
 && apt-get update \
 && apt-get install --yes --no-install-recommends openjdk-17-jre-headless \
 && rm -rf /var/lib/apt/lists/* \
 && ln -s /usr/lib/jvm/java-17-openjdk-* /opt/java
ENV JAVA_HOME=/opt/java

# Jars by the same pom as scripts/setup.sh, so by the same versions.
FROM java AS jars
RUN apt-get update && apt-get install --yes --no-install-recommends maven && rm -rf /var/lib/apt/lists/*
COPY scripts/jars/pom.xml ./pom.xml
RUN mvn --batch-mode --no-transfer-progress -P flink dependency:copy-dependencies \
      -DincludeScope=runtime -DoutputDirectory=/jars

FROM build AS flink-build
RUN python3 wishes.py flink > wishes.txt && pip install --requirement wishes.txt
# Where Flink's own images have it. What thread mode and Kafka need goes into lib/ once, never with a job.
COPY --from=jars /jars /jars
RUN ln -s "$(python3 -c 'import importlib.util as i; print(i.find_spec("pyflink").submodule_search_locations[0])')" /opt/flink \
 && cp -a /jars/flink-sql-connector-kafka-*.jar /opt/flink/lib/ \
 && ln -s ../opt/$(basename /opt/flink/opt/flink-python-*.jar) /opt/flink/lib/ \
 && rm -rf /opt/flink/examples
COPY --from=wheel /wheel /wheel
RUN pip install --no-deps /wheel/*.whl && pip check
COPY waypost waypost
COPY schemas schemas
COPY sources sources
COPY sinks sinks
COPY jobs jobs
RUN python3 -m waypost job-zip --to /opt/waypost/waypost-job.zip
COPY docker/flink /opt/waypost
RUN python3 /opt/waypost/opened_modules.py >> /opt/waypost/flink.yaml \
 && rm /opt/waypost/opened_modules.py

FROM java AS flink
ENV FLINK_HOME=/opt/flink \
    FLINK_CONF_DIR=/tmp/flink/conf \
    FLINK_LOG_DIR=/tmp/flink/log \
    FLINK_PID_DIR=/tmp/flink
COPY --from=flink-build /opt/venv /opt/venv
COPY --from=flink-build /opt/waypost /opt/waypost
# Owned by the user here, so that a volume mounted over it is writable.
RUN ln -s /opt/venv/lib/python3.11/site-packages/pyflink /opt/flink \
 && mkdir -p /var/lib/flink/checkpoints /var/lib/flink/savepoints \
 && chown -R 10001:10001 /var/lib/flink
USER 10001:10001
EXPOSE 6123 8081
ENTRYPOINT ["/opt/waypost/entrypoint.sh"]
CMD ["jobmanager"]
