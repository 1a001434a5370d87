#!/usr/bin/env bash
# Tests for AArch64 on an x86-64 machine, under qemu's user-mode emulation.
#
#   tests/aarch64/run.sh setup                     get a cross toolchain (Debian; the linker and qemu need root once)
#   tests/aarch64/run.sh test [CPU..] [-- ARGS]    cargo test ARGS for each CPU model (default: all models, the code generator's crates)
#   tests/aarch64/run.sh digest MODEL.bin..        outputs of compiled models here and on every CPU model: one digest for each
#   tests/aarch64/run.sh count MODEL.bin..         instructions per image of objects, for every instruction set of AArch64
#   tests/aarch64/run.sh quick                     what continuous integration runs: setup, tests on two models
#
# The toolchain lies in $CATC_AARCH64 (default target/aarch64-toolchain). quick ends with a message and success where none can be had.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/../.."
home=${CATC_AARCH64:-target/aarch64-toolchain}
target=aarch64-unknown-linux-gnu
# What each model has beyond base Advanced SIMD: everything; dotprod; nothing.
models=(max neoverse-n1 cortex-a53)
# Without doc tests: they need a rustdoc for AArch64 as well.
crates=(-p catc-jit -p catc-kernels -p catc-program --no-default-features --lib --tests)
# The emulated compiler back end need not be fast, and the machine that builds it should not wait for it.
fast_build=(--config 'profile.release.package.cranelift-codegen.opt-level=1' --config 'profile.release.package.regalloc2.opt-level=1')

have() { command -v "$1" >/dev/null; }

# Why no toolchain can be had, if so.
obstacle() {
    [ "$(uname -m)" = x86_64 ] || { echo "this machine is not x86-64"; return; }
    have apt-get && have dpkg || { echo "no apt-get: packages come from Debian"; return; }
    if ! have qemu-aarch64 || ! have aarch64-linux-gnu-gcc; then
        [ "$(id -u)" = 0 ] || echo "qemu-user and gcc-aarch64-linux-gnu are missing and installing them needs root"
    fi
}

