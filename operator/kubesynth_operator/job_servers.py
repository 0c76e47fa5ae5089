"""The servers that a job owns: made while it needs them, given back when it has ended. Pure."""

from __future__ import annotations

from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_operator.actions import Action, CreateModelServer, DeleteModelServer
from kubesynth_operator.observation import Observation
from kubesynth_operator.policies import model_servers
from kubesynth_operator.resources import model_server


def bring_back(observation: Observation, phase: RunnerPhase) -> tuple[Action, ...]:
    """Return what makes the servers that are not there, in the phases that need them."""
    if phase not in (RunnerPhase.PLAN, RunnerPhase.GENERATE):
        return ()
    job = observation.job
    missing = model_servers.missing(observation.spec, observation.servers)
    return tuple(CreateModelServer(model_server.build(job, model)) for model in missing)


def give_back(observation: Observation) -> tuple[Action, ...]:
    """Return what deletes the servers of a job that has ended, with their GPUs."""
    spec = observation.job.spec
    own = [model.name for model in spec.models if model.server is not None] if spec else []
    views = [observation.servers[role] for role in own if role in observation.servers]
    return tuple(DeleteModelServer(view.name, view.uid) for view in views if view.uid)
