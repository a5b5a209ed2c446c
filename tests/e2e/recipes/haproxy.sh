haproxy_follows() {
    set_up haproxy "$APPLICATION" haproxy.cfg 18445
    keep_fresh haproxy "$APPLICATION" haproxy.cfg
    background "$work/haproxy/server.log" \
        $(as "$APPLICATION") haproxy -W -p "$work/haproxy/run/haproxy.pid" -f "$work/haproxy/haproxy.cfg"
    follows_rotations haproxy connect_with_https 127.0.0.1:18445
    turns_strangers_away 127.0.0.1:18445
}
check "HAProxy follows its rotations" haproxy_follows
