# Cargo for microcontrollers; sourced by `build` and `footprint/measure`.
#
#   need_target TARGET          a compiler for it is there, or is installed where that is allowed
#   bare_cargo TARGET ARGUMENT… cargo with that compiler, in the folder where it is called

has_rustup_target() {
    [ -d "$(rustc --print target-libdir --target "$1" 2>/dev/null)" ]
}

has_debian_compiler() {
    [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] &&
        [ -f "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/core/src/lib.rs" ]
}

# The linker of rustup's toolchain does for any target; Debian's is a package of its own.
bare_linker() {
    local linker
    linker=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/rust-lld
    if [ -x "$linker" ]; then echo "$linker"; else command -v ld.lld; fi
}

need_target() {
    has_rustup_target "$1" || has_debian_compiler && return
    timeout 120 rustup target add "$1" >/dev/null 2>&1 && has_rustup_target "$1" && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        (apt-get update -qq && apt-get install -y -qq --no-install-recommends rustc-web cargo-web rust-web-src lld) >&2 || true
        has_debian_compiler && return
    fi
    echo "no compiler for $1: either 'rustup target add $1', or on Debian as root" >&2
    echo "'apt-get install --no-install-recommends rustc-web cargo-web rust-web-src lld'" >&2
    return 1
}

bare_cargo() {
    local target=$1
    shift
    if has_rustup_target "$target"; then
        cargo "$@" --target "$target"
        return
    fi
    env PATH="/usr/bin:$PATH" RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
        "CARGO_TARGET_$(echo "$target" | tr a-z- A-Z_)_LINKER=$(bare_linker)" \
        /usr/bin/cargo "$@" -Zbuild-std=core,alloc --target "$target"
}
