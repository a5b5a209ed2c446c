envoy_follows() {
    set_up envoy "$APPLICATION" envoy.yaml 18447
    recipe envoy envoy-svid.yaml >"$work/envoy/envoy-svid.yaml"
    recipe envoy envoy-bundle.yaml >"$work/envoy/envoy-bundle.yaml"
    keep_fresh envoy "$APPLICATION" envoy.yaml
    local program
    program=$(ls "$PWD"/target/tools/lib/python3*/site-packages/envoy/_bin/envoy)
    background "$work/envoy/server.log" $(as "$APPLICATION") "$program" --config-path "$work/envoy/envoy.yaml" \
        --concurrency 1 --disable-hot-restart --log-level warn
    follows_rotations envoy connect_with_https 127.0.0.1:18447
    turns_strangers_away 127.0.0.1:18447
}
check "Envoy follows its rotations by itself" envoy_follows
