# The recipes of manifests/recipes with their servers: each serves with the files, and follows three
# rotations while a client connects without pause, and one of the CA. Sourced by `run`.
#
# Configuration and helper's options are those of the recipe; only paths and ports are this test's own.

# The helper's command in a recipe: after `#` or `$`, on several lines that end with a backslash.
command_of() {
    awk '
        /^(# +|\$ )pod-svid-helper / { on = 1 }
        on { sub(/^(# +|\$ )/, ""); more = sub(/\\$/, ""); printf "%s", $0; if (!more) exit }
    '
}

# Keeps the files fresh with the helper's options of the recipe, and those that follow.
keep_fresh() { # NAME USER FILE [OPTION]...
    local name=$1 user=$2 command
    command=$(recipe "$name" "$3" | command_of)
    shift 3
    eval "set -- \"\$@\" ${command#pod-svid-helper }"
    background "$work/$name/helper.log" $(as "$user") "$release/pod-svid-helper" --log-level=info "$@"
    wait_until "the files of $name are there" test -e "$work/$name/svid/svid.pem"
}

# Rotates three times, while a client connects without pause: no connection may fail, and each new
# certificate is served in the end.
follows_three_rotations() { # NAME CONNECT...
    local name=$1 step before slowest=0 begun took
    shift
    wait_until "$name serves" "$@"
    connect_without_pause "$@"
    for step in 1 2 3; do
        before=$(serial_in "$work/$name/svid")
        tell_agent rotate
        wait_until "$name has a new SVID" has_new_serial "$work/$name/svid" "$before"
        begun=$(date +%s%N)
        wait_until "$name serves it" last_seen "$(serial_in "$work/$name/svid")"
        took=$((($(date +%s%N) - begun) / 1000000))
        if [ $took -gt $slowest ]; then slowest=$took; fi
        wait_until "ten more connections are made" has_connections $(($(grep -c '^serial=' "$work/connections") + 10))
    done
    stop_connecting
    cat "$work/$name"/*.log
    echo >&3 "$(count_connections); the new certificate was served within $slowest ms"
    no_connection_failed
}

# Rotates the CA: clients whose SVIDs are of the new one are served, with an SVID of the new one. A server that
# reads the bundle at its start alone has a function restart_NAME, which is called in time. Each step waits until the
# one before it is served: HAProxy loses a signal that comes while it takes up one.
follows_the_ca() { # NAME CONNECT...
    local name=$1 before
    shift
    if bundle_has "$work/$name/svid" 2; then drops_the_ca "$name" "$@"; fi # of a test that has failed
    tell_agent prepare-ca
    wait_until "the bundle of $name has the new CA too" bundle_has "$work/$name/svid" 2
    wait_until "$name serves the SVID that came with it" serves_the_svid "$work/$name/svid" "$@"
    if declare -F "restart_$name" >/dev/null; then "restart_$name"; fi
    before=$(serial_in "$work/$name/svid")
    tell_agent activate-ca
    wait_until "the new CA has signed an SVID for $name" has_new_serial "$work/$name/svid" "$before"
    wait_until "$name serves it" serves_the_svid "$work/$name/svid" "$@"
    drops_the_ca "$name" "$@"
    before=$(serial_in "$work/$name/svid")
    tell_agent rotate
    wait_until "there is one more SVID for $name" has_new_serial "$work/$name/svid" "$before"
    wait_until "$name serves it" serves_the_svid "$work/$name/svid" "$@"
}
drops_the_ca() { # NAME CONNECT...
    local name=$1
    shift
    tell_agent drop-ca
    wait_until "the bundle of $name has the new CA alone" bundle_has "$work/$name/svid" 1
    wait_until "$name serves the SVID that came with it" serves_the_svid "$work/$name/svid" "$@"
}
serves_the_svid() { # DIRECTORY CONNECT...
    local directory=$1
    shift
    [ "$("$@")" = "$(serial_in "$directory")" ]
}

follows_rotations() { # NAME CONNECT...
    follows_three_rotations "$@"
    follows_the_ca "$@"
}

# A client without a certificate is not served.
turns_strangers_away() { # ADDRESS [REQUEST EXPECTED]
    local answer
    answer=$(printf "${2:-$HTTP_REQUEST}" |
        openssl s_client -connect "$1" -ign_eof -CAfile "$work/client/bundle.pem" 2>&1) || true
    must_fail grep -- "${3:-^hello}" <<<"$answer"
}

for recipe in tests/e2e/recipes/${RECIPE:-*}.sh; do
    . "$recipe"
done
