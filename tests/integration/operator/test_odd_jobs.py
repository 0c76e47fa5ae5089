"""Jobs that the API server takes and that few programs can read, beside everybody else's."""

from __future__ import annotations

import json

import pytest

from kubesynth_operator.settings import OperatorSettings
from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.builders import job_object
from kubesynth_testing.operator_harness import Namespace, running_operator


def create_nested_job(api_server: ApiServer, namespace: str, name: str, levels: int) -> None:
    manifest = job_object(name, namespace=namespace)
    manifest["spec"]["models"][0]["external"]["extraBody"] = {"nested": "HERE"}
    value = '{"a":' * levels + "1" + "}" * levels
    stdin = json.dumps(manifest).replace('"HERE"', value)
    api_server.kubectl("create", "--validate=false", "-f", "-", stdin=stdin)


@pytest.mark.parametrize("levels", [3000, 9900])
async def test_deeply_nested_job_holds_up_nobody_else_s(
    api_server: ApiServer, namespace: Namespace, settings: OperatorSettings, levels: int
) -> None:
    create_nested_job(api_server, namespace.name, "in-the-first-list", levels)
    async with running_operator(str(api_server.kubeconfig), settings):
        await namespace.apply("before")
        await namespace.until("Running", "True", "ShardsActive", name="before")
        create_nested_job(api_server, namespace.name, "while-it-watches", levels)
        await namespace.apply("after")
        await namespace.until("Running", "True", "ShardsActive", name="after")
        for name in ("in-the-first-list", "while-it-watches"):
            refused = await namespace.until("Accepted", "False", "InvalidSpec", name=name)
            assert refused["message"].startswith("spec.models.0.external.extraBody: ")
            assert "nested too deeply" in refused["message"]
