# What CI runs, by name. `just` alone lists the recipes.

_default:
    @just --list

# Everything that must pass before a change lands.
ci:
    .ci/run

build:
    cargo build --release --locked

test:
    cargo test --workspace --locked

lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings

# All parts, or the named ones: just bench get empty
bench *PARTS:
    cargo bench -p volley-runner --bench peers {{PARTS}}

# Every target for 20 s, or the named ones for so many seconds: just fuzz json 300
fuzz *ARGS:
    fuzz/run.sh {{ARGS}}

image:
    docker build -t volley .

demo:
    cargo run --release -- demo
