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

# Announces what is going to be installed; with NO_INSTALL=1, ends the program. Fails if nothing is
# missing.
may_install() { # INSTALLER
    if [ -z "$missing" ]; then return 1; fi
    if [ "${NO_INSTALL:-}" = 1 ]; then
        echo "please install$missing (nothing is installed because of NO_INSTALL=1)" >&2
        exit 1
    fi
    echo "installing$missing with $1"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}
