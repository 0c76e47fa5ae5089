"""However pods, answers, operators and limits come and go: never more is in use than is allowed.

Pods are played by the simplest thing that keeps the runner's contract: a lease is taken if its
generation follows, stored with the shard, and acknowledged. The book and the division are the real
ones, and so is what a pod begins with.
"""

from __future__ import annotations

import dataclasses
import random

import pytest

from kubesynth_api import shares
from kubesynth_api.runner_contract import CapShare, Lease, LeaseReport
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_operator.lease_book import JobLeases, LivePod, Offer, Terms
from kubesynth_operator.policies import leases
from kubesynth_runner.shard_lease import first_lease
from kubesynth_testing.builders import job_object

STEPS = 250
NOTHING = CapShare()


@dataclasses.dataclass
class Shard:
    """What is stored of a shard: its lease, and what it has spent."""

    lease: Lease | None = None
    spent: dict[str, int] = dataclasses.field(
        default_factory=lambda: {"tokens": 0, "usd": 0, "records": 0}
    )
    over: bool = False


@dataclasses.dataclass
class Pod:
    """A pod at work on a shard, by what it holds."""

    index: int
    lease: Lease
    reachable: bool = True
    new: bool = True


class World:
    """A job, its Job controller, its pods, and an operator that may be replaced at any time."""

    def __init__(self, seed: int, *, count: int, parallelism: int) -> None:
        self.random = random.Random(seed)
        self.count, self.slots, self.wanted = count, parallelism, parallelism
        self.limits = {"concurrency": 64, "requestsPerMinute": 600, "tokensPerMinute": 100_000}
        self.tokens, self.usd, self.records = 100_000, 10.0, 5_000
        self.first = shares.initial_share(self.spec())
        self.shards = [Shard() for _ in range(count)]
        self.pods: dict[str, Pod] = {}
        self.started = 0
        # Of pods that have ended and are still there to be read: what they said, by shard.
        self.last_words: dict[int, LeaseReport] = {}
        self.book = JobLeases(self.terms(), fresh=True)

    def spec(self) -> SyntheticDataJobSpec:
        model = {"name": "m", "external": {"url": "http://m/v1", "model": "m"}}
        price = {"promptPerMillion": 1.0, "completionPerMillion": 1.0}
        manifest = job_object()
        manifest["spec"] |= {
            "models": [{**model, "limits": self.limits}],
            "shards": {"count": self.count, "parallelism": self.wanted},
            "budget": {"tokens": self.tokens, "usd": self.usd, "prices": {"m": price}},
            "target": {"acceptedRecords": self.records},
        }
        return SyntheticDataJobSpec.model_validate(manifest["spec"])

    def terms(self) -> Terms:
        spec = self.spec()
        over = frozenset(i for i, shard in enumerate(self.shards) if shard.over)
        return Terms(
            leases.rate_limits(spec),
            shares.whole_caps(spec),
            self.first,
            self.count,
            self.slots,
            self.wanted,
            self.count - len(over),
            over,
        )

    # What happens by itself.

    def start_pods(self) -> None:
        busy = {pod.index for pod in self.pods.values()}
        idle = [i for i, shard in enumerate(self.shards) if not shard.over and i not in busy]
        while idle and len(self.pods) < self.slots:
            index = idle.pop(0)
            self.started += 1
            lease = first_lease(self.first, NOTHING, index, self.shards[index].lease)
            self.pods[f"pod-{self.started}"] = Pod(index, lease)

    def spend(self) -> None:
        for pod in self.pods.values():
            pod.new = False
            spent, caps = self.shards[pod.index].spent, leases.caps_of(pod.lease.caps)
            for name, used in spent.items():
                more = self.random.choice((0, 1, 10, 1000))
                spent[name] = max(used, min(used + more, caps[name]))

    def end_one(self, *, finished: bool, heard: bool) -> None:
        uid = self.pick()
        if uid is None:
            return
        report, pod = self.report(uid), self.pods.pop(uid)
        self.shards[pod.index].over = finished
        self.last_words.pop(pod.index, None)
        if heard:
            self.last_words[pod.index] = report
            self.book.ended(pod.index, report)

    def pick(self) -> str | None:
        return self.random.choice(sorted(self.pods)) if self.pods else None

    def report(self, uid: str) -> LeaseReport:
        pod = self.pods[uid]
        spent = self.shards[pod.index].spent
        caps = pod.lease.caps
        amounts = leases.caps_of(caps)
        waits = "TargetReached" if spent["records"] >= amounts["records"] else ""
        if spent["tokens"] >= amounts["tokens"] or spent["usd"] >= amounts["usd"]:
            waits = "BudgetSpent"
        used = CapShare(tokens=spent["tokens"], usd=spent["usd"] / 1e6, records=spent["records"])
        return LeaseReport(lease=pod.lease, spent=used, waits_for=waits)

    # What people and operators do.

    def round(self) -> None:
        """Ask, take back and give, over a network that loses things."""
        self.book.go_by(self.terms())
        self.book.see(LivePod(uid, pod.index, pod.new) for uid, pod in self.pods.items())
        self.book.forget_answers()
        for uid, pod in self.pods.items():
            if pod.reachable and self.random.random() < 0.9:
                self.book.answered(uid, self.report(uid))
        for offers in (self.book.reductions, self.book.grants):
            for offer in offers():
                self.deliver(offer)
                self.check()
        if self.wanted > self.slots:
            self.slots = self.book.slots_allowed()
        else:
            self.slots = self.wanted
            while len(self.pods) > self.slots:
                self.pods.pop(sorted(self.pods)[0])

    def deliver(self, offer: Offer) -> None:
        self.book.offered(offer)
        fate = self.random.random()
        pod = self.pods.get(offer.uid)
        if pod is None or not pod.reachable or fate < 0.1:
            self.book.silent(offer.uid)
            return
        if offer.lease.generation == pod.lease.generation + 1:
            spent = self.shards[pod.index].spent
            kept = CapShare(
                tokens=max(offer.lease.caps.tokens or 0, spent["tokens"]),
                usd=max(offer.lease.caps.usd or 0, spent["usd"] / 1e6),
                records=max(offer.lease.caps.records or 0, spent["records"]),
            )
            pod.lease = offer.lease.model_copy(update={"caps": kept})
            self.shards[pod.index].lease = pod.lease
        if fate < 0.2:
            self.book.silent(offer.uid)
        else:
            self.book.answered(offer.uid, self.report(offer.uid))

    def restart_operator(self) -> None:
        for pod in self.pods.values():
            pod.new = False
        self.book = JobLeases(self.terms(), fresh=False)
        at_work = {pod.index for pod in self.pods.values()}
        for index, report in self.last_words.items():
            if index not in at_work:
                self.book.ended(index, report)

    def raise_limits(self) -> None:
        name = self.random.choice(sorted(self.limits))
        self.limits[name] += self.random.randrange(1, 50)
        self.tokens += self.random.choice((0, 10_000))

    def check(self) -> None:
        limits = leases.rate_limits(self.spec())
        for name, limit in limits.items():
            used = sum(leases.rates_of(pod.lease.models)[name] for pod in self.pods.values())
            assert used <= limit, (name, used, limit)
        whole = leases.caps_of(shares.whole_caps(self.spec()))
        held = {uid: (pod.index, pod.lease) for uid, pod in self.pods.items()}
        by_index = dict(held.values())
        for name, amount in whole.items():
            total = 0
            for index, shard in enumerate(self.shards):
                lease = by_index.get(index) or first_lease(self.first, NOTHING, index, shard.lease)
                cap = leases.caps_of(lease.caps)[name]
                total += shard.spent[name] if shard.over else max(cap, shard.spent[name])
            assert total <= amount, (name, total, amount)


