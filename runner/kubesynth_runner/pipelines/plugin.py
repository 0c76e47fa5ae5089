"""`plugin`: a stage of the user's own, found, checked, and run like any other."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import inspect
import sys
import types
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NoReturn, get_args

import jinja2
import msgspec
import pydantic

from kubesynth_api.conditions import Reason
from kubesynth_api.meta import PromptText
from kubesynth_api.v1alpha1.stages.plugins import Plugin, PluginFile
from kubesynth_runner import errors, plugin_api, records
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.llm.base import Completion, JsonSchemaFormat, Message
from kubesynth_runner.pipelines import structured
from kubesynth_runner.pipelines.base import (
    Cost,
    ModelFailure,
    StageFailure,
    StageLlm,
    Step,
    Steps,
    accept,
    accept_text,
    is_cut_off,
)
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_runner.pipelines.labels import ask_label
from kubesynth_runner.pipelines.templates import PromptTemplate

GROUP = "kubesynth.stages"
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


@dataclasses.dataclass(frozen=True, slots=True)
class PluginStage:
    """Runs a plugin; whatever it raises fails the record alone."""

    plugin: plugin_api.StagePlugin
    prompts: Mapping[str, PromptTemplate]

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """What the plugin says."""
        return dict(self.plugin.adds)

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        """Yield what the plugin yields, checked."""
        missing = [name for name in self.plugin.needs if name not in record.columns]
        if missing:
            raise StageFailure("BadInput", f"the record has no column {missing[0]!r}")
        raised: list[Exception] = []
        try:
            async for made in self.plugin.run(
                record.columns, _Model(_WatchedLlm(llm, raised), self.prompts)
            ):
                _insist(raised)
                yield self._checked(made)
            _insist(raised)
        except StageFailure:
            raise
        except plugin_api.Reject as exc:
            _insist(raised)
            raise StageFailure("Rejected", str(exc)) from exc
        except (Exception, SystemExit) as exc:  # somebody else's code: no other record suffers
            _insist(raised)
            # Of calls side by side the first one to fail is told, maybe among others in a group.
            for failure in raised:
                if failure in _leaves(exc):
                    raise failure from None
            raise StageFailure("PluginError", f"{type(exc).__name__}: {exc}") from exc

    def _checked(self, made: Any) -> records.Columns:
        """Return the columns of a child, those left out as null."""
        if not isinstance(made, Mapping):
            raise StageFailure("PluginError", f"yielded {type(made).__name__}, not a mapping")
        unknown = sorted(set(made) - set(self.columns))
        if unknown:
            raise StageFailure("PluginError", f"yielded {unknown[0]!r}, which it does not declare")
        for name, value in made.items():
            kinds = _TYPES.get(self.columns[name])
            is_bool = isinstance(value, bool) and self.columns[name] != "boolean"
            if value is not None and kinds and (is_bool or not isinstance(value, kinds)):
                raise StageFailure(
                    "PluginError",
                    f"{name!r} is {self.columns[name]}, and got {type(value).__name__}",
                )
            _insist_on_json(name, value)
        return {name: made.get(name) for name in self.columns}


def _insist_on_json(name: str, value: Any) -> None:
    """Refuse what neither a row nor errors/ can hold.

    Raises:
        StageFailure: it has no JSON, such as objects, half a surrogate pair, or a list in itself.
    """
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as exc:
        raise StageFailure("PluginError", f"{name!r} cannot be stored: {exc}") from exc


@dataclasses.dataclass(frozen=True, slots=True)
class _WatchedLlm:
    """Remembers what calls have raised: it is the engine's business, not the plugin's fault."""

    llm: StageLlm
    raised: list[Exception]

    @property
    def json_schema(self) -> bool:
        return self.llm.json_schema

    async def complete(
        self, messages: tuple[Message, ...], response_format: JsonSchemaFormat | None = None
    ) -> Completion:
        try:
            return await self.llm.complete(messages, response_format)
        except Exception as exc:
            self.raised.append(exc)
            raise

    def of(self, field: str) -> StageLlm:
        return _WatchedLlm(self.llm.of(field), self.raised)

    def branches(self, count: int) -> list[StageLlm]:
        return [_WatchedLlm(branch, self.raised) for branch in self.llm.branches(count)]


def _insist(raised: Sequence[Exception]) -> None:
    """Raise what no plugin may swallow: an answer that is yet to come, a process that stops.

    That a call has failed for good is an answer, too, and the plugin may do without it.
    """
    for exc in raised:
        if not isinstance(exc, ModelFailure):
            raise exc


def _leaves(exc: BaseException) -> list[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        return [leaf for inner in exc.exceptions for leaf in _leaves(inner)]
    return [exc]


@dataclasses.dataclass(frozen=True, slots=True)
class _Model:
    """The model as a plugin sees it."""

    llm: StageLlm
    prompts: Mapping[str, PromptTemplate]

    def _messages(self, prompt: str, row: plugin_api.Row, more: Mapping[str, Any]) -> Any:
        if prompt not in self.prompts:
            raise LookupError(f"no prompt {prompt!r}; there are {', '.join(self.prompts)}")
        return self.prompts[prompt].render({**row, **more})

    async def text(
        self,
        prompt: str,
        row: plugin_api.Row,
        *,
        on_cut_off: plugin_api.OnCutOff = "Fail",
        **variables: Any,
    ) -> str:
        _one_of(plugin_api.OnCutOff, "on_cut_off", on_cut_off)
        completion = await self.llm.complete(self._messages(prompt, row, variables))
        return accept(completion, on_cut_off, "on_cut_off='Keep'")

    async def answer(self, prompt: str, row: plugin_api.Row, **variables: Any) -> plugin_api.Answer:
        completion = await self.llm.complete(self._messages(prompt, row, variables))
        text = accept_text(completion)
        return plugin_api.Answer(text, completion.finish_reason, is_cut_off(completion))

    async def items(
        self,
        prompt: str,
        row: plugin_api.Row,
        *,
        count: int | None = None,
        item_form: plugin_api.ItemForm = "Whole",
        **variables: Any,
    ) -> list[str]:
        _one_of(plugin_api.ItemForm, "item_form", item_form)
        messages = self._messages(prompt, row, {"count": count, **variables})
        request = structured.ListRequest("items", count, form=item_form)
        return await structured.ask_list(self.llm, messages, request)

    async def label(
        self, prompt: str, row: plugin_api.Row, *, labels: Sequence[str], **variables: Any
    ) -> str:
        messages = self._messages(prompt, row, {"labels": labels, **variables})
        label, _ = await ask_label(self.llm, messages, labels)
        return label

    async def json(
        self, prompt: str, row: plugin_api.Row, *, schema: Mapping[str, Any], **variables: Any
    ) -> dict[str, Any]:
        return await structured.ask_json(self.llm, self._messages(prompt, row, variables), schema)

    def branches(self, count: int) -> Sequence[plugin_api.Model]:
        return [_Model(branch, self.prompts) for branch in self.llm.branches(count)]


def _one_of(known: Any, name: str, value: object) -> None:
    """Refuse what a plugin has mistyped before it costs a call."""
    if value not in (allowed := get_args(known)):
        raise ValueError(f"{name} is {value!r}; it may be {', '.join(map(repr, allowed))}")


def compile_stage(spec: Plugin, context: CompileContext) -> Steps:
    """Return the step of a `plugin`.

    Raises:
        ConfigurationError: there is no such plugin, or it refuses its parameters.
    """
    found = _by_entry_point(spec.entry_point) if spec.entry_point else None
    if found is None:
        assert spec.file is not None, "exactly one of the two is set"
        found = _from_file(spec.file, context.read)
    plugin = _instance(found, spec)
    adds = _guarded(lambda: dict(plugin.adds), f"{found.__name__}.adds")
    for name, kind in adds.items():
        if kind not in (known := get_args(ColumnType)):
            _refuse(f"{found.__name__}.adds: {name!r} is {kind!r}; it may be {', '.join(known)}")
    declared, own = set(spec.output_columns), set(adds)
    if declared and declared != own:
        _refuse(
            f"outputColumns are {', '.join(sorted(declared))}, but {found.__name__} adds "
            + ", ".join(sorted(own))
        )
    stage = PluginStage(plugin, _prompts(spec, plugin, context))
    cost = Cost(calls=plugin.calls_per_row if plugin.asks_model else 0, rows=plugin.rows_per_row)
    return Steps((Step(stage, fields=("model",) if plugin.asks_model else (), cost=cost),))


def _by_entry_point(name: str) -> type[plugin_api.StagePlugin]:
    installed = {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}
    if name not in installed:
        names = ", ".join(sorted(installed)) or "none"
        _refuse(f"no entry point {name!r} in the group {GROUP}; installed are: {names}")
    return _plugin_class(_guarded(installed[name].load, f"entry point {name!r}"), name)


def _from_file(file: PluginFile, read: Callable[[PromptText], str]) -> type[plugin_api.StagePlugin]:
    reference = file.config_map_key_ref
    where = f"ConfigMap {reference.name!r}, key {reference.key!r}"
    source = read(PromptText(config_map_key_ref=reference))
    module = types.ModuleType(f"kubesynth_plugin_{reference.name}_{reference.key}")
    # Models and dataclasses look their module up by name.
    sys.modules[module.__name__] = module

    def load() -> None:
        exec(compile(source, f"{reference.name}/{reference.key}", "exec"), module.__dict__)

    _guarded(load, where)
    if file.class_name is not None:
        return _plugin_class(getattr(module, file.class_name, None), f"{where}: {file.class_name}")
    classes = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, plugin_api.StagePlugin)
        and value.__module__ == module.__name__
    ]
    if len(classes) != 1:
        names = ", ".join(sorted(value.__name__ for value in classes)) or "none"
        _refuse(f"{where}: there must be one StagePlugin, or className; there are: {names}")
    return classes[0]


def _plugin_class(value: Any, where: str) -> type[plugin_api.StagePlugin]:
    if not (inspect.isclass(value) and issubclass(value, plugin_api.StagePlugin)):
        _refuse(f"{where} is no subclass of kubesynth_runner.plugin_api.StagePlugin")
    return value


def _instance(found: type[plugin_api.StagePlugin], spec: Plugin) -> plugin_api.StagePlugin:
    """Return the plugin with its parameters, checked by its own model or schema."""
    import jsonschema  # only jobs with a plugin wait for it

    model, given = found.parameters_model, dict(spec.parameters)
    parameters: Any = given
    try:
        if model is None:
            if given:
                _refuse(f"{found.__name__} has no parameters; there are {', '.join(given)}")
        elif isinstance(model, Mapping):
            jsonschema.Draft202012Validator(dict(model)).validate(given)
        else:
            parameters = model.model_validate(given)
    except pydantic.ValidationError as exc:
        first = exc.errors()[0]
        path = ".".join(map(str, first["loc"]))
        _refuse(f"parameters.{path}: {first['msg']}" if path else f"parameters: {first['msg']}")
    except jsonschema.ValidationError as exc:
        _refuse(f"parameters{exc.json_path[1:]}: {exc.message:.300}")
    plugin: plugin_api.StagePlugin = _guarded(lambda: found(parameters), found.__name__)
    return plugin


def _prompts(
    spec: Plugin, plugin: plugin_api.StagePlugin, context: CompileContext
) -> dict[str, PromptTemplate]:
    users = {k: v for k, v in plugin.prompts.items() if not k.endswith("_system")}
    systems = {name: plugin.prompts.get(f"{name}_system") for name in users}
    for replaced in spec.prompts:
        if replaced.name not in users:
            _refuse(f"prompts: no prompt {replaced.name!r}; there are {', '.join(users) or 'none'}")
        if replaced.user is not None:
            users[replaced.name] = context.read(replaced.user)
        if replaced.system is not None:
            systems[replaced.name] = context.read(replaced.system)
    return {name: PromptTemplate.compile(user, systems[name]) for name, user in users.items()}


def _guarded(load: Callable[[], Any], where: str) -> Any:
    """Return what `load` returns; what it raises is the user's to repair."""
    try:
        return load()
    except (errors.ConfigurationError, jinja2.TemplateSyntaxError):
        raise
    except (Exception, SystemExit) as exc:  # somebody else's code
        raise errors.ConfigurationError(
            Reason.INVALID_SPEC, f"plugin: {where}: {type(exc).__name__}: {exc}"
        ) from exc


def _refuse(message: str) -> NoReturn:
    raise errors.ConfigurationError(Reason.INVALID_SPEC, f"plugin: {message}")
