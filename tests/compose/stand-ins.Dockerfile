# What scripts/compose-test.sh runs in place of the images of docker-compose.yml, where none can be fetched: the same
# programs, owners and folders, put together from packages. One stage for each image.

FROM scratch AS base
COPY base /
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN mkdir -p /tmp && chmod 1777 /tmp \
    && echo 'root:x:0:0:root:/root:/bin/sh' >/etc/passwd \
    && echo 'root:x:0:' >/etc/group

# As gcr.io/distroless/cc-debian12:nonroot: no shell, and no zlib.
FROM scratch AS runtime
COPY runtime /
COPY --from=base /etc/passwd /etc/group /etc/
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# Kafka's own code makes the settings of KAFKA_ variables; the script around it is short.
FROM base AS kafka
RUN echo 'appuser:x:1000:1000::/home/appuser:/bin/bash' >>/etc/passwd \
    && echo 'appuser:x:1000:' >>/etc/group \
    && mkdir -p /opt/kafka/config /opt/kafka/logs /mnt/shared/config /var/lib/kafka/data /etc/kafka/docker /etc/kafka/secrets \
    && chown -R appuser:appuser /opt/kafka /mnt/shared/config \
    && chown -R appuser:root /var/lib/kafka /etc/kafka \
    && chmod -R ug+w /var/lib/kafka /etc/kafka
COPY jre /opt/java
COPY kafka /opt/kafka/libs
# hadolint ignore=DL3022
COPY --from=scripts --chmod=755 kafka.sh /etc/kafka/docker/run
# hadolint ignore=DL3022
COPY --from=scripts --chmod=644 log4j2.yaml /etc/kafka/docker/log4j2.yaml
# hadolint ignore=DL3022
COPY --from=scripts --chmod=644 log4j2.yaml /etc/kafka/docker/tools-log4j2.yaml
RUN echo 'process.roles=broker,controller' >/etc/kafka/docker/server.properties
USER 1000
VOLUME ["/etc/kafka/secrets", "/var/lib/kafka/data", "/mnt/shared/config"]
CMD ["/etc/kafka/docker/run"]

FROM base AS registry
COPY jre /opt/java
COPY registry /deployments
USER 1001
WORKDIR /deployments
CMD ["/opt/java/bin/java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-jar", "quarkus-run.jar"]

FROM base AS prometheus
RUN mkdir -p /prometheus && chown 65534:65534 /prometheus
# hadolint ignore=DL3022
COPY --from=prometheus-3 prometheus promtool /bin/
USER 65534:65534
ENTRYPOINT ["/bin/prometheus"]

FROM base AS alertmanager
RUN mkdir -p /alertmanager && chown 65534:65534 /alertmanager
COPY debs/usr/bin/prometheus-alertmanager /bin/alertmanager
COPY debs/usr/bin/amtool /bin/
COPY debs/usr/share/prometheus/alertmanager /usr/share/prometheus/alertmanager
USER 65534:65534
ENTRYPOINT ["/bin/alertmanager"]
