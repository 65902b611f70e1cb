"""Define what may be asked of the server: one model per operation, from which its schemas are made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

from search.options import Input, inputs
from search.sweeps import ARGUMENTS, WORDS

#: Text of a scenario, a name, and a change. Chosen: far above what people write.
MOST_TEXT, MOST_NAME, MOST_CHANGE, MOST_VALUES, MOST_ITEMS = 200_000, 200, 500, 200, 50

Name = Annotated[str, StringConstraints(min_length=1, max_length=MOST_NAME)]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Change = Annotated[str, StringConstraints(min_length=1, max_length=MOST_CHANGE)]
Number = Annotated[float, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, StringConstraints(max_length=MOST_NAME)]
Numbers = Number | Annotated[list[Number], Field(min_length=1, max_length=MOST_VALUES)]
Names = Name | Annotated[list[Name], Field(min_length=1, max_length=MOST_VALUES)]
#: A row of a plan: column -> value.
Row = dict[str, str | float | int | bool | None]


class Body(BaseModel):
    """What all requests have in common: no field that is not known, and no number that is not finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class WithHardware(Body):
    """A request that may bring hardware of its own."""

    hardware_files: Annotated[
        dict[FileName, str],
        Field(description="Your own devices, nodes and prices: file name -> content of the TOML file."),
    ] = {}


class Estimate(WithHardware):
    """Estimate one deployment, or every combination of lists of devices, degrees, formats and loads."""

    model: Annotated[
        Name | dict[str, Any], Field(description="Hugging Face name of a model, or the content of its config.json.")
    ]
    device: Annotated[Names, Field(description="Device, as the operation hardware lists them, or a list.")]
    nodes: Annotated[
        Names | None, Field(description="Nodes that hold the devices: whole nodes are paid, and hosts draw power.")
    ] = None
    engine: Annotated[Names, Field(description="Serving engine: vllm, sglang, trtllm, ...")] = "vllm"
    slo: Annotated[
        dict[Name, Number], Field(description='Bounds in ms, such as {"ttft_ms_p95": 500}; slo_chance is their chance.')
    ] = {}
    usd_per_hour: Annotated[dict[Name, Number], Field(description="Your price of a device: name -> USD per hour.")] = {}
    allow_long_context: Annotated[bool, Field(description="Allow requests beyond the model's context.")] = False
    explain: Annotated[
        int | None, Field(ge=0, description="Also return the operators of the row of this number, from 0.")
    ] = None


class Deployment(WithHardware):
    """Estimate one deployment with every input of the command line: pools, adapters, offload, drafts, prices, site."""

    model: Annotated[
        Name | dict[str, Any], Field(description="Hugging Face name of a model, or the content of its config.json.")
    ]
    device: Annotated[Name, Field(description="Device, as the operation hardware lists them.")]
    explain: Annotated[bool, Field(description="Also return the operators, with their time and share.")] = False
    files: Annotated[
        dict[FileName, str], Field(description="Files that fields name, such as a histogram: name -> content.")
    ] = {}


def _several(name: str) -> Any:
    """Return the type of an argument of a sweep: one value or a list, None for its default."""
    return (Names if name in WORDS else Numbers) | None


def _single(one: Input) -> Any:
    """Return the type of an input of a deployment; None where it may be left out."""
    plain = {bool: Flag, int: Whole, float: Number, str: Text, Path: FileName}[one.kind]
    kind = Annotated[list[plain], Field(max_length=MOST_ITEMS)] if one.several else plain  # type: ignore[valid-type]
    return kind | None if one.default is None else kind


def _meaning(one: Input) -> str:
    """Return what an input means, as a field of a request: without the flags and the files of a command line."""
    told = one.meaning.replace(", or a TOML file", "").replace("`hw list`", "the operation hardware")
    return re.sub(r"--([a-z][a-z-]*)", lambda flag: flag[1].replace("-", "_"), told)


