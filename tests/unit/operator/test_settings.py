from __future__ import annotations

import pytest

from kubesynth_operator.settings import SettingsError, from_environment

SECURITY = "KUBESYNTH_RUNNER_POD_SECURITY_CONTEXT"
IMAGE = {"KUBESYNTH_RUNNER_IMAGE": "registry.example/kubesynth:1"}


def test_an_image_is_all_that_must_be_said() -> None:
    settings = from_environment(IMAGE)
    assert settings.runner_image == "registry.example/kubesynth:1"
    assert settings.watched_namespaces == (None,)
    assert not settings.leader_election


def test_everything_can_be_said() -> None:
    settings = from_environment(
        {
            **IMAGE,
            "KUBESYNTH_NAMESPACES": "a, b,a,",
            "KUBESYNTH_METRICS_NAMESPACES": "monitoring",
            "KUBESYNTH_NETWORK_POLICY": "False",
            "KUBESYNTH_QUEUE_ALL_JOBS": "true",
            "KUBESYNTH_LEADER_ELECTION": "true",
            "KUBESYNTH_LEASE_NAME": "team-kubesynth",
            "KUBESYNTH_HTTP_PORT": "9000",
            "KUBESYNTH_LOG_LEVEL": "debug",
            "POD_NAMESPACE": "synth",
            "POD_NAME": "operator-1",
        }
    )
    assert settings.watched_namespaces == ("a", "b")
    assert settings.metrics_namespaces == ("monitoring",)
    assert not settings.network_policy
    assert settings.queue_all_jobs
    assert settings.leader_election
    assert settings.lease_name == "team-kubesynth"
    assert (settings.http_port, settings.log_level) == (9000, "DEBUG")
    assert (settings.operator_namespace, settings.identity) == ("synth", "operator-1")


def test_security_contexts_are_replaced_as_a_whole_and_each_alone() -> None:
    settings = from_environment({**IMAGE, SECURITY: '{"runAsNonRoot": true}'})
    assert settings.runner_security.pod == {"runAsNonRoot": True}
    assert settings.runner_security.container["allowPrivilegeEscalation"] is False
    assert from_environment({**IMAGE, SECURITY: "{}"}).runner_security.pod == {}


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({}, "KUBESYNTH_RUNNER_IMAGE"),
        ({**IMAGE, "KUBESYNTH_LEADER_ELECTION": "yes"}, "KUBESYNTH_LEADER_ELECTION"),
        ({**IMAGE, "KUBESYNTH_HTTP_PORT": "http"}, "KUBESYNTH_HTTP_PORT"),
        ({**IMAGE, "KUBESYNTH_WORKERS": "0"}, "KUBESYNTH_WORKERS"),
        ({**IMAGE, SECURITY: "runAsUser: 1"}, SECURITY),
        ({**IMAGE, SECURITY: "null"}, SECURITY),
    ],
)
def test_what_is_wrong_is_named(environment: dict[str, str], names: str) -> None:
    with pytest.raises(SettingsError, match=names):
        from_environment(environment)
