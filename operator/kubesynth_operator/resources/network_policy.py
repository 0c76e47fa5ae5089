"""Who may speak to the runner pods: the operator, and whoever scrapes metrics. Nobody else.

Only ingress is restricted; where models and storage live is the user's business.
"""

from __future__ import annotations

from typing import Any

from kubesynth_api import labels, runner_contract
from kubesynth_operator.observation import Job
from kubesynth_operator.resources import naming
from kubesynth_operator.settings import OperatorSettings

# Set by Kubernetes itself on every namespace.
_NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"


def build(job: Job, settings: OperatorSettings) -> dict[str, Any]:
    """Return the manifest."""
    operator = {
        "namespaceSelector": {"matchLabels": {_NAMESPACE_NAME_LABEL: settings.operator_namespace}},
        "podSelector": {"matchLabels": {labels.NAME_LABEL: settings.operator_pod_name_label}},
    }
    scrapers = [
        {"namespaceSelector": {"matchLabels": {_NAMESPACE_NAME_LABEL: namespace}}}
        for namespace in settings.metrics_namespaces
    ]
    name = naming.network_policy_name(job.key.name)
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": naming.metadata(job, name, naming.child_labels(job)),
        "spec": {
            "podSelector": {"matchLabels": {labels.JOB_UID_LABEL: job.uid}},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [operator, *scrapers],
                    "ports": [{"protocol": "TCP", "port": runner_contract.HTTP_PORT}],
                }
            ],
        },
    }
