# NATS speaks before it starts TLS, and openssl knows nothing of that. Tells the server's serial number on descriptor 5.
ping_nats() { # DIRECTORY OF THE CLIENT'S FILES; without svid.pem it shows none
    python3 - "$1" >&5 <<'END'
import os, socket, ssl, sys

own = sys.argv[1]
context = ssl.create_default_context(cafile=own + "/bundle.pem")
context.check_hostname = False
if os.path.exists(own + "/svid.pem"):
    context.load_cert_chain(own + "/svid.pem", own + "/svid-key.pem")
plain = socket.create_connection(("127.0.0.1", 18460), 20)
assert plain.makefile("rb", buffering=0).readline().startswith(b"INFO ")
tls = context.wrap_socket(plain)
tls.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
answer = tls.makefile("rb").readline()
assert answer == b"PONG\r\n", answer
print("serial=" + tls.getpeercert()["serialNumber"])
END
}
connect_to_nats() { with_client_files ping_nats 5>&1; }

nats_turns_away() { # DIRECTORY OF THE CLIENT'S FILES, REASON
    local said
    said=$(ping_nats "$1" 5>&1 2>&1) && return 1
    grep -i -- "$2" <<<"$said"
}

nats_follows() {
    set_up nats "$APPLICATION" nats.conf 18460
    keep_fresh nats "$APPLICATION" nats.conf
    background "$work/nats/server.log" $(as "$APPLICATION") nats-server -c "$work/nats/nats.conf"
    follows_rotations nats connect_to_nats
    mkdir "$work/nats/stranger"
    cp "$work/client/bundle.pem" "$work/nats/stranger"
    nats_turns_away "$work/nats/stranger" 'alert.*certificate'
    # Another SPIFFE ID than that of the recipe.
    recipe nats nats.conf 18460 | sed 's#workload/nginx#workload/other#' >"$work/nats/nats.conf"
    kill -HUP "$(cat "$work/nats/run/nats.pid")"
    wait_until "NATS refuses another SPIFFE ID" nats_turns_away "$work/client" 'Authorization Violation'
}
check "NATS follows its rotations, and admits one SPIFFE ID alone" nats_follows
