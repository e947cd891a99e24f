"""Reads YAML and checks Kubernetes objects against the schemas of their kinds.

    check.py json FILE…                 all documents, as a JSON array
    check.py validate VERSION FILE…     each object; - is standard input

`validate` writes the kind and name of each object that is valid, and exits with 1 if one is not.
"""

import json
import sys

import yaml

# Of the operator's resources there is no published schema in a package, so what our examples use
# of them is written down here, from its documentation. What belongs to a pod is checked as a pod.
TEST_RUN = {"parallelism", "script", "arguments", "args", "ports", "runner", "initializer", "scuttle", "quiet", "separate"}
SCRIPT = {"configMap": {"name", "file"}, "volumeClaim": {"name", "file", "readOnly"}, "localFile": None}
OF_POD = {"securityContext", "volumes", "serviceAccountName", "nodeSelector", "tolerations", "affinity", "topologySpreadConstraints"}
OF_CONTAINER = {"image", "imagePullPolicy", "resources", "env", "envFrom", "volumeMounts"}


class Invalid(Exception):
    pass


def documents(path):
    text = sys.stdin.read() if path == "-" else open(path, encoding="utf-8").read()
    return [document for document in yaml.load_all(text, Loader=Strict) if document is not None]


class Strict(yaml.SafeLoader):
    """A key that comes twice is an error, and a time stays a text, as in Kubernetes."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise Invalid(f"more than once: {sorted(twice)}{node.start_mark}")
        return super().construct_mapping(node, deep)


Strict.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def lost(given, kept, path=""):
    """What a model has left out: it does not know it."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key not in kept:
                yield f"{path}.{key}"
            else:
                yield from lost(value, kept[key], f"{path}.{key}")
    elif isinstance(given, list) and isinstance(kept, list):
        if len(given) != len(kept):
            yield path
        for i, (a, b) in enumerate(zip(given, kept)):
            yield from lost(a, b, f"{path}[{i}]")


def by_model(model, document):
    kept = model.model_validate(document).model_dump(by_alias=True, exclude_unset=True, mode="json")
    unknown = list(lost(document, kept))
    if unknown:
        raise Invalid(f"unknown: {', '.join(unknown)}")


def by_kubernetes(document, version):
    import kubernetes_validate

    kubernetes_validate.validate(document, version, strict=True)


def known(what, given, names):
    unknown = set(given) - names
    if unknown:
        raise Invalid(f"unknown in {what}: {sorted(unknown)}")


def test_run(document, version):
    known("the object", document, {"apiVersion", "kind", "metadata", "spec"})
    spec = document["spec"]
    known("spec", spec, TEST_RUN | ({"cleanup"} if document["kind"] == "K6" else set()))
    if not isinstance(spec.get("parallelism"), int):
        raise Invalid("spec.parallelism is not a number")
    (source, place), = spec["script"].items()
    known("script", spec["script"], set(SCRIPT))
    if SCRIPT[source] is None:
        if not isinstance(place, str):
            raise Invalid("script.localFile is not a path")
    else:
        known(f"script.{source}", place, SCRIPT[source])
        if not all(isinstance(place[key], str) for key in ("name", "file")):
            raise Invalid(f"script.{source} needs a name and a file")
    if not isinstance(spec.get("arguments", ""), str):
        raise Invalid("spec.arguments is one text")
    for who in ("runner", "initializer"):
        pod = spec.get(who, {})
        known(who, pod, OF_POD | OF_CONTAINER | {"containerSecurityContext", "metadata"})
        container = {key: pod[key] for key in OF_CONTAINER & set(pod)}
        container |= {"name": "k6", "ports": spec.get("ports", [])}
        if "containerSecurityContext" in pod:
            container["securityContext"] = pod["containerSecurityContext"]
        whole = {key: pod[key] for key in OF_POD & set(pod)} | {"containers": [container]}
        by_kubernetes({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": whole}, version)


def validate(document, version):
    group = document["apiVersion"].rpartition("/")[0]
    kind = document["kind"]
    if group == "argoproj.io":
        import hera.workflows.models as models

        by_model(getattr(models, kind), document)
    elif group == "monitoring.coreos.com":
        from cloudcoil.models.prometheus_operator import v1 as models

        by_model(getattr(models, kind), document)
    elif group == "k6.io":
        test_run(document, version)
    else:
        by_kubernetes(document, version)


def main():
    command, *rest = sys.argv[1:]
    if command == "json":
        json.dump([document for path in rest for document in documents(path)], sys.stdout)
        return 0
    assert command == "validate", __doc__
    version, *paths = rest
    failed = 0
    for path in paths:
        for document in documents(path):
            name = f"{document.get('kind')} {document.get('metadata', {}).get('name')}"
            try:
                validate(document, version)
                print(name)
            except Exception as problem:  # whichever library it comes from
                failed += 1
                print(f"{path}: {name}: {problem}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
