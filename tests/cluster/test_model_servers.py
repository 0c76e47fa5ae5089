"""Model servers on a node that the scheduler takes for one with GPUs; a small model serves."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from typing import Any

from kubesynth_testing.scenarios import gpu_node, job_manifests
from kubesynth_testing.scenarios.dataset import Dataset, lineage_faults
from kubesynth_testing.scenarios.job_manifests import JobShape
from kubesynth_testing.scenarios.patience import eventually
from kubesynth_testing.scenarios.recording import Recording, record
from kubesynth_testing.scenarios.stage import seen_in, takes_long
from kubesynth_testing.scenarios.world import Manifest, Workspace, World, condition

ENGINE, BROKEN = "engine", "broken"
LAST_WORDS = "401 Client Error: Access to this model is restricted"
NO_IMAGE = "kubesynth.local/none:1"
DOCUMENTS = 6
SHORT = {"maxTokens": 24}


def job(space: Workspace, name: str, model: Manifest, documents: int = DOCUMENTS) -> Manifest:
    """Return a job that asks a model server."""
    shape = JobShape(questions=1, concurrency=2)
    manifest = job_manifests.closed_qa(name, "http://unused/v1", shape, model="unused")
    spec = manifest["spec"]
    spec["models"] = [
        {"name": "generator", "sampling": SHORT, "limits": {"concurrency": 2}, **model}
    ]
    spec["input"]["limit"] = documents
    # Any answer will do, half of one too: a small model cannot be counted on for questions.
    about = {"user": {"inline": "What is this about? {{ text }}"}, "output": {"onCutOff": "Keep"}}
    spec["pipeline"] = [{"prompt": about}]
    return manifest


def reasons(recording: Recording, name: str) -> list[str]:
    """Return the reasons of ModelsReady in their order, each run of one once."""
    found: list[str] = []
    for version in recording.versions():
        if version["metadata"]["name"] == name:
            reason = condition(version.get("status", {}), "ModelsReady").get("reason")
            if reason and found[-1:] != [reason]:
                found.append(reason)
    return found


def server_pods(recording: Recording, server: str) -> list[Manifest]:
    label = "kubesynth.io/server-name"
    versions = recording.last_versions()
    return [pod for pod in versions if pod["metadata"]["labels"].get(label) == server]


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    node: str
    own_status: Manifest
    own_reasons: list[str]
    own_pods: list[Manifest]
    own_dataset: Dataset
    children_left: set[str]
    users: list[int]
    replicas: list[int]
    shared_ends: list[str]
    unschedulable: Manifest
    unschedulable_after_seconds: float
    broken_status: Manifest
    without_image: Manifest
    without_memory: Manifest
    rollout: list[str]
    rolled_args: list[str]


@takes_long
def servers_come_and_go(world: World) -> Seen:
    with gpu_node.gpu_node(world.cluster, gpus=2) as node, world.workspace("servers") as space:
        # On one stream: of two, the container runtime does not keep the order.
        fails = "echo loading >&2; echo '" + LAST_WORDS + "' >&2; exit 1"
        shell = {"command": ["sh", "-c"], "args": [fails], "startupTimeoutSeconds": 25}
        space.apply(
            gpu_node.class_of(world, ENGINE),
            gpu_node.class_of(world, BROKEN, **shell),
            *servers_that_cannot_start(world),
            job_manifests.documents(DOCUMENTS),
        )
        with (
            record(space.kubectl, "syntheticdatajobs") as jobs,
            record(space.kubectl, "modelservers") as servers,
            record(space.kubectl, "pods") as pods,
        ):
            unschedulable, seconds = no_gpu_is_free(space)
            broken = inline(BROKEN)
            space.apply(job(space, "broken", broken))
            status, dataset = a_server_dies(space)
            left = eventually_gone(space, "own-generator")
            ends = jobs_share(space)
            broken_status = space.wait_for_end("broken")
            without_image = not_ready(space, "no-image", "ImagePullFailed")
            without_memory = not_ready(space, "no-memory", "CrashLooping")
            rolled_args = a_server_without_room_for_a_surge_rolls(space)
        wanted = [
            version["status"]
            for version in servers.versions()
            if version["metadata"]["name"] == "shared" and "status" in version
        ]
        return Seen(
            node=node,
            own_status=status,
            own_reasons=reasons(jobs, "own"),
            own_pods=server_pods(pods, "own-generator"),
            own_dataset=dataset,
            children_left=left,
            users=runs(each["users"]["count"] for each in wanted if "users" in each),
            replicas=runs(each.get("replicas", 0) for each in wanted),
            shared_ends=ends,
            unschedulable=unschedulable,
            unschedulable_after_seconds=seconds,
            broken_status=broken_status,
            without_image=without_image,
            without_memory=without_memory,
            rollout=degradations(servers, "wide"),
            rolled_args=rolled_args,
        )


def runs(values: Any) -> list[int]:
    """Return values without those that equal the one before."""
    found: list[int] = []
    for value in values:
        if found[-1:] != [value]:
            found.append(value)
    return found


def inline(class_name: str, **server: Any) -> Manifest:
    return {"server": {"classRef": {"name": class_name}, "model": "smollm2", **server}}


def servers_that_cannot_start(world: World) -> list[Manifest]:
    """Return a server whose image nobody has and one with too little memory, with their classes."""
    fills = ["python", "-c", "memory = b'x' * (1 << 30)"]
    little = {"limits": {"memory": "64Mi"}, "requests": {"cpu": "50m"}}
    return [
        gpu_node.class_of(world, "no-image", image=NO_IMAGE, gpus=0),
        gpu_node.class_of(world, "no-memory", command=fills, args=[], gpus=0, resources=little),
        gpu_node.shared_server("no-image", "no-image"),
        gpu_node.shared_server("no-memory", "no-memory"),
    ]


def not_ready(space: Workspace, server: str, reason: str) -> Manifest:
    """Wait until a server is not Ready for a reason, and return the condition."""

    def look() -> Manifest | None:
        status = space.read("modelservers", server).get("status", {})
        found = condition(status, "Ready")
        return found if found.get("reason") == reason else None

    found = eventually(look, what=f"{server} is {reason}", seconds=120)
    assert found is not None
    return found


def no_gpu_is_free(space: Workspace) -> tuple[Manifest, float]:
    """A job whose server wants more GPUs than there are; it is deleted when it has said so."""
    space.apply(job(space, "greedy", inline(ENGINE, gpus=16)))
    began = time.monotonic()

    def said() -> Manifest | None:
        found = condition(space.status("greedy"), "ModelsReady")
        return found if found.get("reason") == "Unschedulable" else None

    found = eventually(said, what="ModelsReady=False/Unschedulable", seconds=120)
    seconds = time.monotonic() - began
    space.kubectl("delete", "syntheticdatajob", "greedy")
    assert found is not None
    return found, seconds


def a_server_dies(space: Workspace) -> tuple[Manifest, Dataset]:
    """The pod of a job's own server is killed when the first calls are under way."""
    space.apply(job(space, "own", inline(ENGINE)))
    eventually(
        lambda: condition(space.status("own"), "ModelsReady").get("status") == "True",
        what="the server is ready",
    )
    time.sleep(2)
    selector = "kubesynth.io/server-name=own-generator"
    space.kubectl("delete", "pods", "--force", "--grace-period=0", "-l", selector)
    return space.wait_for_end("own"), space.read_output("own")


