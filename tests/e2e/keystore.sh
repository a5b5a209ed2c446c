# A JVM with the helper's own keystores, through rotations of SVID and CA: no other program has a part in
# them. Sourced by `run`; the agent's CA is another one afterwards.

JVM_PORT=18446
KEYSTORE_PASSWORD="a password of its own"

compile_tls
# With the newline that `echo` leaves.
echo "$KEYSTORE_PASSWORD" >"$work/keystore-password"

# Keeps the files fresh.
keep_keystores() { # NAME OPTION...
    local name=$1
    shift
    background "$work/$name.log" "$release/pod-svid-helper" --mode=refresh --svid-path="$work/$name" \
        --log-level=info "$@"
    wait_until "the files of $name are there" test -e "$work/$name/svid.pem"
}

# Runs a JVM's server with keystores of its own.
start_jvm_server() { # NAME
    keep_keystores "$1" --keystore-file-name=keystore.p12 --truststore-file-name=truststore.p12 \
        --keystore-password-file="$work/keystore-password"
    background "$work/$1-server.log" java -cp "$work/java" Tls serve $JVM_PORT "$KEYSTORE_PASSWORD" \
        "$work/$1/truststore.p12" "$work/$1/keystore.p12"
    wait_until "the JVMs authenticate each other" jvms_authenticate_each_other "$1"
}

# Connects to the server, with a trust store and perhaps a key store.
ask() { # PASSWORD TRUSTSTORE [KEYSTORE]
    java -cp "$work/java" Tls ask $JVM_PORT "$@"
}

# The server and a client know each other by both stores, and the server shows what is in the PEM files.
jvms_authenticate_each_other() { # NAME
    ask "$KEYSTORE_PASSWORD" "$work/$1/truststore.p12" "$work/$1/keystore.p12" >"$work/answer" &&
        [ "$(cat "$work/answer")" = "$(serial_in "$work/$1")
server spiffe://example.org/workload/nginx
hello spiffe://example.org/workload/nginx" ]
}

has_entries() { # STORE KIND NUMBER
    [ "$(keytool -J-Duser.language=en -list -keystore "$work/$1" -storepass "$KEYSTORE_PASSWORD" |
        grep -c "$2")" = "$3" ]
}

follows_rotations_of_the_svid() {
    local before
    start_jvm_server jvm-svid
    has_entries jvm-svid/keystore.p12 PrivateKeyEntry 1
    has_entries jvm-svid/truststore.p12 trustedCertEntry 1
    for _ in 1 2 3; do
        before=$(serial_in "$work/jvm-svid")
        tell_agent rotate
        wait_until "there is a new SVID" has_new_serial "$work/jvm-svid" "$before"
        jvms_authenticate_each_other jvm-svid
    done
}
check "a JVM's server and client follow rotations of the SVID" follows_rotations_of_the_svid

follows_a_rotation_of_the_ca() {
    local before
    start_jvm_server jvm-ca
    tell_agent prepare-ca
    wait_until "the bundle has the new CA too" bundle_has "$work/jvm-ca" 2
    has_entries jvm-ca/truststore.p12 trustedCertEntry 2
    jvms_authenticate_each_other jvm-ca
    before=$(serial_in "$work/jvm-ca")
    tell_agent activate-ca
    wait_until "the new CA has signed an SVID" has_new_serial "$work/jvm-ca" "$before"
    jvms_authenticate_each_other jvm-ca
    tell_agent drop-ca
    wait_until "the bundle has the new CA alone" bundle_has "$work/jvm-ca" 1
    has_entries jvm-ca/truststore.p12 trustedCertEntry 1
    jvms_authenticate_each_other jvm-ca
}
check "a JVM's server and client follow a rotation of the CA" follows_a_rotation_of_the_ca

trust_store_alone() {
    start_jvm_server jvm-server
    # With the default password.
    keep_keystores jvm-client --truststore-file-name=truststore.p12
    [ ! -e "$work/jvm-client/keystore.p12" ]
    ask changeit "$work/jvm-client/truststore.p12" >"$work/answer"
    cat "$work/answer"
    grep -qx "server spiffe://example.org/workload/nginx" "$work/answer"
    grep -qx "hello nobody" "$work/answer"
}
check "a JVM's client needs the trust store alone" trust_store_alone
