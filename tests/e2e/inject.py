"""Tests manifests/inject.yaml without an API server: what it makes of sample pods.

Not tested here: the API server itself, that is to say its own Object types, its limit on the cost of an
expression, the fields that it sets in each pod before and after; and its function lists.range, for which
cel_of_pods.py has one of its own.

usage: inject.py
"""

import copy
import unittest

import jsonpatch
import kubernetes_validate
import yaml

from cel_of_pods import Policy
from restricted import violations

# The oldest Kubernetes that has the policy's API.
KUBERNETES = "1.36.0"
NGINX = "spiffe://example.org/workload/nginx"

with open("manifests/inject.yaml") as file:
    MANIFEST, BINDING = yaml.safe_load_all(file)
POLICY = Policy(MANIFEST, KUBERNETES)


def pod(annotations=None, **spec):
    """A pod with one container, as restricted as a namespace may ask for, container by container."""
    metadata = {"name": "pod"} | ({} if annotations is None else {"annotations": annotations})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container("app")]} | spec}


def container(name, **fields):
    context = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return {"name": name, "image": "app", "securityContext": context} | fields


def of_app(**fields):
    """A spec whose one container has these fields."""
    return {"containers": [container("app", **fields)]}


def asking(**annotations):
    """Annotations by which a pod asks; `spiffe_id` stands for pod-svid-helper/spiffe-id."""
    further = {"pod-svid-helper/" + name.replace("_", "-"): value for name, value in annotations.items()}
    return {"pod-svid-helper/inject": "true"} | further


def inject(pod):
    """What the policy makes of a pod; the pod itself, if the policy does not match. The result is valid."""
    if not POLICY.matches(pod):
        return pod
    result = POLICY.mutate(copy.deepcopy(pod), jsonpatch.apply_patch)
    kubernetes_validate.validate(result, KUBERNETES, strict=True)
    return result


def sidecar_in(pod):
    return next(found for found in pod["spec"]["initContainers"] if found["name"] == "svid-refresh")


