# The image under manifests/seccomp.json: all modes, through rotations, signals, a hook and HTTP. Sourced by
# `run`.
#
# A call that the profile does not list fails with ENOSYS. That the program meets such a call is seen by a
# test that fails, or by a line of its log: no line may be a warning or an error. A call whose failure is not
# told is seen by strace, which runs the same without the profile.

confined=("${restricted[@]}" --security-opt "seccomp=$PWD/manifests/seccomp.json")
# The image has no other program: the helper is its own hook, and its own application.
looks_at_the_files=(/pod-svid-helper --mode=check --svid-path=/var/run/secret/svid)
all_kinds_of_files=(--combined-file-name=combined.pem --keystore-file-name=key.p12 --truststore-file-name=trust.p12
    --jwt-svid=token=audience --jwt-bundle-file-name=jwks.json --include-federated-bundles --layout=pem,spiffe)

has_no_trouble() { must_fail grep -E ' (WARN|ERROR) ' "$1"; } # LOG

confined_init() {
    podman run --rm "${confined[@]}" -v "$work/seccomp:/var/run/secret" "${helper[@]}" "${all_kinds_of_files[@]}" \
        --mode=init -- "${looks_at_the_files[@]}" 2>&1 | tee "$work/said"
    has_no_trouble "$work/said"
    grep '^ok: spiffe://' "$work/said"
}

confined_check_and_inspect() {
    podman run --rm "${confined[@]}" -v "$work/seccomp:/var/run/secret:ro" localhost/pod-svid-helper:latest \
        "${looks_at_the_files[@]:1}"
    podman run --rm "${confined[@]}" localhost/pod-svid-helper:latest --mode=inspect \
        --workload-api-socket=/var/run/spire/spire-agent.sock
}

# The status of an answer inside of the container, which has a network of its own.
status_inside() { # PATH
    nsenter --net --target "$(podman inspect --format '{{.State.Pid}}' e2e-seccomp)" \
        curl --silent --output /dev/null --write-out '%{http_code}' "http://127.0.0.1:8081$1"
}

hook_runs() { [ "$(podman logs e2e-seccomp 2>&1 | grep -c '^ok: spiffe://')" -ge "$1" ]; } # NUMBER

# Signals that do not end refresh.
HARMLESS=(HUP URG USR1 USR2 WINCH CONT)

confined_refresh() {
    local step before signal
    podman run -d --name e2e-seccomp "${confined[@]}" -v "$work/seccomp:/var/run/secret" "${helper[@]}" \
        "${all_kinds_of_files[@]}" --mode=refresh --http-address=127.0.0.1:8081 -- "${looks_at_the_files[@]}"
    wait_until "the hook has run" hook_runs 1
    for step in 1 2 3; do
        before=$(serial_in "$work/seccomp/svid")
        tell_agent rotate
        wait_until "the rotation is there" has_new_serial "$work/seccomp/svid" "$before"
        wait_until "the hook has run again" hook_runs $((step + 1))
        [ "$(status_inside /live) $(status_inside /ready) $(status_inside /metrics)" = "200 200 200" ]
    done
    for signal in "${HARMLESS[@]}"; do podman kill --signal "$signal" e2e-seccomp; done
    # As an exec probe does.
    podman exec e2e-seccomp "${looks_at_the_files[@]}"
    ends_with_success
}

confined_run() {
    local before
    podman run -d --name e2e-seccomp "${confined[@]}" -v "$work/seccomp:/var/run/secret" "${helper[@]}" --mode=run \
        --on-renewal=restart -- /pod-svid-helper --mode=refresh --svid-path=/var/run/secret/application \
        --workload-api-socket=/var/run/spire/spire-agent.sock
    wait_until "the application has its files" test -e "$work/seccomp/application/svid.pem"
    before=$(serial_in "$work/seccomp/svid")
    tell_agent rotate
    wait_until "the rotation is there" has_new_serial "$work/seccomp/svid" "$before"
    wait_until "the application has started anew" application_starts 2
    ends_with_success
}
application_starts() { [ "$(podman logs e2e-seccomp 2>&1 | grep -c 'started /pod-svid-helper')" -ge "$1" ]; } # NUMBER

ends_with_success() {
    podman stop -t 20 e2e-seccomp
    podman logs e2e-seccomp >"$work/said" 2>&1
    cat "$work/said"
    [ "$(podman inspect --format '{{.State.ExitCode}}' e2e-seccomp)" = 0 ]
    podman rm e2e-seccomp
    has_no_trouble "$work/said"
}

# Another owner's files, and a sticky directory: only that it is shared by all users is told.
confined_init_elsewhere() {
    podman run --rm "${confined[@]}" --user=0:0 --cap-add=CHOWN,DAC_OVERRIDE,FOWNER \
        -v "$work/seccomp:/var/run/secret" "${at_agent[@]}" \
        --mode=init --svid-path=/var/run/secret/given --file-owner=101:102 2>&1 | tee "$work/said"
    has_no_trouble "$work/said"
    [ "$(stat -L -c '%u:%g' "$work/seccomp/given/svid-key.pem")" = 101:102 ]
    podman run --rm "${confined[@]}" -v "$work/seccomp-sticky:/var/run/secret" "${at_agent[@]}" \
        --mode=init --svid-path=/var/run/secret 2>&1 | grep -v 'is shared by all users' | tee "$work/said"
    has_no_trouble "$work/said"
    [ -f "$work/seccomp-sticky/svid.pem" ]
}

