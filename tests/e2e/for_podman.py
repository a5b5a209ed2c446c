"""Prints a pod's manifest in the form that `podman play kube` can run on this machine.

usage: for_podman.py MANIFEST SOCKET_DIRECTORY SVID_DIRECTORY

The images are the local ones. The agent's socket is on a hostPath, as the manifest's comment has it.
The volume for the files is a hostPath too, made as the kubelet makes an in-memory emptyDir: podman's
own is not sticky. A supplementary group stands in for fsGroup, which podman does not have. A native
sidecar becomes an ordinary container, which begins too late for its startupProbe: two init containers
stand in for it, one that fetches and one that runs the probe's command. No container is restarted:
podman restarts init containers too, for ever, when they have succeeded.

A container that runs nothing but the helper gets the profile seccomp.json of podman's --seccomp-profile-root,
by the annotation that podman knows in place of a securityContext's seccompProfile.
"""

import copy
import sys

import yaml

IMAGES = {
    "pod-svid-helper:latest": "localhost/pod-svid-helper:latest",
    "nginxinc/nginx-unprivileged:stable": "localhost/nginx-for-e2e:latest",
    "nginx-run:latest": "localhost/nginx-run-for-e2e:latest",
}

SECCOMP = "container.seccomp.security.alpha.kubernetes.io/"


def main(manifest, socket_directory, svid_directory):
    with open(manifest) as file:
        documents = list(yaml.safe_load_all(file))
    kept = [document for document in documents if document["kind"] in ("ConfigMap", "Deployment")]
    for document in kept:
        if document["kind"] == "Deployment":
            template = document["spec"]["template"]
            # By default podman removes an init container when it has ended, and fails when that was
            # sooner than it looked.
            document["metadata"]["annotations"] = {"io.podman.annotations.init.container.type": "always"}
            helpers = adapt(template["spec"], {"spire-agent-socket": socket_directory, "svid-dir": svid_directory})
            template["metadata"]["annotations"] = {SECCOMP + name: "localhost/seccomp.json" for name in helpers}
    print(yaml.dump_all(kept))


def adapt(pod, directories):
    """Changes the pod, and returns the names of the containers that run nothing but the helper."""
    pod["restartPolicy"] = "Never"
    pod.setdefault("initContainers", [])
    for sidecar in [container for container in pod["initContainers"] if "restartPolicy" in container]:
        del sidecar["restartPolicy"]
        pod["initContainers"].remove(sidecar)
        pod["containers"].insert(0, sidecar)
        probe = sidecar.pop("startupProbe")["exec"]["command"]
        # init serves no HTTP.
        kept = [argument for argument in sidecar["args"] if not argument.startswith("--http-address=")]
        fetching = ["--mode=init" if argument == "--mode=refresh" else argument for argument in kept]
        for name, arguments in ("first-fetch", fetching), ("startup-probe", probe[1:]):
            pod["initContainers"].append(dict(copy.deepcopy(sidecar), name=name, args=arguments))
    if "fsGroup" in pod["securityContext"]:
        pod["securityContext"]["supplementalGroups"] = [pod["securityContext"]["fsGroup"]]
    containers = pod["initContainers"] + pod["containers"]
    helpers = [container["name"] for container in containers if container["image"] == "pod-svid-helper:latest"]
    for container in containers:
        container["image"] = IMAGES[container["image"]]
        container["imagePullPolicy"] = "Never"
        # The pod shares the machine's network, and the client connects to its loopback interface.
        container.pop("ports", None)
        # podman has no HTTP probes; `run.sh` looks at the paths.
        container.pop("livenessProbe", None)
        container.pop("readinessProbe", None)
        # Nor has it lifecycle hooks.
        container.pop("lifecycle", None)
    for volume in pod["volumes"]:
        if volume["name"] in directories:
            name = volume["name"]
            volume.clear()
            volume.update(name=name, hostPath={"path": directories[name], "type": "Directory"})
    return helpers


if __name__ == "__main__":
    main(*sys.argv[1:])
