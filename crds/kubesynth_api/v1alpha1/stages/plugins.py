"""The stage of the user's own: a class in Python."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from kubesynth_api._base import ApiModel, CelRule, ColumnName, JsonObject, exactly_one_of
from kubesynth_api.meta import KeySelector
from kubesynth_api.v1alpha1.stages.base import LlmStage, Prompts

PluginName = Annotated[
    str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$")
]
ClassName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class PluginFile(ApiModel):
    """A Python file."""

    config_map_key_ref: KeySelector = Field(description="ConfigMap and key that hold the file.")
    class_name: ClassName | None = Field(
        default=None, description="The class; needed where the file has several stages."
    )


class PluginPrompts(Prompts):
    """Prompts that replace those of a plugin."""

    name: ClassName = Field(description="Name of the prompt in the plugin.")


class Plugin(LlmStage):
    """A class of the user's own, from a package in the image or from a file."""

    cel: ClassVar[tuple[CelRule, ...]] = (exactly_one_of("entryPoint", "file"),)

    entry_point: PluginName | None = Field(
        default=None,
        description="Name of an entry point in the group kubesynth.stages of an installed package.",
    )
    file: PluginFile | None = Field(
        default=None,
        description="A Python file. The operator must allow it: jobs.pluginFiles in the chart.",
    )
    parameters: JsonObject = Field(
        default_factory=dict, description="Parameters, checked by the plugin before a call is made."
    )
    input_columns: Annotated[tuple[ColumnName, ...], Field(max_length=64)] = Field(
        default=(), description="Columns that the plugin needs; checked before a pod starts."
    )
    output_columns: Annotated[tuple[ColumnName, ...], Field(max_length=64)] = Field(
        default=(),
        description=(
            "Columns that the plugin adds, so that later stages may use them. They must be the "
            "plugin's own."
        ),
    )
    prompts: Annotated[tuple[PluginPrompts, ...], Field(max_length=16)] = Field(
        default=(), description="Prompts that replace the plugin's, by name."
    )

    def needs(self) -> dict[str, str]:
        """Return the declared columns."""
        return {f"inputColumns[{i}]": name for i, name in enumerate(self.input_columns)}

    def adds(self) -> dict[str, str]:
        """Return the declared columns."""
        return {f"outputColumns[{i}]": name for i, name in enumerate(self.output_columns)}
