start_etcd() {
    background "$work/etcd/server.log" $(as "$APPLICATION") etcd --config-file "$work/etcd/etcd.yaml"
    etcd=$!
}
restart_etcd() {
    kill "$etcd"
    wait "$etcd" || true
    start_etcd
}

etcd_follows() {
    set_up etcd "$APPLICATION" etcd.yaml 18453
    keep_fresh etcd "$APPLICATION" etcd.yaml
    start_etcd
    follows_rotations etcd connect 127.0.0.1:18453 "$(get /health)" '"health":"true"'
    turns_strangers_away 127.0.0.1:18453 "$(get /health)" health
}
check "etcd follows its rotations, and with a restart the CA's" etcd_follows