# A Rust compiler whose AArch64 standard library is packaged. It is unpacked, not installed: apt works on state of its own, so that
# neither the machine's package lists nor its architectures change.
setup() {
    [ -e "$home/ready" ] && return
    local why; why=$(obstacle)
    [ -z "$why" ] || { echo "$why" >&2; return 1; }
    mkdir -p "$home/lists/partial" "$home/archives/partial" "$home/debs" "$home/root"
    local state; state=$(cd "$home" && pwd)
    local apt=(-qq -o APT::Architecture=amd64 -o APT::Architectures::=amd64 -o APT::Architectures::=arm64
        -o Dir::State::Lists="$state/lists" -o Dir::Cache="$state" -o Debug::NoLocking=1)
    if ! have qemu-aarch64 || ! have aarch64-linux-gnu-gcc; then
        apt-get update -qq && apt-get install -qq -y --no-install-recommends \
            qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross >/dev/null || return 1
    fi
    apt-get "${apt[@]}" update || return 1
    # The compiler, its own libraries (named after versions), and the standard libraries of both architectures.
    local depends=(apt-cache "${apt[@]}" depends --no-recommends --no-suggests)
    local std; std=$("${depends[@]}" libstd-rust-web-dev | awk '/Depends: libstd-rust-web-[0-9]/ {print $2; exit}')
    [ -n "$std" ] || { echo "Debian's package libstd-rust-web-dev is not to be had here" >&2; return 1; }
    local llvm; llvm=$("${depends[@]}" "$std" rustc-web | awk '/Depends: libllvm[0-9]/ {print $2; exit}')
    (cd "$home/debs" && apt-get "${apt[@]}" download rustc-web "$std" "$llvm" libstd-rust-web-dev libstd-rust-web-dev:arm64) || return 1
    local deb
    for deb in "$home"/debs/*.deb; do dpkg -x "$deb" "$home/root"; done
    rm -r "$home/debs"
    touch "$home/ready"
}

# Sets the environment in which cargo compiles for AArch64.
enter() {
    local root; root=$(cd "$home/root" && pwd)
    export RUSTC=$root/usr/bin/rustc
    LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu:$(dirname "$(find "$root" -name 'libLLVM*.so*' | head -n 1)")
    export LD_LIBRARY_PATH
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    # Two compilers cannot share a folder of artifacts.
    export CARGO_TARGET_DIR=${CATC_AARCH64_TARGET:-target/aarch64}
}

emulator() { echo "qemu-aarch64 -cpu $1 -L /usr/aarch64-linux-gnu"; }

# cargo_on CPU ARGS..
cargo_on() {
    local cpu=$1; shift
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=$(emulator "$cpu") cargo "$@" --release --target $target "${fast_build[@]}"
}

run_tests() {
    local cpus=() arguments=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do cpus+=("$1"); shift; done
    [ $# -eq 0 ] || shift
    arguments=("$@")
    [ ${#cpus[@]} -gt 0 ] || cpus=("${models[@]}")
    [ ${#arguments[@]} -gt 0 ] || arguments=("${crates[@]}")
    (
        enter
        for cpu in "${cpus[@]}"; do
            log=$(mktemp)
            cargo_on "$cpu" test --no-fail-fast "${arguments[@]}" 2>&1 | tee "$log" | grep -E '^(error|warning: unused|test .* FAILED|---- )' || true
            passed=$(awk '/^test result:/ {passed += $4; failed += $6} END {print passed + 0, "passed,", failed + 0, "failed"}' "$log")
            echo "$cpu: $passed"
            if grep -qE '^test result: FAILED|^error' "$log" || ! grep -q '^test result: ok' "$log"; then
                echo "see $log" >&2
                exit 1
            fi
            rm "$log"
        done
    )
}

digests() {
    local model
    for model in "$@"; do
        local lines
        lines=$(
            cargo run --release -q -p catc-jit --example digest -- "$model" | sed 's/$/ (this CPU)/'
            enter
            for cpu in "${models[@]}"; do
                cargo_on "$cpu" run -q -p catc-jit --no-default-features --example digest -- "$model" | sed "s/\$/ ($cpu)/"
            done
        )
        echo "$model"
        echo "$lines"
        [ "$(echo "$lines" | cut -d' ' -f1 | sort -u | wc -l)" = 1 ] || { echo "the digests differ" >&2; return 1; }
    done
}

counts() {
    local dir; dir=$(mktemp -d)
    trap 'rm -r "$dir"' RETURN
    gcc -shared -fPIC -O2 tests/aarch64/count_instructions.c -o "$dir/count.so"
    local model tier
    for model in "$@"; do
        for tier in aarch64-neon aarch64-dotprod aarch64-i8mm; do
            cargo run --release -q -- "$model" --emit "obj=$dir/net.o,header=$dir/net.h" --target $target --cpu $tier --name net >/dev/null
            aarch64-linux-gnu-gcc -std=c11 -O2 -static -I "$dir" tests/aarch64/repeat.c "$dir/net.o" -o "$dir/repeat"
            local once twice
            once=$(qemu-aarch64 -cpu max -plugin "$dir/count.so" -d plugin "$dir/repeat" 1 2>&1 | awk '/^instructions/ {print $2}')
            twice=$(qemu-aarch64 -cpu max -plugin "$dir/count.so" -d plugin "$dir/repeat" 2 2>&1 | awk '/^instructions/ {print $2}')
            echo "$model $tier: $((twice - once)) instructions per image, object $(stat -c %s "$dir/net.o") bytes"
        done
    done
}

quick() {
    local why; why=$(obstacle)
    if [ -n "$why" ] || ! setup; then
        echo "AArch64 not tested: ${why:-packages cannot be had}"
        return 0
    fi
    run_tests max cortex-a53
}

case ${1:-} in
setup) setup ;;
test) shift; setup; run_tests "$@" ;;
digest) shift; setup; digests "$@" ;;
count) shift; counts "$@" ;;
quick) quick ;;
*) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
