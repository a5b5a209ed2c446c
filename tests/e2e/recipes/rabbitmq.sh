# With a cookie, a node and a directory of the test's own.
rabbitmq_follows() {
    local directory=$work/rabbitmq
    set_up rabbitmq rabbitmq rabbitmq.conf 18455
    export HOME=$directory RABBITMQ_NODENAME=e2e@localhost RABBITMQ_CONFIG_FILE=$directory/rabbitmq.conf \
        RABBITMQ_MNESIA_BASE=$directory/data RABBITMQ_LOGS=- RABBITMQ_ENABLED_PLUGINS_FILE=$directory/plugins \
        RABBITMQ_DIST_PORT=18456 ERL_EPMD_PORT=18457 ERL_EPMD_ADDRESS=127.0.0.1 PATH=/usr/lib/rabbitmq/bin:$PATH
    # Erlang's name server, which would outlive the test.
    background "$directory/epmd.log" epmd
    keep_fresh rabbitmq rabbitmq rabbitmq.conf
    background "$directory/server.log" $(as rabbitmq) rabbitmq-server
    follows_rotations rabbitmq connect 127.0.0.1:18455 '' ''
}
check "RabbitMQ follows its rotations" rabbitmq_follows
