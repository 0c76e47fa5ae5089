"""Jobs that have to be refused when they are created, and in what words.

Each is an edit of a good one. The refusal has to name the field. The API server (CRD) is held to
this table, and so is what stands in for it elsewhere (pydantic and `kubesynth_api.validation`).
"""

from __future__ import annotations

from kubesynth_testing.bad_manifest import BadManifest
from kubesynth_testing.bad_outputs import OUTPUTS
from kubesynth_testing.manifests import FULL, REMOVE, SMALL, Manifest

_MODEL = "spec.models[0]"
_EXTERNAL = f"{_MODEL}.external"
_QA = "spec.pipeline[0].closedQA"
_ANSWER = "spec.pipeline[1].answer"
_PROMPT = "spec.pipeline[2].prompt"
_KEY = {"name": "object", "key": "key"}
_ONE_MODEL = "exactly one of external, server, serverRef and embedded must be set"
_ONE_TEXT = "exactly one of inline and configMapKeyRef must be set"
_ONE_STAGE = "must be set in a stage, and be {} where it has no settings; is its name mistyped?"
_MANY_STAGES: list[Manifest] = [{"closedQA": {}}] * 33
_MANY_MODELS = [{"name": f"m{i}", "embedded": {}} for i in range(17)]


def _one(name: str, field: str, value: object, message: str, base: Manifest = FULL) -> BadManifest:
    """Return a manifest with one wrong value, which the refusal has to name."""
    return BadManifest(name, {field: value}, field, message, base)


def _without(field: str) -> BadManifest:
    """Return a manifest that lacks a required field."""
    return BadManifest(f"no-{field}", {field: REMOVE}, field, "Required value", FULL)


def _mistyped(stage: str) -> BadManifest:
    return BadManifest(
        f"stage-mistyped-{stage}",
        {"spec.pipeline": [{stage: {}}]},
        "spec.pipeline[0]",
        _ONE_STAGE,
        unknown=f"spec.pipeline[0].{stage}",
    )


NAMES = (
    _one("name-too-long", "metadata.name", "a" * 41, "at most 40 characters"),
    _one("name-with-digit-first", "metadata.name", "1st", "a letter first"),
    _one("name-with-dot", "metadata.name", "a.b", "lower-case letters, digits and -"),
    _one("role-too-long", f"{_MODEL}.name", "r" * 16, "may not be more than 15"),
    _one("role-with-capital", f"{_MODEL}.name", "Judge", "should match"),
    _one("role-with-dash-last", f"{_MODEL}.name", "judge-", "should match"),
    _one("role-empty", f"{_MODEL}.name", "", "at least 1"),
    _one("stage-role-malformed", f"{_QA}.model", "No_Role", "should match"),
    _one("stage-id-too-long", "spec.pipeline[0].id", "i" * 41, "may not be more than 40"),
    _one("server-namespace", f"{_MODEL[:-3]}[3].serverRef.namespace", "A", "should match"),
)

UNIONS = (
    BadManifest("model-without-source", {_EXTERNAL: REMOVE}, _MODEL, _ONE_MODEL),
    BadManifest("model-with-two-sources", {f"{_MODEL}.embedded": {}}, _MODEL, _ONE_MODEL),
    BadManifest(
        "ca-bundle-empty", {f"{_EXTERNAL}.caBundle": {}}, f"{_EXTERNAL}.caBundle", "exactly one of"
    ),
    BadManifest(
        "ca-bundle-twice",
        {f"{_EXTERNAL}.caBundle": {"configMapKeyRef": _KEY, "secretKeyRef": _KEY}},
        f"{_EXTERNAL}.caBundle",
        "exactly one of configMapKeyRef and secretKeyRef must be set",
    ),
    BadManifest("stage-empty", {"spec.pipeline[0]": {}}, "spec.pipeline[0]", _ONE_STAGE),
    BadManifest(
        "stage-id-alone", {"spec.pipeline[0]": {"id": "a"}}, "spec.pipeline[0]", _ONE_STAGE
    ),
    BadManifest(
        "two-stages-in-one", {"spec.pipeline[1].closedQA": {}}, "spec.pipeline[1]", _ONE_STAGE
    ),
    *(_mistyped(stage) for stage in ("closedQa", "closedqa", "closed_qa", "answers", "Prompt")),
    _one("prompt-empty", f"{_PROMPT}.user", {}, _ONE_TEXT),
    _one("prompt-twice", f"{_PROMPT}.user", {"inline": "a", "configMapKeyRef": _KEY}, _ONE_TEXT),
    _one("replaced-prompt-empty", f"{_QA}.prompts.system", {}, _ONE_TEXT),
    _one("env-source-empty", "spec.runner.env[1].valueFrom", {}, "exactly one of secretKeyRef"),
    _one(
        "env-source-twice",
        "spec.runner.env[1].valueFrom",
        {"secretKeyRef": _KEY, "configMapKeyRef": _KEY},
        "exactly one of secretKeyRef and configMapKeyRef must be set",
    ),
    BadManifest(
        "env-value-and-source",
        {"spec.runner.env[1].value": "x"},
        "spec.runner.env[1]",
        "value and valueFrom exclude each other",
        FULL,
    ),
    _one("budget-of-nothing", "spec.budget", {}, "at least one of tokens and usd must be set"),
)