def eventually_gone(space: Workspace, server: str) -> set[str]:
    kinds = ("modelservers", "deployments", "services")
    selector = f"kubesynth.io/server-name={server}"

    def look() -> bool:
        servers = space.names("modelservers")
        left = space.names(*kinds[1:], selector=selector)
        return f"modelservers/{server}" not in servers and not left

    eventually(look, what="the server and its children are gone", seconds=120)
    return space.names(*kinds[1:], selector=selector)


def jobs_share(space: Workspace) -> list[str]:
    """Two jobs ask one server that sleeps before and after."""
    space.apply(gpu_node.shared_server("shared", ENGINE, idle={"ttlSeconds": 3}))
    eventually(lambda: phase(space) == "Idle", what="the shared server is idle")
    reference = {"serverRef": {"name": "shared"}}
    space.apply(job(space, "one", reference, 2), job(space, "two", reference, 3))
    ends = [space.wait_for_end(name)["phase"] for name in ("one", "two")]
    eventually(lambda: phase(space) == "Idle", what="the shared server sleeps again", seconds=120)
    return ends


def a_server_without_room_for_a_surge_rolls(space: Workspace) -> list[str]:
    """A server that holds every GPU gets an argument more; return those of its new pod."""
    space.apply(gpu_node.shared_server("wide", ENGINE, gpus=2))
    space.kubectl.wait("condition=Ready", "modelserver/wide", timeout_seconds=300)
    patch = '{"spec": {"args": ["--context-tokens=1024"]}}'
    space.kubectl("patch", "modelserver", "wide", "--type=merge", "-p", patch)
    selector = "kubesynth.io/server-name=wide"

    def rolled() -> list[str]:
        pods = space.list("pods", labels=selector)
        if len(pods) != 1 or condition(pods[0]["status"], "Ready").get("status") != "True":
            return []
        args: list[str] = pods[0]["spec"]["containers"][0]["args"]
        return args if args[-1] == "--context-tokens=1024" else []

    return eventually(rolled, what="the new pod serves alone", seconds=300)


