# The unit and its drop-in, under a systemd that is process 1 of a container with this machine's programs.
# Sourced by `run`.

# The most that `systemd-analyze security` may find: 0 is locked up, 10 is wide open.
MOST_EXPOSED=2.0

in_systemd() { podman exec e2e-systemd "$@"; }
property() { in_systemd systemctl show --value --property "$2" "$1"; } # UNIT NAME
has() { [ "$(property "$1" "$2")" = "$3" ]; }                          # UNIT NAME VALUE

# The commands in the head of a manifest, which a person types.
commands_of() { sed -n 's/^#   //p' "manifests/$1"; }

boot() {
    # Not a part of the file system that is laid over.
    mkdir "$work/systemd"
    mount -t tmpfs -o size=200m tmpfs "$work/systemd"
    mkdir "$work/systemd"/{upper,work,root}
    mount -t overlay overlay "$work/systemd/root" \
        -o "lowerdir=/,upperdir=$work/systemd/upper,workdir=$work/systemd/work"
    local root=$work/systemd/root
    mkdir "$root/files"
    cp "$release/pod-svid-helper" manifests/pod-svid-helper.service manifests/wait-for-svids.conf "$root/files/"
    cat >"$root/etc/systemd/system/my-app.service" <<'UNIT'
[Service]
ExecStart=/bin/sh -c 'cat /run/pod-svid-helper/svid-key.pem && exec sleep infinity'
User=nobody
UNIT
    mkdir "$work/sockets"
    # /tmp and /run are its own: others write to the machine's meanwhile.
    podman run -d --privileged --systemd=always --tmpfs /tmp:mode=1777,notmpcopyup \
        --tmpfs /run:mode=0755,notmpcopyup --name e2e-systemd --rootfs \
        -v "$work/sockets:/run/spire/sockets" "$root" /lib/systemd/systemd --unit=basic.target
    wait_until "systemd has started" in_systemd systemctl is-active basic.target
    in_systemd sh -exc "cd /files; $(commands_of wait-for-svids.conf)"
    # Short enough to wait for, and long enough for a busy machine.
    in_systemd sh -exc "cd /files; $(commands_of pod-svid-helper.service | sed '/systemctl/d')
        install -D /dev/stdin /etc/systemd/system/pod-svid-helper.service.d/watchdog.conf <<'CONF'
[Service]
WatchdogSec=20
CONF
        systemctl daemon-reload"
}

unit_is_valid() { in_systemd systemd-analyze verify pod-svid-helper.service my-app.service; }

unit_is_confined() {
    in_systemd systemd-analyze security --no-pager pod-svid-helper.service | tail -n 1
    in_systemd systemd-analyze security --no-pager pod-svid-helper.service --threshold="${MOST_EXPOSED/./}" >/dev/null
}

application_waits() {
    in_systemd systemctl start --no-block my-app.service
    wait_until "the unit starts" has pod-svid-helper ActiveState activating
    wait_until "the status has the reason" sh -c 'podman exec e2e-systemd systemctl status pod-svid-helper | grep "no X.509-SVID yet"'
    has my-app ActiveState inactive
    # The agent comes.
    ln "$work/agent/spire-agent.sock" "$work/sockets/agent.sock"
    wait_until "the unit is ready" has pod-svid-helper ActiveState active
    wait_until "the application runs" has my-app ActiveState active
    property pod-svid-helper StatusText | grep 'is published in /run/pod-svid-helper'
}

watchdog_is_fed() {
    local kept restarts
    restarts=$(property pod-svid-helper NRestarts)
    kept=$(property pod-svid-helper WatchdogTimestampMonotonic)
    fed() { [ "$(property pod-svid-helper WatchdogTimestampMonotonic)" -gt "$kept" ]; }
    wait_until "the watchdog is fed" fed
    has pod-svid-helper NRestarts "$restarts"
}

stopped_helper_is_restarted() {
    local application restarts
    application=$(property my-app MainPID)
    restarts=$(property pod-svid-helper NRestarts)
    in_systemd systemctl kill --signal=STOP pod-svid-helper
    has_restarted() { [ "$(property pod-svid-helper NRestarts)" -gt "$restarts" ]; }
    wait_until "systemd has restarted it" has_restarted
    wait_until "the unit is ready again" has pod-svid-helper ActiveState active
    has my-app ActiveState active
    has my-app MainPID "$application"
    in_systemd systemctl restart pod-svid-helper
    has my-app MainPID "$application"
}

ends_with_its_files() {
    in_systemd systemctl stop pod-svid-helper
    has pod-svid-helper Result success
    in_systemd test -e /run/pod-svid-helper/svid.pem
}

check "systemd starts, and takes the unit as its head says" boot
check "pod-svid-helper.service and its drop-in are valid" unit_is_valid
check "pod-svid-helper.service is confined" unit_is_confined
check "an application with the drop-in starts when the SVIDs are there, and reads the key" application_waits
check "the watchdog is fed" watchdog_is_fed
check "a helper that hangs is restarted, or by hand, and the application runs on" stopped_helper_is_restarted
check "the unit ends with success, and the files stay" ends_with_its_files
podman rm -f -t 1 e2e-systemd >/dev/null 2>&1 || true
