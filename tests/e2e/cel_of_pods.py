"""Evaluates the CEL of an admission policy for a pod, as the API server does, with CEL's own C++ code.

Expressions are compiled with static checks. The types that the API server gives to mutations, JSONPatch and
Object..., are messages here, with the fields of a pod in Kubernetes' schema. That is stricter than the API
server, which accepts any field there.
"""

import re

from cel_expr_python import cel
from cel_expr_python.ext import ext_optional
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, struct_pb2
from kubernetes_validate import utils

FIELD = descriptor_pb2.FieldDescriptorProto
JSON = ".google.protobuf.Value"
SCALARS = {"string": FIELD.TYPE_STRING, "integer": FIELD.TYPE_INT32, "boolean": FIELD.TYPE_BOOL}


class Policy:
    """A MutatingAdmissionPolicy whose mutations are JSON patches."""

    def __init__(self, policy, kubernetes):
        self.spec = policy["spec"]
        lists_range = cel.Overload(
            "lists_range",
            return_type=cel.Type.List(cel.Type.INT),
            parameters=[cel.Type.INT],
            impl=lambda size: list(range(size)),
        )
        options = {
            "variables": {"object": cel.Type.DYN, "variables": cel.Type.DYN},
            "extensions": [
                ext_optional.ExtOptional(),
                cel.CelExtension("lists", [cel.FunctionDecl("lists.range", [lists_range])]),
            ],
        }
        self.for_conditions = cel.NewEnv(**options)
        # Mutations alone know the types, as in the API server.
        expressions = [mutation["jsonPatch"]["expression"] for mutation in self.spec["mutations"]]
        self.for_mutations = cel.NewEnv(descriptor_pool=types(expressions, Schema(kubernetes)), **options)

    def matches(self, pod):
        """Whether the policy's conditions all hold for a pod."""
        environment, data = self.for_conditions, {"object": pod, "variables": {}}
        return all(evaluate(environment, condition, data) for condition in self.spec["matchConditions"])

    def mutate(self, pod, apply):
        """Applies the mutations, each to what the one before it has made. `apply(pod, patch)` gives the new pod."""
        for mutation in self.spec["mutations"]:
            data = {"object": pod, "variables": {}}
            for variable in self.spec["variables"]:
                data["variables"][variable["name"]] = evaluate(self.for_conditions, variable, data)
            found = evaluate(self.for_mutations, mutation["jsonPatch"], data)
            pod = apply(pod, [whole_numbers(json_format.MessageToDict(patch)) for patch in found])
        return pod


def evaluate(environment, holder, data):
    return environment.compile(flat(holder["expression"])).eval(data=data).plain_value()


def flat(expression):
    """Object.spec.volumes{...} becomes Object_spec_volumes{...}: messages' fields and types share their names."""
    return re.sub(r"\bObject(\.\w+)+(?={)", lambda found: found[0].replace(".", "_"), expression)


def whole_numbers(value):
    """Messages have floating-point numbers alone; pods have none."""
    if isinstance(value, dict):
        return {name: whole_numbers(member) for name, member in value.items()}
    if isinstance(value, list):
        return [whole_numbers(member) for member in value]
    return int(value) if isinstance(value, float) else value


class Schema:
    """Kubernetes' schema of a pod."""

    def __init__(self, kubernetes):
        directory = f"kubernetes-json-schema/v{kubernetes}-local-strict"
        self.pod = utils.schema_contents(f"{directory}/pod-v1.json", kubernetes)
        self.definitions = utils.schema_contents(f"{directory}/_definitions.json", kubernetes)["$defs"]

    def resolve(self, schema):
        return self.definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema

    def at(self, path):
        """What the pod has in a place, or, in a place of lists, their elements."""
        found = self.pod
        for name in path:
            found = self.resolve(found["properties"][name])
            found = self.resolve(found.get("items", found))
        return found


def types(expressions, schema):
    """A pool with JSONPatch and each Object type that the expressions name."""
    pool = descriptor_pool.DescriptorPool()
    values = descriptor_pb2.FileDescriptorProto()
    struct_pb2.DESCRIPTOR.CopyToProto(values)
    pool.Add(values)
    file = descriptor_pb2.FileDescriptorProto(name="types.proto", syntax="proto2", dependency=[values.name])
    patch = file.message_type.add(name="JSONPatch")
    for number, name in enumerate(("op", "path", "value"), 1):
        type = {"type": FIELD.TYPE_MESSAGE, "type_name": JSON} if name == "value" else {"type": FIELD.TYPE_STRING}
        patch.field.add(name=name, number=number, label=FIELD.LABEL_OPTIONAL, **type)
    named = {name for text in expressions for name in re.findall(r"\bObject_\w+(?={)", flat(text))}
    for name in sorted(named):
        message = file.message_type.add(name=name)
        properties = schema.at(name.split("_")[1:])["properties"]
        for number, (member, found) in enumerate(properties.items(), 1):
            message.field.append(field(number, member, schema.resolve(found), f"{name}_{member}", named, schema))
    pool.Add(file)
    return pool


def field(number, name, found, object_type, named, schema):
    """The field of a message for a property. What is neither a scalar, nor of a type that is named, is JSON."""
    label = FIELD.LABEL_OPTIONAL
    if "items" in found:
        label, found = FIELD.LABEL_REPEATED, schema.resolve(found["items"])
    result = FIELD(name=name, json_name=name, number=number, label=label)
    kinds = found.get("type")
    scalar = next((kind for kind in SCALARS if kind in (kinds or [])), None)
    if object_type in named:
        result.type, result.type_name = FIELD.TYPE_MESSAGE, "." + object_type
    elif scalar:
        result.type = SCALARS[scalar]
    else:
        result.type, result.type_name = FIELD.TYPE_MESSAGE, JSON
    return result
