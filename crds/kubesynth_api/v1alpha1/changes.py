"""What of a job may change after it was applied, as rules of its spec and models.

Rules of the parent that compare presence too: a rule of the field itself is not asked when the
field comes or goes.
"""

from __future__ import annotations

from kubesynth_api._base import CelRule


def immutable(field: str) -> CelRule:
    """Return the rule that a field of the object neither changes, comes nor goes.

    Both ways, because where a field is unknown to CEL (a map of anything) the API server only
    looks at what the left side has.
    """
    return CelRule(
        f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field})"
        f" || (self.{field} == oldSelf.{field} && oldSelf.{field} == self.{field}))",
        f"{field} is immutable",
        f".{field}",
    )


# A model is immutable but for its limits.
MODEL_RULES: tuple[CelRule, ...] = tuple(
    immutable(field)
    for field in (
        "external",
        "server",
        "serverRef",
        "embedded",
        "sampling",
        "requestTimeoutSeconds",
        "maxAttempts",
    )
)

_PRICES = "(has({0}.budget) && has({0}.budget.prices) && {0}.budget.prices.size() > 0)"

SPEC_RULES: tuple[CelRule, ...] = (
    *(
        immutable(field)
        for field in (
            "input",
            "pipeline",
            "tokenizer",
            "output",
            "target",
            "runner",
            "failurePolicy",
            "seed",
            "execution",
            "retryFailed",
            "managedBy",
        )
    ),
    CelRule(  # the order counts: the first one is the default
        "self.models.map(m, m.name) == oldSelf.models.map(m, m.name)",
        "models is immutable: none may be added, removed, renamed or moved",
        ".models",
    ),
    CelRule(
        "self.shards.count == oldSelf.shards.count",
        "shards.count is immutable (parallelism may change)",
        ".shards.count",
    ),
    CelRule(
        "!has(oldSelf.budget) || (has(self.budget)"
        " && (!has(oldSelf.budget.tokens) || (has(self.budget.tokens)"
        " && self.budget.tokens >= oldSelf.budget.tokens))"
        " && (!has(oldSelf.budget.usd) || (has(self.budget.usd)"
        " && self.budget.usd >= oldSelf.budget.usd)))",
        "a budget may only be raised",
        ".budget",
    ),
    # What a new budget asks of the rest of the job has to be there already.
    CelRule(
        "!has(self.budget) || !has(self.budget.usd)"
        " || (has(oldSelf.budget) && has(oldSelf.budget.usd))"
        " || (has(self.budget.prices) && self.models.all(m, m.name in self.budget.prices))",
        "usd needs a price of every model, and prices cannot be added later",
        ".budget.usd",
    ),
    CelRule(
        "!has(self.budget) || has(oldSelf.budget) || self.execution != 'Batch'",
        "a budget cannot be kept with execution: Batch",
        ".budget",
    ),
    # Runners count with the prices that they were started with.
    CelRule(
        f"({_PRICES.format('self')} && {_PRICES.format('oldSelf')})"
        " ? self.budget.prices == oldSelf.budget.prices"
        f" : {_PRICES.format('self')} == {_PRICES.format('oldSelf')}",
        "prices are immutable, and cannot be added later",
        ".budget",
    ),
)