@pytest.mark.parametrize("seed", range(12))
def test_no_more_is_ever_in_use_than_is_allowed(seed: int) -> None:
    rng = random.Random(-seed)
    count = rng.choice((2, 5, 8, 12))
    world = World(seed, count=count, parallelism=rng.randrange(1, count + 1))
    for _ in range(STEPS):
        world.start_pods()
        world.check()
        step = rng.random()
        if step < 0.5:
            world.round()
        elif step < 0.7:
            world.spend()
        elif step < 0.78:
            world.end_one(finished=rng.random() < 0.15, heard=rng.random() < 0.7)
        elif step < 0.84:
            uid = world.pick()
            if uid is not None:
                world.pods[uid].reachable = not world.pods[uid].reachable
        elif step < 0.9:
            world.restart_operator()
        elif step < 0.95:
            world.raise_limits()
        else:
            world.wanted = rng.randrange(1, count + 1)
        world.check()


def settle(world: World) -> None:
    world.random.random = lambda: 0.5  # type: ignore[method-assign]  # nothing is lost
    for _ in range(4):
        world.round()
        world.start_pods()


def concurrency(world: World) -> list[int]:
    return sorted(pod.lease.models["m"].concurrency for pod in world.pods.values())


def test_shares_of_finished_shards_go_to_those_that_are_left() -> None:
    world = World(1, count=8, parallelism=8)
    world.start_pods()
    assert concurrency(world) == [8] * 8
    for _ in range(6):
        world.end_one(finished=True, heard=True)
    settle(world)
    assert concurrency(world) == [32, 32]
    tokens = [pod.lease.caps.tokens for pod in world.pods.values()]
    assert tokens == [50_000, 50_000]


