# One small image for all processes: the static `handover`, the content, and nothing else. No shell, no root.
#
# `source`, the default target, builds the binary; `host` takes target/release/handover, for engines that cannot pull
# images. docs/compose.md has the commands.

FROM scratch AS nothing
WORKDIR /state

# Volumes that are mounted here belong to whom the directories belong to.
FROM scratch AS base
COPY --from=nothing --chown=65532:65532 /state /state
COPY --from=nothing --chown=65532:65532 /state /tls
COPY content /content
USER 65532:65532
ENTRYPOINT ["/handover"]

FROM base AS host
COPY target/release/handover /handover

FROM rust:1.95-slim-bookworm AS build
WORKDIR /handover
COPY . .
# A quarter smaller for some minutes more, which only this build has to spend.
ENV CARGO_PROFILE_RELEASE_LTO=fat CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1
RUN cargo static

FROM base AS source
COPY --from=build /handover/target/release/handover /handover
