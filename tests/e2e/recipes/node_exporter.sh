node_exporter_follows() {
    set_up node_exporter "$APPLICATION" node-exporter.yaml
    keep_fresh node_exporter "$APPLICATION" node-exporter.yaml
    background "$work/node_exporter/server.log" $(as "$APPLICATION") prometheus-node-exporter \
        --web.config.file="$work/node_exporter/node-exporter.yaml" --web.listen-address=127.0.0.1:18454
    follows_rotations node_exporter connect 127.0.0.1:18454 "$(get /)" 'Node Exporter'
    turns_strangers_away 127.0.0.1:18454 "$(get /)" 'Node Exporter'
}
check "node_exporter follows its rotations" node_exporter_follows
