"""What Pod Security's standard "restricted" says of a pod's spec.

https://kubernetes.io/docs/concepts/security/pod-security-standards/ (of Kubernetes 1.36; admission allows image
volumes from 1.33 on, which that page does not list)
"""

VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret",
}
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
}
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def violations(spec):
    """Lists the violations in plain words; an empty list if there are none."""
    pod = spec.get("securityContext") or {}
    found = [f"{name} is set" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    for volume in spec.get("volumes", []):
        if not set(volume) - {"name"} <= VOLUMES:
            found.append(f"volume {volume['name']} is of a forbidden type")
    if pod.get("runAsUser") == 0:
        found.append("the pod runs as root")
    found += [f"sysctl {sysctl['name']} is set" for sysctl in pod.get("sysctls", []) if sysctl["name"] not in SYSCTLS]
    found += [f"the pod: {flaw}" for flaw in of_context(pod)]
    for container in spec.get("initContainers", []) + spec["containers"] + spec.get("ephemeralContainers", []):
        found += [f"{container['name']}: {flaw}" for flaw in of_container(container, pod)]
    return found


def of_context(context):
    """What is forbidden to the pod and to each container alike."""
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type", "") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield "it chooses its SELinux context"
    if (context.get("appArmorProfile") or {}).get("type") == "Unconfined":
        yield "AppArmor is off"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield "it is a process of a Windows host"


def handlers(container):
    """Its probes and its lifecycle hooks."""
    probes = [container.get(name) or {} for name in ("livenessProbe", "readinessProbe", "startupProbe")]
    return probes + list((container.get("lifecycle") or {}).values())


def of_container(container, pod):
    own = container.get("securityContext") or {}
    yield from of_context(own)
    if any(handler.get(kind, {}).get("host") for handler in handlers(container) for kind in ("httpGet", "tcpSocket")):
        yield "a probe or a hook names a host"
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
