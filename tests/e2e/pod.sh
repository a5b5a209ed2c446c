# Each nginx manifest as a pod under podman: one container, or init container, app and sidecar on one
# volume; the agent's socket on a hostPath; and an mTLS client that connects without pause through rotations.
# Sourced by `run`.

ROTATIONS=20

rotate_to_new_serial() {
    local before
    before=$(serial_in "$work/client")
    tell_agent "$1"
    wait_until "the client has a new SVID" has_new_serial "$work/client" "$before"
    wait_until "nginx serves it" last_seen "$(serial_in "$work/client")" || shows_pod
}

# What is there when nginx does not serve the newest SVID.
shows_pod() {
    local container
    for container in $(podman ps -a --format '{{.Names}}'); do
        echo "$container:"
        podman logs --tail 20 "$container" 2>&1
    done
    echo "the client's last connections:"
    tail -n 20 "$work/connections"
    return 1
}

starts() {
    local volume path
    volume=svid-$(basename "$manifest" .yaml)
    new_volume "$volume"
    target/tools/bin/python3 tests/e2e/for_podman.py "$manifest" "$work/agent" "$work/$volume" >"$work/pod.yaml"
    podman play kube --network host --seccomp-profile-root "$PWD/manifests" "$work/pod.yaml"
    wait_until "nginx serves" connect_with_https 127.0.0.1:8443
    # podman has no HTTP probes.
    for path in $(grep -o 'path: /\(live\|ready\)' "$manifest" | cut -d ' ' -f 2); do
        wait_until "the probe of $path succeeds" has_status 8081 "$path" 200
    done
}

# What the runtime is told to allow each container that runs nothing but the helper.
is_confined() {
    local container number=0
    for container in $(podman ps -a --filter name=my-nginx \
        --filter ancestor=localhost/pod-svid-helper:latest --format '{{.Names}}'); do
        python3 - "$(podman inspect --format '{{.OCIConfigPath}}' "$container")" <<'END'
import json, sys
def allowed(profile):
    return {name for group in profile["syscalls"] for name in group["names"] if group["action"] == "SCMP_ACT_ALLOW"}
found = allowed(json.load(open(sys.argv[1]))["linux"]["seccomp"])
expected = allowed(json.load(open("manifests/seccomp.json")))
assert found == expected, f"allowed and not in the profile, or the reverse: {sorted(found ^ expected)[:10]}"
END
        number=$((number + 1))
    done
    echo >&3 "$number containers"
    # In nginx-run.yaml, helper and nginx share one.
    [ $number -gt 0 ] || [ "$manifest" = manifests/nginx-run.yaml ]
}

# Old workers have ended: nothing but the newest serial is left.
nothing_else_is_served() {
    wait_until "ten connections in a row see the newest SVID" \
        sh -c '[ "$(tail -n 10 "$1" | sort -u)" = "$2" ]' - "$work/connections" "$(serial_in "$work/client")"
}

rotates() {
    local step
    connect_without_pause connect_with_https 127.0.0.1:8443
    for ((step = 1; step <= ROTATIONS; step++)); do
        case $step in
        # A worker of before, which does not know the new CA, serves on for 0.1 s.
        7)
            rotate_to_new_serial prepare-ca
            nothing_else_is_served
            ;;
        8) rotate_to_new_serial activate-ca ;;
        14) rotate_to_new_serial drop-ca ;;
        *) rotate_to_new_serial rotate ;;
        esac
    done
    nothing_else_is_served
    stop_connecting
    echo >&3 "$(count_connections), $(sort -u "$work/connections" | wc -l) serial numbers"
    no_connection_failed
    [ "$(sort -u "$work/connections" | wc -l)" -gt "$ROTATIONS" ]
}

# Long before SIGKILL: nginx has nothing to wait for.
stops_with_success() {
    local pod container begun=$SECONDS number=0
    pod=$(podman pod ps -q --filter name=my-nginx)
    podman pod stop -t 60 "$pod"
    echo >&3 "after $((SECONDS - begun)) s"
    [ $((SECONDS - begun)) -lt 30 ]
    for container in $(podman ps -a --filter pod="$pod" --format '{{.Names}}' | grep -- '-\(svid-refresh\|nginx\)$'); do
        podman logs "$container"
        [ "$(podman inspect --format '{{.State.ExitCode}}' "$container")" = 0 ]
        number=$((number + 1))
    done
    [ $number -gt 0 ]
}

for manifest in manifests/nginx-run.yaml manifests/nginx.yaml manifests/nginx-native-sidecar.yaml; do
    check "$manifest: the files are fetched, nginx starts and serves mTLS" starts
    check "$manifest: the helper's own containers run under manifests/seccomp.json" is_confined
    check "$manifest: no handshake fails through $ROTATIONS rotations, the CA's among them" rotates
    check "$manifest: helper and nginx stop with success" stops_with_success
    podman play kube --down "$work/pod.yaml" >/dev/null 2>&1 || true
done
