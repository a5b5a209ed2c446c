"""What Pod Security's standard "restricted" says of a pod's spec.

https://kubernetes.io/docs/concepts/security/pod-security-standards/ (of Kubernetes 1.36)
"""

VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}


def violations(spec):
    """Lists the violations in plain words; an empty list if there are none."""
    pod = spec.get("securityContext") or {}
    found = [f"{name} is set" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    for volume in spec.get("volumes", []):
        if not set(volume) - {"name"} <= VOLUMES:
            found.append(f"volume {volume['name']} is of a forbidden type")
    if pod.get("runAsUser") == 0:
        found.append("the pod runs as root")
    for container in spec.get("initContainers", []) + spec["containers"]:
        found += [f"{container['name']}: {flaw}" for flaw in of_container(container, pod)]
    return found


def of_container(container, pod):
    own = container.get("securityContext") or {}
    effective = pod | own
    capabilities = own.get("capabilities") or {}
    if own.get("privileged"):
        yield "it is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if "ALL" not in capabilities.get("drop", []):
        yield "it does not drop ALL capabilities"
    if not set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"}:
        yield "it adds capabilities"
    if effective.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if own.get("runAsUser") == 0:
        yield "it runs as root"
    if (effective.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "it has no seccomp profile"
    if own.get("procMount", "Default") != "Default":
        yield "procMount is not the default"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "it has a port of the host"