def _with_fields(body: type[Body], kinds: Mapping[str, tuple[Any, Any]]) -> type[Body]:
    """Return a body with further fields, those of options that the command line has too.

    kinds: name -> (type, default) of each. What a field means is what the help says of its option.
    """
    meaning = {one.name: _meaning(one) for one in inputs()}
    fields: dict[str, Any] = {
        name: (Annotated[kind, Field(description=meaning[name])], default) for name, (kind, default) in kinds.items()
    }
    return create_model(body.__name__, __base__=body, __doc__=body.__doc__, **fields)


#: The bodies of the operations estimate and deployment: their fields are the arguments of a sweep, and the inputs of a
#: deployment.
EstimateBody = _with_fields(Estimate, {name: (_several(name), None) for name in ARGUMENTS if name != "device"})
DeploymentBody = _with_fields(
    Deployment, {one.name: (_single(one), one.default) for one in inputs() if one.name not in ("model", "device")}
)


class ScenarioBody(WithHardware):
    """A request about a scenario."""

    scenario: Annotated[
        Annotated[str, StringConstraints(min_length=1, max_length=MOST_TEXT)] | dict[str, Any],
        Field(
            description="The scenario: text of a TOML file, or an object with the same tables (model, workload, ...)."
        ),
    ]
    files: Annotated[
        dict[FileName, str],
        Field(description="Files that the scenario names, such as a trace or a config.json: name -> content."),
    ] = {}


class PlanBody(ScenarioBody):
    """Rank the configurations that serve a scenario within its SLOs."""

    top: Annotated[int, Field(ge=1, le=500, description="Candidates that qualify.")] = 10
    misses: Annotated[int, Field(ge=0, le=100, description="Candidates that do not qualify, nearest first.")] = 3
    explain: Annotated[bool, Field(description="Also return the operators of the best candidate.")] = False


class WhatIf(ScenarioBody):
    """Plan a scenario with something different, and say what that changes."""

    set: Annotated[
        list[Change],
        Field(
            max_length=50, description="Changes that hold together: slo.ttft_ms_p95=300, device.h100-sxm.power.tdp*=2"
        ),
    ] = []
    grid: Annotated[
        list[Change], Field(max_length=2, description="KEY=LOW:HIGH:COUNT or KEY=A,B,C: a plan for each value.")
    ] = []


class Compare(Body):
    """Compare the best candidates of two plans."""

    before: Annotated[list[Row], Field(min_length=1, max_length=500, description="Rows of a plan.")]
    after: Annotated[list[Row], Field(min_length=1, max_length=500, description="Rows of the other plan.")]


class Fleet(ScenarioBody):
    """Find the least-cost mix of hardware for classes of requests over the day."""

    alternatives: Annotated[bool, Field(description="Also return the next best fleets, and why they are not it.")] = (
        False
    )


class Report(ScenarioBody):
    """Make the report of a plan or a fleet: one offline page, or the same content in another form."""

    form: Annotated[Literal["html", "md", "json", "csv"], Field(description="Form of the report.")] = "html"


class Models(Body):
    """List models of the catalogue, or show one."""

    like: Annotated[str, Field(max_length=MOST_NAME, description="Only names that contain this text.")] = ""
    name: Annotated[str, Field(max_length=MOST_NAME, description="One model, by its Hugging Face name.")] = ""
    limit: Annotated[int, Field(ge=1, le=1000, description="Most rows.")] = 100


class Hardware(Body):
    """List devices, or show every figure of one with its source."""

    kind: Annotated[str, Field(max_length=MOST_NAME, description="Only devices of this kind: gpu, cpu, tpu, ...")] = ""
    vendor: Annotated[str, Field(max_length=MOST_NAME, description="Only devices of this vendor.")] = ""
    name: Annotated[str, Field(max_length=MOST_NAME, description="One device: its figures and their sources.")] = ""
    limit: Annotated[int, Field(ge=1, le=1000, description="Most rows.")] = 200
