# syntax=docker/dockerfile:1
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs ./
COPY migrations migrations
COPY src src
COPY assets assets
COPY benches benches
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin sluicegate && cp target/release/sluicegate /sluicegate

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/sluicegate --create-home sluicegate
COPY --from=build /sluicegate /usr/local/bin/sluicegate
USER sluicegate
WORKDIR /var/lib/sluicegate
ENV SLUICEGATE_LISTEN=0.0.0.0:8080
EXPOSE 8080
# bash's own TCP: the image needs no curl for it.
HEALTHCHECK --interval=10s --timeout=3s CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["sluicegate"]
CMD ["serve"]
