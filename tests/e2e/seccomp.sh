# The image under manifests/seccomp.json: all modes, through rotations, a hook and HTTP. Sourced by `run`.
#
# A call that the profile does not list fails with ENOSYS. That a program meets such a call is seen by a
# test that fails, or by a line of its log: no line may be a warning or an error.

confined=("${restricted[@]}" --security-opt "seccomp=$PWD/manifests/seccomp.json")
# The image has no other program: the helper is its own hook, and its own application.
looks_at_the_files=(/pod-svid-helper --mode=check --svid-path=/var/run/secret/svid)
all_kinds_of_files=(--combined-file-name=combined.pem --keystore-file-name=key.p12 --truststore-file-name=trust.p12
    --jwt-svid=token=audience --jwt-bundle-file-name=jwks.json --include-federated-bundles --layout=pem,spiffe)

has_no_trouble() { ! grep -E ' (WARN|ERROR) ' "$1"; } # LOG

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

confined_refresh() {
    local step before
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
    podman stop -t 5 e2e-seccomp
    podman logs e2e-seccomp >"$work/said" 2>&1
    cat "$work/said"
    [ "$(podman inspect --format '{{.State.ExitCode}}' e2e-seccomp)" = 0 ]
    podman rm e2e-seccomp
    has_no_trouble "$work/said"
}

new_volume seccomp
check "manifests/seccomp.json: init writes all kinds of files and runs its hook" confined_init
check "manifests/seccomp.json: check and inspect" confined_check_and_inspect
check "manifests/seccomp.json: refresh goes through three rotations, each with the hook and HTTP" confined_refresh
podman rm -f -t 1 e2e-seccomp >/dev/null 2>&1 || true
check "manifests/seccomp.json: run restarts its application" confined_run
podman rm -f -t 1 e2e-seccomp >/dev/null 2>&1 || true

# The profile is what makes the difference: without one of its calls, the helper does not work.
without_a_call() {
    sed 's/"renameat2\?",\?//; s/"rename",\?//' manifests/seccomp.json >"$work/seccomp.json"
    ! podman run --rm "${restricted[@]}" --security-opt "seccomp=$work/seccomp.json" \
        -v "$work/seccomp:/var/run/secret" "${helper[@]}" --svid-path=/var/run/secret/other --mode=init \
        --init-timeout=2s
}
check "manifests/seccomp.json is in force: without rename, init fails" without_a_call
