"""Names that the operator writes on its own children, never on a user's object."""

from __future__ import annotations

GROUP = "kubesynth.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

# The one field manager of everything that is applied server-side.
FIELD_MANAGER = "kubesynth-operator"
MANAGED_BY = "kubesynth.io/operator"

# Every child carries these four; the operator's watches select on MANAGED_BY_LABEL.
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY_VALUE = "kubesynth-operator"
NAME_LABEL = "app.kubernetes.io/name"
NAME_VALUE = "kubesynth-runner"
JOB_NAME_LABEL = "kubesynth.io/job-name"
JOB_UID_LABEL = "kubesynth.io/job-uid"
# plan, generate, finalize or report: on Jobs and pods.
PHASE_LABEL = "kubesynth.io/phase"

# Name and uid of the ModelServer, on its Deployment, Service and pods.
SERVER_NAME_LABEL = "kubesynth.io/server-name"
SERVER_UID_LABEL = "kubesynth.io/server-uid"
SERVER_NAME_VALUE = "kubesynth-server"
# Hash of the model and revision whose weights a volume claim holds.
CACHE_LABEL = "kubesynth.io/model-cache"
# On a server's Deployment: hash of what it was made from.
INPUTS_ANNOTATION = "kubesynth.io/inputs"
# On a server's pods: the version of the token's Secret, if a change of it restarts them.
SECRET_ANNOTATION = "kubesynth.io/secret-version"
# Of the LeaderWorkerSet controller, on the pods of servers on several nodes.
WORKER_INDEX_LABEL = "leaderworkerset.sigs.k8s.io/worker-index"
GROUP_INDEX_LABEL = "leaderworkerset.sigs.k8s.io/group-index"
GROUP_REVISION_LABEL = "leaderworkerset.sigs.k8s.io/template-revision-hash"
# The one container of a server's pod.
SERVER_CONTAINER = "server"

# On the finalize Job: how the job will end (JSON), so that the end survives the operator.
OUTCOME_ANNOTATION = "kubesynth.io/outcome"
# On the Secret to lease with: what shards began with when they were first made (JSON).
FIRST_SHARE_ANNOTATION = "kubesynth.io/first-share"
# The one container of a runner pod.
RUNNER_CONTAINER = "runner"

QUEUE_NAME_LABEL = "kueue.x-k8s.io/queue-name"