# The profile is in force: without one of its calls, the helper says so.
without_rename() {
    local code=0
    sed 's/"rename\(at\|at2\)\?", *//g; s/"rename\(at\|at2\)\?",$//' manifests/seccomp.json >"$work/seccomp.json"
    init_elsewhere() { # PROFILE
        podman run --rm "${restricted[@]}" --security-opt "seccomp=$1" -v "$work/seccomp:/var/run/secret" \
            "${at_agent[@]}" --svid-path=/var/run/secret/other --mode=init --init-timeout=2s 2>&1
    }
    init_elsewhere "$work/seccomp.json" >"$work/said" || code=$?
    cat "$work/said"
    [ $code = 1 ]
    grep 'cannot .*: Function not implemented' "$work/said"
    init_elsewhere "$PWD/manifests/seccomp.json"
}

# The calls of the same runs on this machine, which strace sees. It runs as the helper's user, so that the program
# itself makes the first call.
traced() { # OPTION OF THE HELPER...
    # shellcheck disable=SC2046 # a command
    $(as "${user:-$APPLICATION}") strace -f -qq -A -o "$work/traced/calls" "$release/pod-svid-helper" "$@"
}

traced_runs() {
    local svid=$work/traced/svid look before signal helper
    look=("$release/pod-svid-helper" --mode=check "--svid-path=$svid")
    traced --svid-path="$svid" "${all_kinds_of_files[@]}" --mode=init -- "${look[@]}"
    traced "${look[@]:1}"
    traced --mode=inspect
    traced --svid-path="$work/seccomp-sticky" --mode=init
    user=0 traced --svid-path="$work/traced/given" --file-owner=101:102 --mode=init

    traced --svid-path="$svid" "${all_kinds_of_files[@]}" --mode=refresh --http-address=127.0.0.1:18481 \
        -- "${look[@]}" 2>"$work/traced/log" &
    wait_until "the hook has run" grep -q 'ended with code 0' "$work/traced/log"
    helper=$(pgrep -f -- "^$release/pod-svid-helper --svid-path=$svid .*--mode=refresh")
    echo "$helper" >>"$work/pids"
    before=$(serial_in "$svid")
    tell_agent rotate
    wait_until "the rotation is there" has_new_serial "$svid" "$before"
    for signal in "${HARMLESS[@]}"; do kill -s "$signal" "$helper"; done
    curl --silent --fail http://127.0.0.1:18481/metrics >/dev/null
    kill "$helper"
    wait $!

    traced --svid-path="$svid" --mode=run --on-renewal=restart -- \
        "$release/pod-svid-helper" --mode=refresh --svid-path="$work/traced/application" 2>"$work/traced/log" &
    wait_until "the application has its files" test -e "$work/traced/application/svid.pem"
    helper=$(pgrep -f -- "^$release/pod-svid-helper --svid-path=$svid --mode=run")
    echo "$helper" >>"$work/pids"
    before=$(serial_in "$svid")
    tell_agent rotate
    wait_until "the rotation is there" has_new_serial "$svid" "$before"
    wait_until "the application has started anew" traced_application_starts 2
    kill "$helper"
    wait $!
}

traced_application_starts() { [ "$(grep -c ' started .*pod-svid-helper' "$work/traced/log")" -ge "$1" ]; } # NUMBER

calls_of_the_profile() {
    python3 -c 'import json; [print(*group["names"], sep="\n") for group in json.load(open("manifests/seccomp.json"))["syscalls"]]'
}

allows_what_is_called() {
    traced_runs
    sed -n 's/^[0-9]* *\(<\.\.\. \)\?\([a-z][a-z0-9_]*\)[( ].*/\2/p' "$work/traced/calls" | sort -u >"$work/traced/seen"
    echo >&3 "$(wc -l <"$work/traced/seen") different calls"
    echo "called, and not allowed:"
    calls_of_the_profile | sort -u | comm -13 - "$work/traced/seen" | tee "$work/said"
    [ ! -s "$work/said" ]
}

new_volume seccomp
new_volume seccomp-sticky
install -d -m 0777 "$work/traced"
check "manifests/seccomp.json: init writes all kinds of files and runs its hook" confined_init
check "manifests/seccomp.json: check and inspect" confined_check_and_inspect
check "manifests/seccomp.json: init for another owner, and in a sticky directory" confined_init_elsewhere
check "manifests/seccomp.json: refresh goes through three rotations, each with the hook and HTTP, and signals" \
    confined_refresh
podman rm -f -t 1 e2e-seccomp >/dev/null 2>&1 || true
check "manifests/seccomp.json: run restarts its application" confined_run
podman rm -f -t 1 e2e-seccomp >/dev/null 2>&1 || true
check "manifests/seccomp.json is in force: without rename, init fails and says so" without_rename
check "manifests/seccomp.json allows each call that strace sees" allows_what_is_called
