publish_to_mosquitto() { # DIRECTORY OF THE CLIENT'S FILES
    mosquitto_pub -h 127.0.0.1 -p 18451 --cafile "$1/bundle.pem" --cert "$1/svid.pem" --key "$1/svid-key.pem" \
        --insecure -t hello -m hello
}

# One connection to see the certificate, and one of a real client.
connect_to_mosquitto() { connect 127.0.0.1:18451 '' '' && with_client_files publish_to_mosquitto; }

start_mosquitto() {
    background "$work/mosquitto/server.log" $(as "$APPLICATION") mosquitto -c "$work/mosquitto/mosquitto.conf"
    mosquitto=$!
}
restart_mosquitto() {
    kill "$mosquitto"
    wait "$mosquitto" || true
    start_mosquitto
}

mosquitto_follows() {
    set_up mosquitto "$APPLICATION" mosquitto.conf 18451
    keep_fresh mosquitto "$APPLICATION" mosquitto.conf
    start_mosquitto
    follows_rotations mosquitto connect_to_mosquitto
    must_fail mosquitto_pub -h 127.0.0.1 -p 18451 --cafile "$work/client/bundle.pem" --insecure -t hello -m hello
}
check "Mosquitto follows its rotations, and with a restart the CA's" mosquitto_follows