ADDRESSES = (
    _one(
        "url-without-scheme", f"{_EXTERNAL}.url", "inference.example.com/v1", "http:// or https://"
    ),
    _one("url-with-query", f"{_EXTERNAL}.url", "https://example.com/v1?a=b", "without a query"),
    _one("url-of-a-request", f"{_EXTERNAL}.url", "http://a/v1/chat/completions/", "leave out"),
    _one("url-too-long", f"{_EXTERNAL}.url", "http://" + "x" * 1024, "may not be more than 1024"),
    _one("input-unknown-scheme", "spec.input.uri", "ftp://host/file", "uri must start with"),
    _one("input-relative", "spec.input.uri", "docs/a.jsonl", "uri must start with"),
    _one("input-claim-without-path", "spec.input.uri", "pvc://corpus", "pvc://CLAIM/PATH"),
    _one("input-claim-with-capital", "spec.input.uri", "pvc://Corpus/a", "pvc://CLAIM/PATH"),
    _one(
        "input-config-map-without-key", "spec.input.uri", "configmap://docs", "configmap://NAME/KEY"
    ),
    _one(
        "input-config-map-folder", "spec.input.uri", "configmap://docs/a/b", "configmap://NAME/KEY"
    ),
    _one("input-out-of-its-claim", "spec.input.uri", "pvc://corpus/a/../../b", "must not lead out"),
    _one(
        "input-too-long",
        "spec.input.uri",
        "pvc://corpus/" + "x" * 1200,
        "may not be more than 1200",
    ),
    _one("tokenizer-folder", "spec.tokenizer.uri", "pvc://models/*.json", "must be one file"),
    _one("tokenizer-bucket", "spec.tokenizer.uri", "s3://models/t.json", "must be one file"),
    _one("output-config-map", "spec.output.uri", "configmap://a/b", "uri must start with"),
    _one("output-web", "spec.output.uri", "https://example.com/a", "uri must start with"),
    _one("output-claim-without-path", "spec.output.uri", "pvc://datasets/", "pvc://CLAIM/PATH"),
    _one("output-out-of-its-claim", "spec.output.uri", "pvc://datasets/..", "must not lead out"),
)

_TRITON = {"protocol": "Triton", "url": "grpc://triton:8001", "model": "m"}


def _triton(name: str, field: str, value: object, message: str) -> BadManifest:
    """Return a manifest of a model on Triton with one wrong value."""
    edits = {_EXTERNAL: _TRITON | {"triton": {"chatTemplate": {"builtIn": "ChatML"}}}}
    field = f"{_EXTERNAL}.{field}"
    return BadManifest(name, {**edits, field: value}, field, message)


_TEMPLATE = "triton.chatTemplate"
_ONE_TEMPLATE = "exactly one of builtIn, jinja, tokenizerConfig and server must be set"
PROTOCOLS = (
    _one("protocol", f"{_EXTERNAL}.protocol", "KServe", "Unsupported value"),
    _triton("triton-over-http", "url", "http://triton:8000", "must be grpc://HOST:PORT"),
    _triton("triton-with-a-path", "url", "grpc://triton:8001/v2", "must be grpc://HOST:PORT"),
    _one("grpc-without-triton", f"{_EXTERNAL}.url", "grpc://triton:8001", "http:// or https://"),
    _one("triton-options-of-openai", f"{_EXTERNAL}.triton", {}, "belongs to protocol Triton"),
    _triton("contract", "triton.contract", "Own", "Unsupported value"),
    _triton("model-version", "triton.modelVersion", "latest", "should match"),
    _triton("chat-template-empty", _TEMPLATE, {}, _ONE_TEMPLATE),
    _triton("two-chat-templates", _TEMPLATE, {"builtIn": "Phi4", "server": {}}, _ONE_TEMPLATE),
    BadManifest(
        "jinja-empty",
        {_EXTERNAL: _TRITON | {"triton": {"chatTemplate": {"jinja": {"inline": ""}}}}},
        f"{_EXTERNAL}.{_TEMPLATE}.jinja.inline",
        "at least 1",
    ),
)

