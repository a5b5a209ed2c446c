# The server name is that of the request. Caddy may reset a connection while it reloads: a client tries again once.
connect_to_caddy() { # EXPECTED
    local said
    said=$(try_caddy "$1") || said=$(try_caddy "$1") || { echo "$said"; return 1; }
    echo "$said"
}
try_caddy() { connect 127.0.0.1:18461 "$HTTP_REQUEST" "$1" -servername localhost; } # EXPECTED

configure_caddy() { # SPIFFE ID OF THE CLIENT
    recipe caddy caddy.md 18461 | sed '1,/^```json/d; /^```/,$d' | sed "s#spiffe://[^\"]*#$1#" >"$work/caddy/caddy.json"
}

caddy_follows() {
    set_up caddy "$APPLICATION" caddy.md
    configure_caddy spiffe://example.org/workload/nginx
    keep_fresh caddy "$APPLICATION" caddy.md
    background "$work/caddy/server.log" $(as "$APPLICATION") caddy run --config "$work/caddy/caddy.json"
    follows_rotations caddy connect_to_caddy '^hello'
    turns_strangers_away 127.0.0.1:18461 "$HTTP_REQUEST" 'HTTP/1.1'
    configure_caddy spiffe://example.org/workload/other
    $(as "$APPLICATION") caddy reload --config "$work/caddy/caddy.json"
    connect_to_caddy 'HTTP/1.1 403'
}
check "Caddy follows its rotations, and admits one SPIFFE ID alone" caddy_follows
