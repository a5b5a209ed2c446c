"""What a pod with the helper needs of a real kubelet (seen with Kubernetes 1.36), beside the schema."""

# The helper waits for an agent as long as it takes: no probe may restart it meanwhile.
LONGEST_OUTAGE = 1200  # seconds


def complaints(spec, lasts=True, fixed=True):
    """Lists what is missing in a pod's spec, in plain words; an empty list if nothing is.

    `lasts`: the pod serves until it is told to end. `fixed`: it chooses its users, not the cluster.
    """
    containers = spec.get("initContainers", []) + spec["containers"]
    found = [f"{container['name']}: {flaw}" for container in containers for flaw in of_container(container, spec, lasts, fixed)]
    if not any(is_helper(container) for container in containers):
        found.append("no container runs the helper")
    elif lasts and not any(shows_expiry(container) for container in containers if lasts_in(container, spec)):
        found.append("no readinessProbe of the helper: the pod stays Ready with an expired SVID")
    return found


def is_helper(container):
    return any(argument.startswith("--mode=") for argument in container.get("args", []))


def lasts_in(container, spec):
    return container in spec["containers"] or container.get("restartPolicy") == "Always"


def shows_expiry(container):
    """Whether the helper's container is Ready only while the files are valid."""
    probe = container.get("readinessProbe", {})
    return is_helper(container) and (
        probe.get("httpGet", {}).get("path") == "/ready" or "--mode=check" in probe.get("exec", {}).get("command", [])
    )


def serves(container):
    """Whether clients connect to it: the application, or the helper that starts it."""
    return not is_helper(container) or "--mode=run" in container["args"]


def of_container(container, spec, lasts, fixed):
    lasts = lasts and container in spec["containers"]
    if lasts and not is_helper(container) and "readinessProbe" not in container:
        yield "without a readinessProbe, a dying application counts as rolled out"
    if lasts and container.get("ports") and serves(container) and "preStop" not in container.get("lifecycle", {}):
        yield "without a preStop hook, a rollout refuses connections"
    if not is_helper(container):
        return
    if container.get("terminationMessagePolicy") != "FallbackToLogsOnError":
        yield "kubectl describe does not show why it has ended"
    effective = spec.get("securityContext", {}) | container.get("securityContext", {})
    if fixed and (not effective.get("runAsUser") or not effective.get("runAsGroup")):
        yield "the kubelet drops the group of the image's user"
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= set(resources.get("requests", {})) or "memory" not in resources.get("limits", {}):
        yield "the node does not know what it needs: requests of CPU and memory, a limit of memory"
    live = container.get("livenessProbe")
    if live and live.get("httpGet", {}).get("path") != "/live":
        yield "the livenessProbe asks for more than /live"
    startup = container.get("startupProbe")
    if startup and startup["failureThreshold"] * startup.get("periodSeconds", 10) < LONGEST_OUTAGE:
        yield "the startupProbe ends a helper that rightly waits"
    if "--mode=init" in container["args"] and "--init-timeout=10m" not in container["args"]:
        yield "after an outage, the kubelet's back-off holds the pod up"
