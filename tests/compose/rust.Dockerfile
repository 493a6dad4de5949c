# As rust:...-bookworm, for scripts/compose-test.sh with COMPILE: the folders and variables of the official image.
# hadolint ignore=DL3006
FROM debian
COPY toolchain /usr/local/rustup/toolchain
COPY vendor /usr/local/vendor
COPY cargo /usr/local/cargo
ENV CARGO_HOME=/usr/local/cargo \
    PATH=/usr/local/rustup/toolchain/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
