# The image under podman, as restricted as a pod can be. Sourced by `run`.

one_file() {
    mkdir "$work/saved"
    podman save -q --format docker-archive -o "$work/saved.tar" localhost/pod-svid-helper:latest
    tar -xf "$work/saved.tar" -C "$work/saved"
    find "$work/saved" -name '*.tar' -type f -exec tar -tf {} \; | grep -v '/$' >"$work/files"
    cat "$work/files"
    [ "$(cat "$work/files")" = pod-svid-helper ]
}
check "the image holds the binary and nothing else" one_file

small() {
    size=$(podman image inspect --format '{{.Size}}' localhost/pod-svid-helper:latest)
    echo "$size bytes"
    [ "$size" -le $((5 * 1024 * 1024)) ]
}
check "the image has at most 5 MiB" small

described() {
    podman image inspect localhost/pod-svid-helper:latest >"$work/inspected"
    grep -q '"User": "65532:65532"' "$work/inspected" && grep -q 'org.opencontainers.image.title' "$work/inspected"
}
check "the image runs as nobody in particular, and has labels" described

new_volume init
init_writes() {
    podman run --rm "${restricted[@]}" -v "$work/init:/var/run/secret" "${helper[@]}" --mode=init
    [ "$(stat -L -c '%a %u' "$work/init/svid/svid.pem" "$work/init/svid/svid-key.pem" "$work/init/svid/bundle.pem" | xargs)" = \
        "644 65532 400 65532 644 65532" ]
    openssl verify -CAfile "$work/init/svid/bundle.pem" "$work/init/svid/svid.pem"
    [ "$(openssl x509 -noout -pubkey -in "$work/init/svid/svid.pem")" = "$(openssl pkey -pubout -in "$work/init/svid/svid-key.pem")" ]
}
check "init writes the right files, in a read-only container without capabilities and network" init_writes

runs_from_an_image_volume() {
    podman run --rm --pull=never --mount type=image,source=localhost/pod-svid-helper:latest,destination=/helper \
        --entrypoint /helper/pod-svid-helper localhost/nginx-for-e2e:latest --version
}
check "another image runs the helper from an image volume" runs_from_an_image_volume

# In the volume itself, which is root's and sticky, no other user may follow a link of the helper's.
new_volume sticky
another_user_reads_a_sticky_volume() {
    local name
    podman run --rm "${restricted[@]}" -v "$work/sticky:/var/run/secret" "${at_agent[@]}" \
        --svid-path=/var/run/secret --key-file-mode=0440 --mode=init
    for name in svid.pem svid-key.pem bundle.pem; do
        setpriv --reuid=101 --regid=101 --groups=65532 cmp "$work/sticky/$name" "$work/sticky/..data/$name"
    done
}
check "another user reads the files where the volume itself is the directory" another_user_reads_a_sticky_volume

looks_at_the_files() {
    podman run --rm "${restricted[@]}" -v "$work/init:/var/run/secret:ro" localhost/pod-svid-helper:latest \
        --mode=check --svid-path=/var/run/secret/svid >"$work/said"
    cat "$work/said"
    grep '^ok: spiffe://example.org/workload/nginx .* left) in /var/run/secret/svid$' "$work/said"
}
check "check, as the exec probe of the image, says that the files are good" looks_at_the_files

shows_what_is_offered() {
    podman run --rm "${restricted[@]}" localhost/pod-svid-helper:latest --mode=inspect --output=json \
        --workload-api-socket=/var/run/spire/spire-agent.sock >"$work/said"
    python3 -c 'import json, sys; print(json.load(sys.stdin)["svids"][0]["spiffe_id"])' <"$work/said" |
        grep '^spiffe://example.org/workload/nginx$'
}
check "inspect shows what the agent offers to the container" shows_what_is_offered

