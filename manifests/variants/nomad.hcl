# A Nomad job with its identity. The prestart task svid-init ends when the files are there; then the application
# starts, and the sidecar svid-refresh keeps the files fresh. (A prestart sidecar alone is not enough: Nomad waits
# until it runs, not until the files are there.)
#
#   nomad job run nomad.hcl
#
# The tasks share /alloc/data, a directory on the client's disk. For the agent's socket, the client's Docker plugin
# needs `volumes { enabled = true }`.
job "app" {
  group "app" {
    task "svid-init" {
      driver = "docker"
      user   = "65532:65532"
      lifecycle {
        hook    = "prestart"
        sidecar = false
      }
      config {
        image   = "pod-svid-helper:latest"
        args    = ["--mode=init", "--init-timeout=10m", "--workload-api-socket=/run/spire/agent.sock",
                   "--svid-path=/alloc/data/svid"]
        volumes = ["/run/spire/sockets:/run/spire:ro"]
      }
      resources {
        cpu    = 20
        memory = 32
      }
    }

    task "svid-refresh" {
      driver = "docker"
      user   = "65532:65532"
      lifecycle {
        hook    = "poststart"
        sidecar = true
      }
      config {
        image   = "pod-svid-helper:latest"
        args    = ["--mode=refresh", "--workload-api-socket=/run/spire/agent.sock", "--svid-path=/alloc/data/svid"]
        volumes = ["/run/spire/sockets:/run/spire:ro"]
      }
      resources {
        cpu    = 20
        memory = 32
      }
    }

    task "app" {
      driver = "docker"
      user   = "65532:65532"
      config {
        image = "app:latest"
      }
      env {
        SVID_PATH = "/alloc/data/svid"
      }
    }
  }
}
