# syntax=docker/dockerfile:1
# The registry and target/ are cache mounts: a second build compiles what changed. Every command of it is run one by one
# over nothing but what it copies by .ci/packaging.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
# The repository itself stays outside of the build: docker build --build-arg COMMIT="$(git rev-parse --short=12 HEAD)"
ARG COMMIT=""
COPY Cargo.toml Cargo.lock build.rs LICENSE ./
COPY migrations migrations
COPY templates templates
COPY assets assets
COPY benches benches
COPY src src
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    SLUICEGATE_COMMIT="$COMMIT" cargo build --release --locked --bin sluicegate \
    && mkdir -p /out/man \
    && install -m 0755 target/release/sluicegate /out/sluicegate \
    && /out/sluicegate man --dir /out/man \
    && /out/sluicegate completions bash > /out/completion.bash

FROM debian:bookworm-slim
RUN groupadd --gid 10001 sluicegate \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/sluicegate --create-home --shell /usr/sbin/nologin sluicegate
COPY --from=build /out/sluicegate /usr/local/bin/sluicegate
COPY --from=build /out/man /usr/local/share/man/man1
COPY --from=build /out/completion.bash /etc/bash_completion.d/sluicegate
COPY --from=build /src/LICENSE /usr/share/doc/sluicegate/LICENSE
# By its number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/sluicegate
ENV SLUICEGATE_LISTEN=0.0.0.0:8080 \
    SLUICEGATE_LOG_FORMAT=json
EXPOSE 8080
# bash's own TCP: the image needs no curl for it. Where SLUICEGATE_LISTEN or SLUICEGATE_TLS_CERT is changed, write another.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["sluicegate"]
CMD ["serve"]
