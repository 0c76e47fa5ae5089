"""The vocabulary of conditions: every type and every reason, and when each is used.

Conditions are adjectives or participles with normal polarity. `Complete` and `Failed` exclude each
other and are final. `phase` is derived from them for people and is read by nothing.
"""

from __future__ import annotations

from enum import StrEnum


class ConditionType(StrEnum):
    """The types of condition on a SyntheticDataJob."""

    ACCEPTED = "Accepted"  # the spec is valid and everything it refers to exists
    QUOTA_RESERVED = "QuotaReserved"  # only with a queue: the queue has admitted the job
    MODELS_READY = "ModelsReady"  # every model that the job uses answers
    RUNNING = "Running"  # pods of the job are at work
    SUSPENDED = "Suspended"  # nothing runs because somebody asked for that
    COMPLETE = "Complete"  # final: the dataset is there
    FAILED = "Failed"  # final: the job gave up
    DEGRADED = "Degraded"  # it goes on, but not as it should
    # kstatus (GitOps tools); present only while True, except Ready, which mirrors Complete
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    READY = "Ready"


class Reason(StrEnum):
    """The reasons of all conditions and Kubernetes Events."""

    # Accepted
    VALID = "Valid"
    INVALID_SPEC = "InvalidSpec"  # what CEL cannot see: templates, sizes, name lengths
    NOT_IMPLEMENTED = "NotImplemented"  # a field whose behaviour this version does not have
    REFERENCE_NOT_FOUND = "ReferenceNotFound"  # a Secret, ConfigMap, PVC or key is missing
    REFERENCE_DENIED = "ReferenceDenied"  # it exists, but this job may not use it
    KIND_NOT_INSTALLED = "KindNotInstalled"  # LeaderWorkerSet, for servers on several nodes
    OUTPUT_CONFLICT = "OutputConflict"  # the output holds another run
    ACCESS_MODE_CONFLICT = "AccessModeConflict"  # the volume cannot be mounted by all shards
    MANAGED_EXTERNALLY = "ManagedExternally"  # spec.managedBy names another controller
    # QuotaReserved
    ADMITTED = "Admitted"
    QUEUED = "Queued"
    QUEUE_NAME_MISSING = "QueueNameMissing"  # a Job of ours is held back that has no queue
    PREEMPTED = "Preempted"
    # ModelsReady
    ALL_READY = "AllReady"
    NOT_REQUIRED = "NotRequired"  # every model is external or embedded: nothing to deploy
    PROVISIONING = "Provisioning"  # pods are being made
    UNSCHEDULABLE = "Unschedulable"  # no node has room, a free GPU, or a tolerated taint
    IMAGE_PULL_FAILED = "ImagePullFailed"
    DOWNLOADING = "Downloading"  # the node fetches the image and mounts volumes
    LOADING = "Loading"  # the engine runs; it fetches weights or loads them
    IDLE = "Idle"  # scaled to zero: no job needs it
    STARTUP_TIMEOUT = "StartupTimeout"
    CRASH_LOOPING = "CrashLooping"
    # Running
    PLANNING = "Planning"  # the plan pod is at work
    SHARDS_ACTIVE = "ShardsActive"
    FINALIZING = "Finalizing"  # the finalize pod is at work
    NOT_STARTED = "NotStarted"
    PODS_NOT_CREATED = "PodsNotCreated"  # pods are refused (also Degraded=True)
    FINISHED = "Finished"
    # Suspended (also Running=False)
    SUSPENDED_BY_USER = "SuspendedByUser"
    SUSPENDED_BY_QUEUE = "SuspendedByQueue"
    RESUMED = "Resumed"
    # Complete
    ALL_SHARDS_SUCCEEDED = "AllShardsSucceeded"
    SOME_SHARDS_FAILED = "SomeShardsFailed"  # complete but for their rows: within maxFailedShards
    TARGET_REACHED = "TargetReached"
    TARGET_MISSED = "TargetMissed"
    BUDGET_SPENT = "BudgetSpent"
    NOT_COMPLETE = "NotComplete"  # Complete=False while the job is under way
    # Failed
    SHARD_BACKOFF_EXCEEDED = "ShardBackoffExceeded"
    TOO_MANY_FAILED_SHARDS = "TooManyFailedShards"
    TOO_MANY_FAILED_RECORDS = "TooManyFailedRecords"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    MODEL_STARTUP_FAILED = "ModelStartupFailed"
    OUTPUT_UNWRITABLE = "OutputUnwritable"
    INPUT_UNREADABLE = "InputUnreadable"
    INPUT_CHANGED = "InputChanged"  # a file of the input is not the one that plan saw
    REFERENCE_CHANGED = "ReferenceChanged"  # a prompt or plugin is not the one that plan saw
    RUNNER_FAILED = "RunnerFailed"  # plan or finalize gave up for another reason
    # Degraded
    PROGRESS_STALLED = "ProgressStalled"
    PROGRESS_UNKNOWN = (
        "ProgressUnknown"  # running pods cannot be reached: neither failure nor stall
    )
    DISRUPTIONS_HIGH = "DisruptionsHigh"
    MODEL_UNHEALTHY = "ModelUnhealthy"
    NO_ROOM_FOR_SURGE = "NoRoomForSurge"  # a rollout had to stop the old pods first
    CHILD_CONFLICT = "ChildConflict"  # an object with a child's name belongs to somebody else
    # Reconciling, Ready
    IN_PROGRESS = "InProgress"
    # of Events alone: what a user should know of a job that goes on
    FILES_LEFT_OUT = "FilesLeftOut"  # files of the input's folder that are not read
    RECORDS_FAILED = "RecordsFailed"  # the first records have failed