def test_a_pod_that_cannot_be_asked_keeps_what_it_has() -> None:
    world = World(1, count=4, parallelism=4)
    world.start_pods()
    deaf = world.pick()
    assert deaf is not None
    world.pods[deaf].reachable = False
    for uid in [uid for uid in world.pods if uid != deaf][:2]:
        pod = world.pods.pop(uid)
        world.shards[pod.index].over = True
    settle(world)
    assert concurrency(world) == [16, 48]
    assert world.pods[deaf].lease.generation == 0


def test_raised_parallelism_comes_as_shares_are_freed() -> None:
    world = World(1, count=8, parallelism=2)
    world.start_pods()
    settle(world)
    assert concurrency(world) == [32, 32]
    world.wanted = 4
    settle(world)
    assert concurrency(world) == [16] * 4
    world.wanted = 8  # a pod that starts takes 16 without asking
    settle(world)
    assert world.slots == 4
    world.limits["concurrency"] = 128
    world.limits["requestsPerMinute"] = 1200
    world.limits["tokensPerMinute"] = 200_000
    settle(world)
    assert concurrency(world) == [16] * 8


def test_a_new_operator_moves_shares_without_knowing_them_all() -> None:
    world = World(1, count=12, parallelism=3)
    world.start_pods()
    settle(world)
    world.restart_operator()
    poor = world.pods["pod-1"]
    world.shards[poor.index].spent["tokens"] = poor.lease.caps.tokens or 0
    before = poor.lease.caps.tokens or 0
    settle(world)
    assert (poor.lease.caps.tokens or 0) > before
    world.check()


@pytest.mark.parametrize(
    ("made", "reason", "spent"),
    [
        ({"tokens": 40, "usd": 1, "records": 1}, "BudgetSpent", {"tokens": 100_000}),
        ({"tokens": 1, "usd": 9_000, "records": 1}, "BudgetSpent", {"usd": 10_000_000}),
        ({"tokens": 1, "usd": 1, "records": 2}, "TargetReached", {"records": 5_000}),
    ],
)
@pytest.mark.parametrize("parallelism", [1, 3, 8])
def test_everything_is_used_up_before_a_job_ends_early(
    made: dict[str, int], reason: str, spent: dict[str, int], parallelism: int
) -> None:
    world = World(1, count=8, parallelism=parallelism)
    world.start_pods()
    settle(world)
    for step in range(20_000):
        for number, pod in enumerate(world.pods.values()):
            used, caps = world.shards[pod.index].spent, leases.caps_of(pod.lease.caps)
            if all(used[name] < caps[name] for name in used):
                # Some shards are quick, some hardly move.
                for name, amount in made.items():
                    used[name] = min(caps[name], used[name] + amount * (1 + 3 * (number % 2)))
        if step % 10 == 0:
            world.round()
            world.start_pods()
            if step == 500:
                world.end_one(finished=True, heard=True)
            ended = world.book.end()
            if ended is not None:
                break
    assert ended == reason
    for name, amount in spent.items():
        assert sum(shard.spent[name] for shard in world.shards) == amount


def test_a_new_operator_gives_nothing_away_that_a_finished_shard_has_left_to_another() -> None:
    """The last words of a shard tell what it held then, and not what became of it."""
    world = World(1, count=3, parallelism=1)
    world.wanted = world.slots = 2
    world.shards[0].over = True
    over = CapShare(tokens=40_000, usd=0.0, records=0)
    whole = CapShare(tokens=100_000, usd=10.0, records=5_000)
    lease = Lease(generation=0, models=world.first.models, caps=whole)
    world.start_pods()
    world.restart_operator()
    world.book.ended(0, LeaseReport(lease=lease, spent=over))
    world.book.see(LivePod(uid, pod.index, new=False) for uid, pod in world.pods.items())
    world.book.answered("pod-1", world.report("pod-1"))
    # The rest may be with the shard of the pod that has not answered.
    assert [offer.lease.caps.tokens for offer in world.book.grants()] in ([], [0])
    world.book.answered("pod-2", world.report("pod-2"))
    assert sum(offer.lease.caps.tokens or 0 for offer in world.book.grants()) == 60_000
