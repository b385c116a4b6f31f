# The images of `make image`, for those who have a daemon (docs/images.md):
#
#   docker build --target sacker -t sacker .
#   docker build --target init -t sacker-init .
#
# The compiler is that of rust-toolchain.toml, which a test compares.
FROM rust:1.95.0-slim-bookworm AS source
# The compiler that is here, without the components that only development needs.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .

FROM source AS build-init
RUN image/run init

FROM source AS build-sacker
RUN image/run sacker

FROM scratch AS init
COPY --from=build-init /src/target/image/sacker-init/ /
USER 65532:65532
WORKDIR /
ENTRYPOINT ["/sacker-init"]

FROM scratch AS sacker
COPY --from=build-sacker /src/target/image/sacker/ /
USER 65532:65532
WORKDIR /
ENTRYPOINT ["/sacker"]
