import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.security.KeyStore;
import java.security.cert.X509Certificate;
import java.util.List;
import javax.net.ssl.KeyManager;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLPeerUnverifiedException;
import javax.net.ssl.SSLSession;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

/**
 * A TLS server and a TLS client of a JVM, with keystores for identity and trust, as they are on disk at
 * each connection.
 *
 * <pre>
 * Tls serve PORT PASSWORD TRUSTSTORE KEYSTORE    tells each client the SPIFFE ID of its certificate
 * Tls ask PORT PASSWORD TRUSTSTORE [KEYSTORE]    prints the server's serial number, ID and answer
 * Tls get PORT PASSWORD TRUSTSTORE [KEYSTORE]    the same of a web server
 * </pre>
 */
public final class Tls {
    private static final int URI = 6;

    public static void main(String[] arguments) throws Exception {
        List<String> stores = List.of(arguments).subList(2, arguments.length);
        int port = Integer.parseInt(arguments[1]);
        switch (arguments[0]) {
            case "serve" -> serve(port, stores);
            case "ask" -> ask(port, stores, "");
            case "get" -> ask(port, stores, "GET /hello HTTP/1.0\r\n\r\n");
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    private static void serve(int port, List<String> stores) throws Exception {
        try (ServerSocket server = new ServerSocket(port, 50, InetAddress.getLoopbackAddress())) {
            while (true) {
                try (Socket socket = server.accept()) {
                    SSLSocket tls = (SSLSocket) context(stores).getSocketFactory()
                        .createSocket(socket, null, socket.getPort(), true);
                    tls.setUseClientMode(false);
                    tls.setWantClientAuth(true);
                    tls.getOutputStream().write(("hello " + peer(tls.getSession()) + "\n").getBytes());
                    tls.close();
                } catch (Exception error) {
                    System.err.println(error);
                }
            }
        }
    }

    private static void ask(int port, List<String> stores, String request) throws Exception {
        try (SSLSocket tls = (SSLSocket) context(stores).getSocketFactory()
                .createSocket(InetAddress.getLoopbackAddress(), port)) {
            tls.startHandshake();
            tls.getOutputStream().write(request.getBytes());
            String serial = leaf(tls.getSession()).getSerialNumber().toString(16).toUpperCase();
            System.out.println("serial=" + (serial.length() % 2 == 0 ? "" : "0") + serial);
            System.out.println("server " + peer(tls.getSession()));
            System.out.println(new BufferedReader(new InputStreamReader(tls.getInputStream())).readLine());
        }
    }

    /** From a password, a trust store and perhaps a key store. */
    private static SSLContext context(List<String> stores) throws Exception {
        char[] password = stores.get(0).toCharArray();
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(KeyStore.getInstance(new File(stores.get(1)), password));
        KeyManager[] keys = null;
        if (stores.size() > 2) {
            KeyManagerFactory factory = KeyManagerFactory.getInstance("PKIX");
            factory.init(KeyStore.getInstance(new File(stores.get(2)), password), password);
            keys = factory.getKeyManagers();
        }
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys, trust.getTrustManagers(), null);
        return context;
    }

    private static X509Certificate leaf(SSLSession session) throws SSLPeerUnverifiedException {
        return (X509Certificate) session.getPeerCertificates()[0];
    }

    /** The other side's SPIFFE ID. */
    private static String peer(SSLSession session) throws Exception {
        try {
            return leaf(session).getSubjectAlternativeNames().stream()
                .filter(name -> name.get(0).equals(URI)).map(name -> (String) name.get(1)).findFirst().orElseThrow();
        } catch (SSLPeerUnverifiedException error) {
            return "nobody";
        }
    }
}
