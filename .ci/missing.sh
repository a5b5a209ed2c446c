# What this machine lacks is told, with the reason, before anything is installed. Sourced.

missing=

# need PACKAGE REASON COMMAND...: without a COMMAND that succeeds, the package is missing.
need() {
    package=$1 reason=$2
    shift 2
    if "$@" >/dev/null 2>&1; then return; fi
    missing="$missing $package"
    echo "missing: $package ($reason)"
}

# Announces what is going to be installed. Ends the program where it may not be (NO_INSTALL=1) or cannot be: this
# is told before anything is compiled. Fails if nothing is missing.
may_install() { # INSTALLER
    if [ -z "$missing" ]; then return 1; fi
    if [ "${NO_INSTALL:-}" = 1 ]; then
        stop "please install$missing (nothing is installed because of NO_INSTALL=1)"
    fi
    case $1 in apt-get | dnf | apk)
        if ! command -v "$1" >/dev/null; then stop "please install$missing (there is no $1 here that could)"; fi
        if ! can_be_root; then stop "please install$missing (only root can: $1 install$missing)"; fi
        ;;
    esac
    echo "installing$missing with $1"
}

stop() { echo "$1" >&2; exit 1; }

# Nothing here installs Rust.
need_cargo() {
    if ! command -v cargo >/dev/null; then
        stop "missing: cargo (compiles the program); please install Rust (https://rustup.rs), or add cargo to PATH"
    fi
}

# Nothing here installs this one either.
need_program() { # PROGRAM REASON
    if ! command -v "$1" >/dev/null; then stop "missing: $1 ($2); please install $1"; fi
}

can_be_root() { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# This machine's name among rustc's targets. Its binary is in target/NAME/release; those of others are elsewhere.
host_target() { rustc -vV | sed -n 's/^host: //p'; }

# rustc's name of a platform that is named as images name it; a name of rustc's is good too.
target_of() { # PLATFORM
    case $1 in
        linux/amd64) echo x86_64-unknown-linux-gnu ;;
        linux/arm64) echo aarch64-unknown-linux-gnu ;;
        linux/arm/v7) echo armv7-unknown-linux-gnueabihf ;;
        linux/riscv64) echo riscv64gc-unknown-linux-gnu ;;
        *-*) echo "$1" ;;
        *) stop "there is no target for the platform $1: give linux/amd64, linux/arm64, linux/arm/v7 or linux/riscv64" ;;
    esac
}
