"""What the Jobs make of programs' ends as real kubelets report them.

The Jobs are the operator's own, with another program in the container: it ends as its row says.
What the Job controller makes of every row of the contract is told in
tests/integration/operator/test_exit_codes.py, without kubelets.
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest

from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_operator.resources import runner_job
from kubesynth_testing.builders import SETTINGS, a_job
from kubesynth_testing.scenarios.patience import eventually
from kubesynth_testing.scenarios.stage import seen_in
from kubesynth_testing.scenarios.world import CLAIM, Manifest, Workspace, World

# Index 1 succeeds. Index 0 ends with `code` in its first `times` attempts, which it counts in a
# file on the shared volume, and succeeds in the one after.
_END = """
import os, pathlib, signal, sys, time
row, code, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
if os.environ['JOB_COMPLETION_INDEX'] == '1':
    sys.exit(0)
attempts = pathlib.Path('/data', row)
attempts.mkdir(exist_ok=True)
attempts.joinpath(os.environ['POD_NAME']).touch()
if len(list(attempts.iterdir())) > times:
    sys.exit(0)
if code == 'oom':
    filling = [b'x' * 2**20 for _ in range(10**6)]
if code == 'wait':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    time.sleep(3600)
sys.exit(int(code))
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A program's end, and what the Job must make of it.

    Attributes:
        code: Exit code, `oom` to be killed by the kernel, or `wait` to be evicted.
        retries: backoffLimitPerIndex.
        times: In how many attempts it ends like that.
        ends: The Job's condition and its reason.
        attempts: Pods of index 0 altogether.
        failed_indexes: The Job's.
    """

    code: str
    retries: int
    times: int
    ends: tuple[str, str]
    attempts: int
    failed_indexes: str = ""


GOES_ON = ("Complete", "CompletionsReached")
INDEX_FAILS = ("Failed", "FailedIndexes")
ALWAYS = 99
ROWS = {
    "64-fails-the-job": Row("64", 3, ALWAYS, ("Failed", "PodFailurePolicy"), 1),
    "65-fails-the-index": Row("65", 3, ALWAYS, INDEX_FAILS, 1, "0"),
    "75-is-retried": Row("75", 1, 1, GOES_ON, 2),
    "143-is-not-counted": Row("143", 0, 1, GOES_ON, 2),
    "out-of-memory-is-counted": Row("oom", 0, ALWAYS, INDEX_FAILS, 1, "0"),
    "eviction-is-not-counted": Row("wait", 0, 1, GOES_ON, 2),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    job: Manifest
    attempts: int


def programs_end(world: World) -> dict[str, Outcome]:
    with world.workspace("exit-codes") as space:
        jobs = [job_of(name, row, world.image) for name, row in ROWS.items()]
        space.apply(*jobs)
        evict(space, job_name("eviction-is-not-counted"))
        with ThreadPoolExecutor(len(ROWS)) as pool:
            return dict(zip(ROWS, pool.map(lambda name: outcome(space, name), ROWS), strict=True))


def job_name(row: str) -> str:
    return f"row-{row}"


def job_of(name: str, row: Row, image: str) -> Manifest:
    """Return the operator's Job of a two-shard job, with the row's program in its container."""
    policy = {"backoffLimitPerShard": row.retries, "maxFailedShards": 2}
    job = a_job(shards=2, failurePolicy=policy)
    built = runner_job.build(job, RunnerPhase.GENERATE, SETTINGS, run_config_name="none")
    built["metadata"] = {"name": job_name(name)}
    pod = built["spec"]["template"]["spec"]
    pod["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": CLAIM}}]
    (container,) = pod["containers"]
    container |= {
        "image": image,
        "command": ["python", "-c", _END, name, row.code, str(row.times)],
        "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    # Nobody's child: the operator and the garbage collector leave it alone.
    del built["spec"]["template"]["metadata"]["labels"]
    return built


def evict(space: Workspace, job: str) -> None:
    """Evict the running pod of index 0 through the API, as a drain does."""
    index = "batch.kubernetes.io/job-completion-index=0"
    selector = f"batch.kubernetes.io/job-name={job},{index}"

    def running() -> list[Manifest]:
        return space.list("pods", labels=selector, fields="status.phase=Running")

    (pod,) = eventually(running, what="a pod to evict")
    # Before that it would not take SIGTERM as it should.
    begun = f"ls /data/{job.removeprefix('row-')} 2>/dev/null || true"
    eventually(lambda: space.on_volume(begun), what="its program")
    name = pod["metadata"]["name"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": space.namespace},
    }
    space.world.api.post(f"/api/v1/namespaces/{space.namespace}/pods/{name}/eviction", eviction)


def outcome(space: Workspace, row: str) -> Outcome:
    name = job_name(row)
    space.kubectl.wait(f"condition={ROWS[row].ends[0]}", f"job/{name}")
    attempts = space.on_volume(f"ls /data/{row} | wc -l")
    return Outcome(space.read("jobs", name), int(attempts))


@pytest.mark.parametrize("row", ROWS)
@seen_in(programs_end)
def test_job_makes_of_an_exit_what_the_contract_says(
    evidence: dict[str, Outcome], row: str
) -> None:
    expected, seen = ROWS[row], evidence[row]
    ended = {
        (item["type"], item["reason"])
        for item in seen.job["status"]["conditions"]
        if item["status"] == "True"
    }
    assert expected.ends in ended
    assert seen.attempts == expected.attempts
    assert seen.job["status"].get("failedIndexes", "") == expected.failed_indexes