PODS = (
    _one("env-of-our-own", "spec.runner.env[0].name", "KUBESYNTH_PHASE", "kubesynth's own"),
    _one("env-of-the-job", "spec.runner.env[0].name", "JOB_COMPLETION_INDEX", "kubesynth's own"),
    _one("env-malformed", "spec.runner.env[0].name", "A-B", "should match"),
    BadManifest(
        "env-twice", {"spec.runner.env[1].name": "A"}, "spec.runner.env[1]", "Duplicate value", FULL
    ),
    BadManifest(
        "request-over-limit",
        {"spec.runner.resources.requests.cpu": "2500m"},
        "spec.runner.resources.requests",
        "no request may exceed the limit",
        FULL,
    ),
    _one("quantity-malformed", "spec.runner.resources.requests.cpu", "1 GB", "should match"),
    _one(
        "quantity-negative", "spec.runner.resources.requests.cpu", -1, "greater than or equal to 0"
    ),
    _one("label-of-our-own", "spec.runner.labels", {"kubesynth.io/a": "b"}, "set by controllers"),
    _one("label-key-malformed", "spec.runner.labels", {"a b": "c"}, "keys must match"),
    _one("label-value-malformed", "spec.runner.labels.team", "a b", "should match"),
    _one("node-label-malformed", "spec.runner.nodeSelector", {"/": "c"}, "keys must match"),
    BadManifest(
        "toleration-value-of-any",
        {"spec.runner.tolerations[0].operator": "Exists"},
        "spec.runner.tolerations[0].value",
        "operator Exists takes no value",
        FULL,
    ),
    BadManifest(
        "toleration-without-key",
        {"spec.runner.tolerations[0].key": REMOVE},
        "spec.runner.tolerations[0].operator",
        "without a key the operator must be Exists",
        FULL,
    ),
    BadManifest(
        "toleration-time-of-no-eviction",
        {"spec.runner.tolerations[0].effect": "NoSchedule"},
        "spec.runner.tolerations[0].tolerationSeconds",
        "tolerationSeconds is for the effect NoExecute",
        FULL,
    ),
    _one("user-root", "spec.runner.podSecurityContext.runAsUser", 0, "greater than or equal to 1"),
    _one("secret-malformed", "spec.runner.imagePullSecrets[0].name", "A_B", "should match"),
)

TOGETHER = (
    _one("more-pods-than-shards", "spec.shards.parallelism", 5, "must not exceed count"),
    _one(
        "more-failed-shards-than-shards", "spec.failurePolicy.maxFailedShards", 5, "must not exceed"
    ),
    BadManifest(
        "a-pod-without-a-request",
        {f"{_MODEL}.limits.concurrency": 1},
        "spec.models",
        "limits.concurrency must be at least the number of pods",
        FULL,
    ),
    BadManifest(
        "role-twice",
        {"spec.models[1].name": "generator"},
        "spec.models[1]",
        "Duplicate value",
        FULL,
    ),
)

MAPS = (
    _one("key-in-a-header", f"{_EXTERNAL}.headers", {"Authorization": "x"}, "cannot be set here"),
    _one("header-malformed", f"{_EXTERNAL}.headers", {"a b": "x"}, "keys must match"),
    _one("column-malformed", "spec.input.columns", {"a-b": "x"}, "keys must match"),
    _one("bias-of-a-word", f"{_MODEL}.sampling.logitBias", {"hello": 1}, "keys must match"),
    _one(
        "price-of-a-long-role",
        "spec.budget.prices",
        {"r" * 16: {"promptPerMillion": 1, "completionPerMillion": 1}},
        "at most 15 characters",
    ),
)

MISSING = (
    BadManifest("no-input", {"spec.input": REMOVE}, "spec.input", "needs either an input", SMALL),
    *(
        _without(field)
        for field in (
            "spec",
            "spec.models",
            f"{_MODEL}.name",
            f"{_EXTERNAL}.url",
            f"{_EXTERNAL}.model",
            f"{_EXTERNAL}.apiKey.secretKeyRef",
            f"{_EXTERNAL}.apiKey.secretKeyRef.key",
            "spec.input.uri",
            "spec.input.sample.fraction",
            "spec.pipeline",
            f"{_PROMPT}.user",
            f"{_PROMPT}.examples[0].assistant",
            "spec.output",
            "spec.output.uri",
            "spec.target.acceptedRecords",
            "spec.retryFailed.fromOutput",
        )
    ),
)

