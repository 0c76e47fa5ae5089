"""The pod that a class and a server make together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kubesynth_api.v1alpha1.server_classes import ServerClassSpec, unknown_placeholders
from kubesynth_operator.metrics import Metrics
from kubesynth_operator.servers import classes, manifests
from kubesynth_operator.unreadable import Unreadable
from kubesynth_testing.server_builders import a_class, a_server

CLASSES = Path(__file__).parents[3] / "helm/kubesynth/classes"


def deployment(server: dict[str, Any], template: ServerClassSpec | None = None) -> dict[str, Any]:
    chosen = template or a_class().spec
    assert chosen is not None
    return manifests.workload(
        a_server(**server), chosen, replicas=1, strategy="RollingUpdate", secret_version=""
    )


def pod(server: dict[str, Any], template: ServerClassSpec | None = None) -> dict[str, Any]:
    found: dict[str, Any] = deployment(server, template)["spec"]["template"]["spec"]
    return found


def container(server: dict[str, Any], **template: Any) -> dict[str, Any]:
    [found] = pod(server, a_class(**template).spec)["containers"]
    return dict(found)


def test_placeholders_are_filled_in_and_a_server_s_own_arguments_are_not() -> None:
    found = container(
        {"revision": "r1", "gpus": 2, "args": ["{model}"]},
        image="hub/{model}:{revision}",
        args=["{model}", "{gpus}", '{"a": 1}', "${port}"],
        revisionArgs=["--revision={revision}"],
    )
    assert found["image"] == "hub/small:r1"
    assert found["args"] == ["small", "2", '{"a": 1}', "${port}", "--revision=r1", "{model}"]


def test_without_a_revision_there_is_no_argument_for_it() -> None:
    assert container({}, args=[], revisionArgs=["--revision={revision}"]).get("args") is None
    defaulted = container({}, args=[], revisionArgs=["{revision}"], defaultRevision="main")
    assert defaulted["args"] == ["main"]


def test_variables_of_the_server_win_and_the_token_goes_where_the_class_says() -> None:
    found = container(
        {
            "env": [{"name": "A", "value": "server"}],
            "token": {"secretKeyRef": {"name": "hub", "key": "token"}},
        },
        env=[{"name": "A", "value": "class"}, {"name": "B", "value": "{cache}"}],
        tokenVariables=["HF_TOKEN"],
    )
    env = {each["name"]: each for each in found["env"]}
    assert env["A"]["value"] == "server"
    assert env["B"]["value"] == "/cache"
    assert env["KUBESYNTH_MODEL"]["value"] == "small"
    assert env["HF_TOKEN"]["valueFrom"] == {"secretKeyRef": {"name": "hub", "key": "token"}}


def test_gpus_are_requested_and_limited_alike_beside_other_resources() -> None:
    found = container({"gpus": 4}, resources={"requests": {"cpu": "2"}})
    assert found["resources"] == {
        "requests": {"cpu": "2", "nvidia.com/gpu": "4"},
        "limits": {"nvidia.com/gpu": "4"},
    }
    assert "resources" not in container({"gpus": 0})


@pytest.mark.parametrize(
    ("cache", "volume"),
    [
        (None, {"emptyDir": {}}),
        ({"claim": {"name": "mine"}}, {"persistentVolumeClaim": {"claimName": "mine"}}),
        (
            {"shared": {"size": "1Gi", "retention": "Delete"}},
            {"persistentVolumeClaim": {"claimName": "llama-cache"}},
        ),
        (
            {"perReplica": {"size": "1Gi", "storageClassName": "local"}},
            {
                "ephemeral": {
                    "volumeClaimTemplate": {
                        "spec": {
                            "accessModes": ["ReadWriteOnce"],
                            "resources": {"requests": {"storage": "1Gi"}},
                            "storageClassName": "local",
                        }
                    }
                }
            },
        ),
    ],
)
def test_cache_is_what_was_asked_for(cache: dict[str, Any] | None, volume: dict[str, Any]) -> None:
    server = {} if cache is None else {"cache": cache}
    assert pod(server)["volumes"][0] == {"name": "cache", **volume}


def test_a_cache_that_is_kept_is_named_after_the_model_and_revision() -> None:
    def name(**spec: Any) -> str | None:
        return manifests.claim_name(a_server(cache={"shared": {"size": "1Gi"}}, **spec))

    assert name() == name(replicas=3) == name(gpus=4)
    assert len({name(), name(model="other"), name(revision="2")}) == 3


def test_the_startup_probe_lasts_as_long_as_the_timeout() -> None:
    probe = container({"startupTimeoutSeconds": 100})["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 100


@pytest.mark.parametrize("path", sorted(CLASSES.glob("*.yaml")), ids=lambda path: str(path.stem))
def test_every_class_of_the_chart_makes_a_pod_without_privileges(path: Path) -> None:
    template = ServerClassSpec.from_wire(yaml.safe_load(path.read_text()))
    assert list(unknown_placeholders(template)) == []
    found = pod({"model": "meta/llama", "gpus": 2}, template)
    assert found["securityContext"]["runAsNonRoot"] is True
    assert found["automountServiceAccountToken"] is False
    [container] = found["containers"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert "{" not in container["image"]


def test_the_chart_has_the_classes_that_the_documentation_names() -> None:
    assert set(classes.load(CLASSES, Unreadable(Metrics()))) == {
        "vllm",
        "nim",
        "triton-vllm",
        "triton-trtllm",
        "nemo-deploy",
        "llama-cpp",
    }


def test_a_class_of_another_version_takes_no_other_with_it(tmp_path: Path) -> None:
    good = (CLASSES / "vllm.yaml").read_text()
    (tmp_path / "a-newer.yaml").write_text(good + "unheardOf: true\n")
    (tmp_path / "b-broken.yaml").write_text("image: [")
    (tmp_path / "c-good.yaml").write_text(good)
    metrics = Metrics()
    assert set(classes.load(tmp_path, Unreadable(metrics))) == {"c-good"}
    skipped = metrics.registry.get_sample_value("kubesynth_unreadable_total", {"kind": "classes"})
    assert skipped == 2


def test_a_longest_name_still_makes_objects() -> None:
    server = a_server("a" * 50, cache={"shared": {"size": "1Gi", "retention": "Delete"}})
    assert len(str(manifests.claim_name(server))) <= 63


def test_only_what_pods_are_made_from_rolls_them() -> None:
    template = a_class().spec
    assert template is not None

    def inputs(**spec: Any) -> str:
        server = a_server(**spec)
        assert server.spec is not None
        return manifests.inputs(server.spec, template, "")

    same: list[dict[str, Any]] = [
        {},
        {"replicas": 3},
        {"idle": {"ttlSeconds": 1}},
        {"allowedNamespaces": ["*"]},
    ]
    assert len({inputs(**spec) for spec in same}) == 1
    other: list[dict[str, Any]] = [{"model": "b"}, {"args": ["a"]}, {"gpus": 2}, {"image": "i:2"}]
    assert len({inputs(**spec) for spec in [{}, *other]}) == 5