def mounts_of(container):
    return {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", [])}


def has_a_path_twice(pod):
    """Whether the API server refuses a pod for that. It compares paths as they are spelt."""
    lists = [[mount["mountPath"] for mount in found.get("volumeMounts", [])] for found in pod["spec"]["containers"]]
    return any(len(paths) != len(set(paths)) for paths in lists)


class Inject(unittest.TestCase):
    def test_the_binding_binds_the_policy(self):
        self.assertEqual(BINDING["spec"]["policyName"], MANIFEST["metadata"]["name"])

    def test_other_pods_stay_as_they_are(self):
        for annotations in (None, {}, {"other": "true"}, asking(inject="false"), asking(inject="")):
            other = pod(annotations)
            self.assertIs(inject(other), other)

    def test_a_pod_that_has_the_sidecar_stays_as_it_is(self):
        injected = inject(pod(asking()))
        self.assertIs(inject(injected), injected)
        own = pod(asking(), containers=[container("app"), container("svid-refresh")])
        self.assertIs(inject(own), own)

    def test_a_bare_pod_gets_sidecar_volumes_and_mount(self):
        spec = inject(pod(asking()))["spec"]
        self.assertEqual([found["name"] for found in spec["initContainers"]], ["svid-refresh"])
        agent = {"name": "spire-agent-socket", "csi": {"driver": "csi.spiffe.io", "readOnly": True}}
        files = {"name": "svid-dir", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
        self.assertEqual(spec["volumes"], [agent, files])
        mount = {"name": "svid-dir", "mountPath": "/var/run/secret", "readOnly": True}
        self.assertEqual(spec["containers"][0]["volumeMounts"], [mount])
        self.assertEqual(spec["securityContext"]["fsGroup"], 65532)

    def test_what_a_pod_has_stays_in_front(self):
        data = {"name": "data", "mountPath": "/data"}
        before = pod(
            asking(),
            initContainers=[container("migrate")],
            containers=[container("app", volumeMounts=[data]), container("other")],
            volumes=[{"name": "data", "emptyDir": {}}],
            securityContext={"runAsUser": 1000, "fsGroup": 2000},
        )
        spec = inject(before)["spec"]
        self.assertEqual([found["name"] for found in spec["initContainers"]], ["migrate", "svid-refresh"])
        self.assertEqual([volume["name"] for volume in spec["volumes"]], ["data", "spire-agent-socket", "svid-dir"])
        self.assertEqual(mounts_of(spec["containers"][0]), {"data": "/data", "svid-dir": "/var/run/secret"})
        self.assertEqual(mounts_of(spec["containers"][1]), {"svid-dir": "/var/run/secret"})
        self.assertEqual(spec["initContainers"][0], before["spec"]["initContainers"][0])
        self.assertEqual(spec["securityContext"], before["spec"]["securityContext"])

    def test_a_volume_and_a_mount_of_the_pods_own_stay(self):
        own = {"name": "spire-agent-socket", "csi": {"driver": "csi.spiffe.io", "readOnly": True}}
        files = {"name": "svid-dir", "mountPath": "/var/run/secret"}
        before = pod(asking(), volumes=[own], containers=[container("app", volumeMounts=[files]), container("other")])
        spec = inject(before)["spec"]
        self.assertEqual([volume["name"] for volume in spec["volumes"]], ["spire-agent-socket", "svid-dir"])
        self.assertEqual(spec["containers"][0]["volumeMounts"], [files])
        self.assertEqual(mounts_of(spec["containers"][1]), {"svid-dir": "/var/run/secret"})

    def test_a_mount_of_the_files_may_end_with_a_slash(self):
        files = {"name": "svid-dir", "mountPath": "/var/run/secret/"}
        injected = inject(pod(asking(), containers=[container("app", volumeMounts=[files])]))
        self.assertEqual(injected["spec"]["containers"][0]["volumeMounts"], [files])

    def test_a_mount_of_the_files_elsewhere_is_one_more(self):
        files = {"name": "svid-dir", "mountPath": "/identity"}
        mounts = inject(pod(asking(), containers=[container("app", volumeMounts=[files])]))["spec"]["containers"][0]
        self.assertEqual([mount["mountPath"] for mount in mounts["volumeMounts"]], ["/identity", "/var/run/secret"])

    def test_a_pod_with_another_volume_in_that_place_is_refused(self):
        for path in ("/var/run/secret", "/var/run/secret/"):
            data = {"name": "data", "mountPath": path}
            volumes = [{"name": "data", "emptyDir": {}}]
            before = pod(asking(), containers=[container("other"), container("app", volumeMounts=[data])], volumes=volumes)
            self.assertFalse(has_a_path_twice(before))
            self.assertTrue(has_a_path_twice(inject(before)), path)

    def test_a_volume_of_the_files_may_be_of_another_kind(self):
        own = {"name": "svid-dir", "persistentVolumeClaim": {"claimName": "files"}}
        spec = inject(pod(asking(), volumes=[own]))["spec"]
        self.assertEqual([volume for volume in spec["volumes"] if volume["name"] == "svid-dir"], [own])
        self.assertEqual(mounts_of(spec["containers"][0]), {"svid-dir": "/var/run/secret"})

    def test_annotations_choose_id_path_and_key_mode(self):
        injected = inject(pod(asking(spiffe_id=NGINX, mount_path="/etc/identity", key_file_mode="0400")))
        sidecar = sidecar_in(injected)
        for argument in (f"--pod-spiffe-id={NGINX}", "--svid-path=/etc/identity/svid", "--key-file-mode=0400"):
            self.assertIn(argument, sidecar["args"])
        probe = sidecar["startupProbe"]["exec"]["command"]
        self.assertEqual(probe[2:], [f"--pod-spiffe-id={NGINX}", "--svid-path=/etc/identity/svid"])
        self.assertEqual(mounts_of(sidecar)["svid-dir"], "/etc/identity")
        self.assertEqual(mounts_of(injected["spec"]["containers"][0]), {"svid-dir": "/etc/identity"})

    def test_without_an_id_the_first_one_is_used(self):
        sidecar = sidecar_in(inject(pod(asking())))
        arguments = sidecar["args"] + sidecar["startupProbe"]["exec"]["command"]
        self.assertFalse(any("spiffe-id" in argument for argument in arguments))

    def test_annotations_choose_resources(self):
        chosen = asking(cpu_request="50m", memory_request="16Mi", cpu_limit="100m", memory_limit="64Mi")
        expected = {"requests": {"cpu": "50m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}}
        self.assertEqual(sidecar_in(inject(pod(chosen)))["resources"], expected)

    def test_an_empty_annotation_means_the_default(self):
        names = ("spiffe_id", "mount_path", "key_file_mode", "cpu_request", "memory_request", "cpu_limit", "memory_limit")
        empty = inject(pod(asking(**dict.fromkeys(names, ""))))
        self.assertEqual(empty["spec"], inject(pod(asking()))["spec"])

    def test_the_sidecar_is_that_of_the_manifest(self):
        with open("manifests/nginx-native-sidecar.yaml") as file:
            deployment = next(found for found in yaml.safe_load_all(file) if found["kind"] == "Deployment")
        of_manifest = deployment["spec"]["template"]
        expected = copy.deepcopy(sidecar_in(of_manifest))
        # A port could be one of the application's: a pod that is injected into has none.
        expected["args"] = [argument for argument in expected["args"] if not argument.startswith("--http-address=")]
        del expected["ports"]
        expected["readinessProbe"] = {
            "exec": expected["startupProbe"]["exec"], "periodSeconds": 10, "timeoutSeconds": 5
        }
        # The manifest says these once for the pod.
        for name in ("runAsNonRoot", "seccompProfile"):
            expected["securityContext"][name] = of_manifest["spec"]["securityContext"][name]
        injected = inject(pod(asking(spiffe_id=NGINX)))
        self.assertEqual(sidecar_in(injected), expected)
        for volume in injected["spec"]["volumes"]:
            self.assertIn(volume, of_manifest["spec"]["volumes"])
        groups = [found["spec"]["securityContext"]["fsGroup"] for found in (injected, of_manifest)]
        self.assertEqual(groups[0], groups[1])

    def test_a_restricted_pod_stays_restricted(self):
        for context in ({}, {"securityContext": {}}, {"securityContext": {"runAsNonRoot": True, "runAsUser": 1000}}):
            before = pod(asking(), **context)
            self.assertEqual(violations(before["spec"]), [])
            self.assertEqual(violations(inject(before)["spec"]), [])

    def test_the_rules_find_what_is_not_restricted(self):
        probe = {"httpGet": {"port": 80, "host": "example.org"}}
        contexts = [
            {"seLinuxOptions": {"type": "spc_t"}},
            {"seLinuxOptions": {"user": "system_u"}},
            {"appArmorProfile": {"type": "Unconfined"}},
            {"windowsOptions": {"hostProcess": True}},
        ]
        bad = [
            *({"securityContext": context} for context in [*contexts, {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}]),
            *(of_app(securityContext=container("app")["securityContext"] | context) for context in contexts),
            *(of_app(**{name: probe}) for name in ("livenessProbe", "readinessProbe", "startupProbe")),
            of_app(lifecycle={"preStop": probe}),
            of_app(securityContext={}),
            {"hostNetwork": True},
        ]
        for spec in bad:
            self.assertTrue(violations(pod(**spec)["spec"]), spec)
        fine = {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}], "seLinuxOptions": {"type": "container_t"}}
        self.assertEqual(violations(pod(securityContext=fine)["spec"]), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
