"""What the operator says about itself to Prometheus. Labels are bounded; jobs are never labels."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from kubesynth_operator.observation import JobKey

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_JOB_SECONDS = (10.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 24 * 3600.0, 7 * 24 * 3600.0)


class Metrics:
    """All metric objects, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.queue_depth = Gauge(
            "kubesynth_workqueue_depth", "Jobs that wait for a worker.", registry=self.registry
        )
        self.server_queue_depth = Gauge(
            "kubesynth_server_workqueue_depth",
            "Model servers that wait for a worker.",
            registry=self.registry,
        )
        self.queue_retries = Counter(
            "kubesynth_workqueue_retries_total",
            "Jobs that were put back after an error.",
            registry=self.registry,
        )
        self.reconcile_seconds = Histogram(
            "kubesynth_reconcile_duration_seconds",
            "Time of one look at a job, with its writes.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.reconcile_errors = Counter(
            "kubesynth_reconcile_errors_total",
            "Looks at a job that ended in an error.",
            ["kind"],
            registry=self.registry,
        )
        self.status_writes = Counter(
            "kubesynth_status_writes_total",
            "Writes of a job's status.",
            ["cause"],
            registry=self.registry,
        )
        self.jobs = Gauge(
            "kubesynth_job_phase", "Jobs by phase.", ["phase"], registry=self.registry
        )
        self.job_seconds = Histogram(
            "kubesynth_job_duration_seconds",
            "Time from a job's start to its end.",
            ["phase"],
            buckets=_JOB_SECONDS,
            registry=self.registry,
        )
        self.leader = Gauge(
            "kubesynth_leader", "1 while this process does the work.", registry=self.registry
        )
        self._phases: dict[JobKey, str] = {}
        self._add_watches()

    def _add_watches(self) -> None:
        """Add what the watches and other readers say."""
        self.watch_last_event = Gauge(
            "kubesynth_watch_last_event_timestamp_seconds",
            "When a watch last heard from the API server (Unix time).",
            ["resource"],
            registry=self.registry,
        )
        self.unreadable = Counter(
            "kubesynth_unreadable_total",
            "Objects, answers and files that were left out because they cannot be read.",
            ["kind"],
            registry=self.registry,
        )
        self.watch_denied = Gauge(
            "kubesynth_watch_denied",
            "1 while a kind may not be listed in a namespace that is to be served.",
            ["resource", "namespace"],
            registry=self.registry,
        )

    def job_seen(self, key: JobKey, phase: str) -> None:
        """Count a job under its phase, and no longer under its last one."""
        self.job_gone(key)
        self._phases[key] = phase
        self.jobs.labels(phase=phase).inc()

    def job_gone(self, key: JobKey) -> None:
        """Stop counting a job. Safe for one that was never seen."""
        phase = self._phases.pop(key, None)
        if phase is not None:
            self.jobs.labels(phase=phase).dec()
