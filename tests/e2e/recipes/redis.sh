ping_redis() { # DIRECTORY OF THE CLIENT'S FILES
    redis-cli -p 18450 --tls --cacert "$1/bundle.pem" --cert "$1/svid.pem" --key "$1/svid-key.pem" PING | grep '^PONG$'
}

# One connection to see the certificate, and one of a real client.
connect_to_redis() { connect 127.0.0.1:18450 '' '' && with_client_files ping_redis; }

redis_follows() {
    set_up redis "$APPLICATION" redis.conf 18450
    keep_fresh redis "$APPLICATION" redis.conf
    background "$work/redis/server.log" $(as "$APPLICATION") redis-server "$work/redis/redis.conf" --dir "$work/redis/data"
    follows_rotations redis connect_to_redis
    must_fail redis-cli -p 18450 --tls --cacert "$work/client/bundle.pem" PING
}
check "Redis follows its rotations" redis_follows
