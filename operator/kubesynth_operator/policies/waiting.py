"""What pods wait for, in words: the part of `kubectl describe pod` that people look for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kubesynth_operator.observation import Pod

# A container that is on its way; not worth a word.
_NORMAL = frozenset({"ContainerCreating", "PodInitializing", ""})
_MESSAGE_CHARACTERS = 300


def describe(pods: Sequence[Pod]) -> str:
    """Return why pods that should run do not, or an empty string when there is nothing odd.

    Speaks of kinds and not of numbers of pods: a message that changes with every pod would be a
    status write for every pod.
    """
    stuck = [
        pod
        for pod in pods
        if not pod.ended and not pod.deleting and pod.waiting_reason not in _NORMAL
    ]
    if not stuck:
        return ""
    reason, _ = Counter(pod.waiting_reason for pod in stuck).most_common(1)[0]
    example = min((pod for pod in stuck if pod.waiting_reason == reason), key=lambda pod: pod.name)
    detail = f": {example.waiting_message[:_MESSAGE_CHARACTERS]}" if example.waiting_message else ""
    return f"{reason}{detail}"
