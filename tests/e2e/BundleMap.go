// A gRPC server with an SVID, and a client of it that trusts what a SPIFFE bundle map says. The file is read, and
// the server's certificate verified, by grpc-go alone.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	pb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/xds/bootstrap"
)

const usage = `usage: BundleMap serve SOCKET DIRECTORY
       BundleMap call SOCKET MAP
       BundleMap follow SOCKET MAP`

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal(usage)
	}
	command, socket, files := os.Args[1], os.Args[2], os.Args[3]
	switch command {
	case "serve":
		serve(socket, files)
	case "call":
		answer, err := call(socket, trusting(files))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(answer)
	case "follow":
		follow(socket, trusting(files))
	default:
		log.Fatal(usage)
	}
}

// Serves with the SVID of now, whatever it is when a client connects.
func serve(socket, directory string) {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			// Both files of one set.
			set, err := filepath.EvalSymlinks(filepath.Join(directory, "..data"))
			if err != nil {
				return nil, err
			}
			pair, err := tls.LoadX509KeyPair(filepath.Join(set, "svid.pem"), filepath.Join(set, "svid-key.pem"))
			return &pair, err
		},
	})))
	pb.RegisterHealthServer(server, health.NewServer())
	log.Fatal(server.Serve(listener))
}

// The credentials that grpc-go makes for "tls" in a bootstrap file of xDS: the only ones of its public ones that
// verify with a bundle map. They look for a new one ten times a second.
func trusting(bundleMap string) credentials.TransportCredentials {
	config, err := json.Marshal(map[string]string{
		"spiffe_trust_bundle_map_file": bundleMap,
		"refresh_interval":             "0.1s",
	})
	if err != nil {
		log.Fatal(err)
	}
	bundle, _, err := bootstrap.GetChannelCredentials("tls").Build(config)
	if err != nil {
		log.Fatal(err)
	}
	return bundle.TransportCredentials()
}

// Connects and calls once. Returns the serial number of the certificate, as openssl prints it, and the SPIFFE ID.
func call(socket string, trust credentials.TransportCredentials) (string, error) {
	connection, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(trust))
	if err != nil {
		return "", err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var server peer.Peer
	health, err := pb.NewHealthClient(connection).Check(ctx, &pb.HealthCheckRequest{}, grpc.Peer(&server))
	if err != nil {
		return "", err
	}
	info := server.AuthInfo.(credentials.TLSInfo)
	serial := fmt.Sprintf("%X", info.State.PeerCertificates[0].SerialNumber.Bytes())
	return fmt.Sprintf("serial=%s %s %s", serial, info.SPIFFEID, health.Status), nil
}

// Connects and calls again and again, with the same credentials: a line for each time.
func follow(socket string, trust credentials.TransportCredentials) {
	for {
		answer, err := call(socket, trust)
		if err != nil {
			answer = "failed: " + strings.ReplaceAll(err.Error(), "\n", " ")
		}
		fmt.Println(answer)
		time.Sleep(10 * time.Millisecond)
	}
}
