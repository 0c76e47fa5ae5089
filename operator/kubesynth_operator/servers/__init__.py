"""Model servers: the same loop as for jobs (look, decide, act), for ModelServers.

`plan.reconcile` decides, from values of `seen`; `startup`, `demand` and `rollout` are its policies.
`catalog` keeps what the watches see of servers, classes and the jobs that need them.
"""