BOUNDS = (
    _one("no-models", "spec.models", [], "at least 1 items"),
    _one("too-many-models", "spec.models", _MANY_MODELS, "must have at most 16 items"),
    _one("no-stages", "spec.pipeline", [], "at least 1 items"),
    _one("too-many-stages", "spec.pipeline", _MANY_STAGES, "must have at most 32 items"),
    _one("no-questions", f"{_QA}.questions", 0, "greater than or equal to 1"),
    _one("too-many-questions", f"{_QA}.questions", 101, "less than or equal to 100"),
    _one("prompt-blank", f"{_PROMPT}.user.inline", "", "at least 1"),
    _one("prompt-too-long", f"{_PROMPT}.user.inline", "x" * 16385, "may not be more than 16384"),
    _one(
        "too-many-examples",
        f"{_PROMPT}.examples",
        [{"user": "a", "assistant": "b"}] * 17,
        "at most 16",
    ),
    _one("temperature", f"{_MODEL}.sampling.temperature", -0.1, "greater than or equal to 0"),
    _one("top-p-zero", f"{_MODEL}.sampling.topP", 0, "greater than 0"),
    _one("top-p-over-one", f"{_MODEL}.sampling.topP", 1.1, "less than or equal to 1"),
    _one("top-k", f"{_MODEL}.sampling.topK", -2, "greater than or equal to -1"),
    _one("max-tokens", f"{_MODEL}.sampling.maxTokens", 0, "greater than or equal to 1"),
    _one("stop-empty", f"{_MODEL}.sampling.stop[0]", "", "at least 1"),
    _one("too-many-stops", f"{_MODEL}.sampling.stop", ["x"] * 17, "must have at most 16 items"),
    _one("bias", f"{_MODEL}.sampling.logitBias.50256", 101, "less than or equal to 100"),
    _one("stage-penalty", f"{_QA}.sampling.presencePenalty", 3, "less than or equal to 2"),
    _one("timeout", f"{_MODEL}.requestTimeoutSeconds", 0, "greater than or equal to 1"),
    _one("attempts", f"{_MODEL}.maxAttempts", 101, "less than or equal to 100"),
    _one("context", "spec.models[1].embedded.contextTokens", 100, "greater than or equal to 256"),
    _one("gpus", "spec.models[2].server.gpus", 65, "less than or equal to 64"),
    _one("text-column", "spec.input.textColumn", "a-b", "should match"),
    _one("text-column-too-long", "spec.input.textColumn", "c" * 64, "may not be more than 63"),
    _one("answer-column", "spec.pipeline[1].answer.answerColumn", "1st", "should match"),
    _one("limit", "spec.input.limit", 0, "greater than or equal to 1"),
    _one("sample", "spec.input.sample.fraction", 0, "greater than 0"),
    _one("rows-per-part", "spec.output.rowsPerPart", 0, "greater than or equal to 1"),
    _one("budget", "spec.budget.usd", 0, "greater than 0"),
    _one("no-shards", "spec.shards.count", 0, "greater than or equal to 1"),
    _one("too-many-shards", "spec.shards.count", 10001, "less than or equal to 10000"),
    _one("backoff", "spec.failurePolicy.backoffLimitPerShard", 101, "less than or equal to 100"),
    _one("percent", "spec.failurePolicy.maxFailedRecordsPercent", 101, "less than or equal to 100"),
    _one("deadline", "spec.deadlines.activeSeconds", 0, "greater than or equal to 1"),
    _one("ttl", "spec.cleanup.ttlSecondsAfterFinished", -1, "greater than or equal to 0"),
    _one("seed-negative", "spec.seed", -1, "greater than or equal to 0"),
    _one("seed-too-large", "spec.seed", 2**31, "less than or equal to 2147483647"),
    _one("env-value-too-long", "spec.runner.env[0].value", "x" * 4097, "may not be more than 4096"),
)

CHOICES = tuple(
    _one(f"choice-{field}", field, "Other", "Unsupported value")
    for field in (
        f"{_QA}.onShortList",
        f"{_MODEL}.sampling.reasoningEffort",
        f"{_PROMPT}.output.type",
        f"{_PROMPT}.output.itemForm",
        f"{_ANSWER}.onCutOff",
        "spec.input.format",
        "spec.output.format",
        "spec.output.ifExists",
        "spec.output.exports[0]",
        "spec.execution",
        "spec.runner.imagePullPolicy",
        "spec.runner.tolerations[0].effect",
    )
)

TYPES = (
    _one("number-as-text", f"{_QA}.questions", "5", "must be of type integer"),
    _one("fraction-of-a-question", f"{_QA}.questions", 2.5, "must be of type int64"),
    _one("flag-as-text", "spec.suspend", "yes", "must be of type boolean"),
    _one("text-as-number", f"{_EXTERNAL}.model", 7, "must be of type string"),
    _one("list-as-text", "spec.pipeline", "closedQA", "must be of type array"),
    _one("object-as-text", "spec.input", "pvc://corpus/docs", "must be of type object"),
)

BAD_MANIFESTS: tuple[BadManifest, ...] = (
    *NAMES,
    *UNIONS,
    *OUTPUTS,
    *ADDRESSES,
    *PROTOCOLS,
    *PODS,
    *TOGETHER,
    *MAPS,
    *MISSING,
    *BOUNDS,
    *CHOICES,
    *TYPES,
)
