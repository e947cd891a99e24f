# The image of the agent: `volley`, and `k6` as a second name for it, because that is the name
# which the k6-operator, scripts and people call. docs/image.md says what is in it and why.

# Both bases can be replaced, for a mirror of the registry: --build-arg BASE=…
# The Debian release of the two must be the same: the binary is linked to its C library.
ARG RUST=docker.io/library/rust:1.90-bookworm
ARG BASE=docker.io/library/debian:bookworm-slim

# All that the next stage takes from here is /volley, so a folder that holds a ready binary can
# stand in for this stage: --build-context build=target/release
#
# It runs on the architecture of the machine that builds, and compiles for that of the image: the
# compiler under an emulator would take hours.
FROM --platform=$BUILDPLATFORM ${RUST} AS build
ARG TARGETARCH
RUN host=$(dpkg --print-architecture) \
    && case "${TARGETARCH:=$host}" in \
        amd64) cpu=x86_64 ;; \
        arm64) cpu=aarch64 ;; \
        *) echo "there is no build for $TARGETARCH" >&2; exit 1 ;; \
    esac \
    && echo "$cpu" > /cpu \
    && if [ "$TARGETARCH" != "$host" ]; then \
        apt-get update \
        && apt-get install --yes --no-install-recommends \
            "gcc-$(echo "$cpu" | tr _ -)-linux-gnu" "libc6-dev-$TARGETARCH-cross"; \
    fi
WORKDIR /src
COPY . .
# Without line tables the binary is a fifth of the size; names in backtraces stay.
RUN cpu=$(cat /cpu) && target="$cpu-unknown-linux-gnu" && compiler="$cpu-linux-gnu-gcc" \
    && rustup target add "$target" \
    && export "CC_$(echo "$target" | tr - _)=$compiler" \
    && export "CARGO_TARGET_$(echo "$target" | tr a-z- A-Z_)_LINKER=$compiler" \
    && CARGO_PROFILE_RELEASE_DEBUG=0 \
        cargo build --release --locked --package volley-runner --bin volley --target "$target" \
    && mv "target/$target/release/volley" /volley

FROM ${BASE}

# The root certificates are the package and not a copied file, so that an image built on this one
# can add its own with update-ca-certificates, and a scanner sees how old they are.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ca-certificates \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log

# sh is bash, not dash. The operator starts a local script as `sh -c "if …; fi; k6 run …"`: dash
# stays the first process of the container, above the agent, and the first process is not even
# told of a SIGTERM that it has no handler for. bash replaces itself by the last command, so the
# agent is the first process, ends the run in good order, and its exit code is the container's.
# The diversion is what dash's own package asks for: without it, an update of dash in an image
# built on this one would take the name back.
RUN dpkg-divert --package dash --no-rename --remove /bin/sh \
    && dpkg-divert --local --no-rename --divert /bin/sh.distrib --add /bin/sh \
    && ln -sf bash /bin/sh

# The name, user and folder of grafana/k6. A cluster may choose any other uid, and the operator of 2022
# writes its archive into the working directory: so, like /tmp, it is everyone's.
RUN groupadd --gid 12345 k6 \
    && useradd --uid 12345 --gid 12345 --home-dir /home/k6 --no-create-home --no-log-init \
        --shell /usr/sbin/nologin k6 \
    && install --directory --mode=1777 /home/k6 \
    && ln -s volley /usr/bin/k6

COPY --from=build /volley /usr/bin/volley

# Last, because these change with every build and nothing after them has to be built again.
ARG VERSION=dev
ARG SOURCE=
LABEL org.opencontainers.image.title="volley" \
      org.opencontainers.image.description="Native load generator agent that runs k6 scripts" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}"

# The same for every uid, also for one that /etc/passwd does not know.
ENV HOME=/home/k6
WORKDIR /home/k6
# A number, because only of a number can a kubelet say that it is not root.
USER 12345
# 5656: /metrics of `--out prometheus`. 6565: the REST API, where the operator asks for it.
EXPOSE 5656 6565
ENTRYPOINT ["k6"]
