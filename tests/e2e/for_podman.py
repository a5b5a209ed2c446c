"""Prints a pod's manifest in the form that `podman play kube` can run on this machine.

usage: for_podman.py MANIFEST SOCKET_DIRECTORY

The images are the local ones; the agent's socket is on a hostPath, as the manifest's comment has it;
and one group for all containers stands in for fsGroup, which podman does not have.
"""

import sys

import yaml

IMAGES = {
    "pod-svid-helper:latest": "localhost/pod-svid-helper:latest",
    "nginxinc/nginx-unprivileged:stable": "localhost/nginx-for-e2e:latest",
}


def main(manifest, socket_directory):
    with open(manifest) as file:
        documents = list(yaml.safe_load_all(file))
    kept = [document for document in documents if document["kind"] in ("ConfigMap", "Deployment")]
    for document in kept:
        if document["kind"] == "Deployment":
            template = document["spec"]["template"]
            # By default podman removes an init container when it has ended, and fails when that was
            # sooner than it looked.
            document["metadata"]["annotations"] = {"io.podman.annotations.init.container.type": "always"}
            adapt(template["spec"], socket_directory)
    # Without aliases, which podman's parser of several documents does not know.
    yaml.Dumper.ignore_aliases = lambda *_: True
    print(yaml.dump_all(kept))


def adapt(pod, socket_directory):
    group = pod["securityContext"]["fsGroup"]
    for container in pod["initContainers"] + pod["containers"]:
        container["image"] = IMAGES[container["image"]]
        container["imagePullPolicy"] = "Never"
        # The pod shares the machine's network, and the client connects to its loopback interface.
        container.pop("ports", None)
        container["securityContext"] = dict(container["securityContext"], runAsGroup=group)
    for volume in pod["volumes"]:
        if volume.pop("csi", None):
            volume["hostPath"] = {"path": socket_directory, "type": "Directory"}


if __name__ == "__main__":
    main(*sys.argv[1:])
