# linxo-bridge, linxo-simulator and linxo-load in one image:
#
#   docker build -t linxo-kafka-bridge .
#
# No shell, no package manager, user 65532. The program is process 1 and ends at SIGTERM; give it service.grace and a few
# seconds more. It writes to /var/lib/linxo-bridge (the journal) and reads secrets from where its configuration says.

FROM rust:1.95.0-bookworm AS build
WORKDIR /source
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY schemas schemas
COPY src src
COPY tests tests
# What build_info says, as a commit.
ARG REVISION=unknown
ENV LINXO_BRIDGE_REVISION=$REVISION
# Without debug information the programs are a fifth as large; the names of functions stay, for a backtrace.
# Of the libraries that the programs are linked to, zlib alone is not in the image below.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked --bins \
    && install -D -t /bin-out target/release/linxo-bridge target/release/linxo-simulator target/release/linxo-load \
    && strip --strip-debug /bin-out/* \
    && install -D -m 644 -t /lib-out "$(ldconfig -p | awk '$1 == "libz.so.1" {print $NF; exit}')" \
    && mkdir /empty

# glibc, OpenSSL, libstdc++ and the certificates of Debian 12. There are no version tags, so the digest is the version.
FROM gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f AS runtime

FROM runtime
LABEL org.opencontainers.image.title="linxo-kafka-bridge" \
      org.opencontainers.image.description="Keeps every Linxo Connect event queue alive and publishes its events to Kafka" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /lib-out/ /usr/lib/
COPY --from=build /bin-out/ /usr/local/bin/
# A volume that is mounted here for the first time takes the owner over.
COPY --from=build --chown=65532:65532 --chmod=700 /empty/ /var/lib/linxo-bridge/
COPY --from=build --chown=65532:65532 --chmod=700 /empty/ /run/linxo-bridge/
USER 65532:65532
WORKDIR /var/lib/linxo-bridge
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/linxo-bridge"]
CMD ["serve"]