def degradations(recording: Recording, server: str) -> list[str]:
    """Return the reasons of Degraded in their order, "" for none, each run of one once."""
    found: list[str] = []
    for version in recording.versions():
        if version["metadata"]["name"] == server:
            reason = str(condition(version.get("status", {}), "Degraded").get("reason", ""))
            if found[-1:] != [reason]:
                found.append(reason)
    return found


def phase(space: Workspace) -> str:
    found = space.read("modelservers", "shared").get("status", {})
    return str(found.get("phase", ""))


@seen_in(servers_come_and_go)
def test_own_server_starts_on_the_node_with_gpus(evidence: Seen) -> None:
    assert {pod["spec"]["nodeName"] for pod in evidence.own_pods} == {evidence.node}
    order = ["Provisioning", "Loading", "AllReady"]
    assert [reason for reason in evidence.own_reasons if reason in order][:3] == order


@seen_in(servers_come_and_go)
def test_killing_the_server_mid_run_loses_no_record(evidence: Seen) -> None:
    assert len(evidence.own_pods) >= 2, "a pod took the place of the one that was killed"
    complete = condition(evidence.own_status, "Complete")["status"]
    assert complete == "True", json.dumps(evidence.own_status, indent=2)  # a text is not shortened
    assert evidence.own_dataset.faults() == []
    assert lineage_faults(evidence.own_dataset.rows, stages=1) == []
    records = evidence.own_status["progress"]["records"]
    assert records["in"] == records["done"] == DOCUMENTS
    assert records["failed"] == 0


@seen_in(servers_come_and_go)
def test_own_server_is_gone_when_the_job_has_ended(evidence: Seen) -> None:
    assert evidence.children_left == set()


@seen_in(servers_come_and_go)
def test_two_jobs_share_a_server_that_sleeps_before_and_after(evidence: Seen) -> None:
    assert evidence.shared_ends == ["Complete", "Complete"]
    assert max(evidence.users) == 2
    assert evidence.users[-1] == 0
    assert evidence.replicas == [0, 1, 0]


@seen_in(servers_come_and_go)
def test_a_server_without_a_node_says_so_soon_in_the_scheduler_s_words(evidence: Seen) -> None:
    assert "Insufficient nvidia.com/gpu" in evidence.unschedulable["message"]
    assert evidence.unschedulable_after_seconds < 30


@seen_in(servers_come_and_go)
def test_a_crash_looping_server_fails_the_job_with_its_last_words(evidence: Seen) -> None:
    failed = condition(evidence.broken_status, "Failed")
    assert failed["reason"] == "ModelStartupFailed"
    assert LAST_WORDS in failed["message"]
    assert condition(evidence.broken_status, "ModelsReady")["reason"] == "StartupTimeout"


@seen_in(servers_come_and_go)
def test_a_server_whose_image_nobody_has_says_so_in_the_kubelet_s_words(evidence: Seen) -> None:
    assert evidence.without_image["status"] == "False"
    assert NO_IMAGE in evidence.without_image["message"]


@seen_in(servers_come_and_go)
def test_a_server_that_the_kernel_kills_for_its_memory_says_so(evidence: Seen) -> None:
    assert evidence.without_memory["status"] == "False"
    # The runtime does not always get to know why.
    message = evidence.without_memory["message"]
    assert re.search(r"exit code 137, (OOMKilled|killed \(by the kernel, if memory)", message)


@seen_in(servers_come_and_go)
def test_a_rollout_without_room_stops_the_old_pod_first_and_says_so(evidence: Seen) -> None:
    assert evidence.rolled_args[-1] == "--context-tokens=1024"
    assert evidence.rollout == ["", "NoRoomForSurge", ""]