new_volume refresh
refresh_as_process_one() {
    podman run -d --name e2e-refresh "${restricted[@]}" -v "$work/refresh:/var/run/secret" "${helper[@]}" --mode=refresh
    wait_until "the first SVID is there" test -e "$work/refresh/svid/svid.pem"
    pid=$(podman inspect --format '{{.State.Pid}}' e2e-refresh)
    grep -P '^NSpid:.*\t1$' "/proc/$pid/status"
    before=$(serial_in "$work/refresh/svid")
    tell_agent rotate
    wait_until "the rotation is there" has_new_serial "$work/refresh/svid" "$before"
}
check "refresh, as process 1, follows a rotation" refresh_as_process_one

stops() {
    # After 20 s, podman would send SIGKILL, and leave code 137.
    podman stop -t 20 e2e-refresh
    podman logs e2e-refresh 2>&1 | tail -n 1 | grep 'stopped by SIGTERM'
    [ "$(podman inspect --format '{{.State.ExitCode}}' e2e-refresh)" = 0 ]
}
check "refresh stops on SIGTERM with success" stops

fails_saying() {
    local expected=$1 code=0
    shift
    podman run --rm "${restricted[@]}" "$@" >"$work/said" 2>&1 || code=$?
    cat "$work/said"
    [ "$code" = 1 ] && tail -n 1 "$work/said" | grep -q -- "$expected"
}
mkdir -m 0755 "$work/unwritable"
check "a volume that the user cannot write is told with what to set in the manifest" \
    fails_saying 'Permission denied.*fsGroup' -v "$work/unwritable:/var/run/secret" "${helper[@]}" --init-timeout=2s
check "a missing socket mount is told with what to look at" \
    fails_saying 'No such file or directory.*mounted' --tmpfs /var/run/secret:mode=0777 \
    localhost/pod-svid-helper:latest --workload-api-socket=/run/nowhere/agent.sock --init-timeout=1s
check "a wrong ID is told with those that are offered" \
    fails_saying 'offer spiffe://example.org/wrong, only spiffe://example.org/workload/nginx.*--pod-spiffe-id' \
    --tmpfs /var/run/secret:mode=0777 "${helper[@]}" --pod-spiffe-id=spiffe://example.org/wrong --init-timeout=5s

# The list of images for two processors, in a store of its own: podman 4.3 mixes up the images of a list with equal ones
# from before.
arm=${CARGO_TARGET_DIR:-$PWD/target}/cross/aarch64-unknown-linux-gnu/release/pod-svid-helper
for_two_processors() {
    local layer processor
    mkdir "$work/both"
    printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/root"\nrunroot = "%s/run"\n' "$work/both" "$work/both" \
        >"$work/both/storage.conf"
    export CONTAINERS_STORAGE_CONF=$work/both/storage.conf
    make --silent image BINARY="$release/pod-svid-helper $arm"
    podman manifest push --all localhost/pod-svid-helper:latest "oci-archive:$work/both.tar"
    tar -xf "$work/both.tar" -C "$work/both"
    for layer in "$work"/both/blobs/sha256/*; do
        tar -xOf "$layer" pod-svid-helper >"$work/both/binary" 2>/dev/null || continue
        processor=$(od -An -t u2 -j 18 -N 2 "$work/both/binary" | tr -d ' ')
        mv "$work/both/binary" "$work/both/of-$processor"
    done
    chmod 0755 "$work"/both/of-*
    [ "$("$work/both/of-62" --version)" = "$(qemu-aarch64 "$work/both/of-183" --version)" ]
    [ "$(stat -c %s "$work/both/of-183")" -le $((5 * 1024 * 1024)) ]
    grep -q '"org.opencontainers.image.revision"' -r "$work/both/blobs"
}
if [ -e "$arm" ] && command -v qemu-aarch64 >/dev/null; then
    check "a list has an image for x86-64 and one for arm64" for_two_processors
else
    echo "NOT TESTED: the image for arm64, since its binary (make release TARGET=aarch64-unknown-linux-gnu) or qemu-user is not here"
fi
