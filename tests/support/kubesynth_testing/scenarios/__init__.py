"""Scenarios: courses of events on a real cluster, and what they need.

stage        runs scenarios beside each other, and hands what they saw to the tests
world        the cluster with the operator installed, and namespaces to work in
release      the operator, installed with the chart: upgraded, scaled down, killed
job_manifests, model_pods   what a scenario puts on the cluster
recording    every version of the objects of one kind, for what is gone at the end
dataset      an output folder, read back and checked
chaos        kills containers at random moments
"""
