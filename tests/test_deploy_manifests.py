"""Manifests are valid by the published schemas (see `deploy_schemas.json`); the examples are what is written."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from benchmarks.deploy_examples import FOLDER, NAMED, written
from benchmarks.deploy_round_trip import random_launch
from search.deploy import CLUSTERS, TARGETS, export, read_back

SCHEMAS = json.loads(Path(__file__).with_name("deploy_schemas.json").read_text())
#: Documents without a kind -> their schema.
WITHOUT_KIND = {"services": "Compose", "applications": "RayServe"}


def checked(document: dict[str, Any]) -> None:
    """Raise where a document does not follow the schema of its kind."""
    kind = document.get("kind") or next(name for key, name in WITHOUT_KIND.items() if key in document)
    schema = {"$ref": f"#/definitions/{kind}", "definitions": SCHEMAS["definitions"]}
    jsonschema.Draft7Validator(schema).validate(document)


@pytest.mark.parametrize("target", CLUSTERS)
def test_random_manifests_follow_the_published_schemas(target: str) -> None:
    rng = random.Random(f"{target} 4")
    for _ in range(5):
        documents = [d for d in yaml.load_all(export(random_launch(rng, target), target).text, yaml.CSafeLoader) if d]
        assert documents
        for document in documents:
            checked(document)


def test_a_key_that_the_schema_lacks_is_caught() -> None:
    text = export(random_launch(random.Random(1), "kubernetes"), "kubernetes").text
    document = next(d for d in yaml.safe_load_all(text) if d["kind"] == "Deployment")
    document["spec"]["template"]["spec"]["containers"][0]["comand"] = ["x"]
    with pytest.raises(jsonschema.ValidationError, match="comand"):
        checked(document)


def test_every_schema_says_where_it_comes_from() -> None:
    assert {
        "Kubernetes",
        "Compose",
        "LeaderWorkerSet",
        "LLMInferenceService",
        "InferencePool",
        "DynamoGraphDeployment",
    } <= set(SCHEMAS["sources"])
    assert all(kind in SCHEMAS["definitions"] for kind in SCHEMAS["sources"] if kind != "Kubernetes")


@pytest.mark.parametrize("name", NAMED)
def test_the_examples_are_what_the_command_writes(name: str) -> None:
    file, text = written(name)
    target, launch = NAMED[name]
    path = FOLDER / file
    assert path.read_text() == text, "make them again with `python -m benchmarks.deploy_examples`"
    read = read_back(path)
    assert (read.unknown, read.conflicts) == ((), ())
    assert read.launch == launch
    if target in CLUSTERS:
        for document in yaml.safe_load_all(text):
            checked(document)


def test_every_target_has_an_example() -> None:
    assert {target for target, _ in NAMED.values()} == set(TARGETS)


@pytest.mark.parametrize(("engine", "connector"), [("vllm", "nixlv2"), ("sglang", "sglang")])
@pytest.mark.parametrize("devices", [4, 16], ids=["one node", "two nodes"])
def test_prompts_reach_the_prefill_pool_of_llm_d_by_the_sidecar_of_decode(
    engine: str, connector: str, devices: int
) -> None:
    """The requests come to the port of the pool: that of the sidecar on decode pods, of the engine on others."""
    found = NAMED["llm-d"][1]
    version = found.version if engine == "vllm" else "0.5.23"
    pools = tuple(replace(pool, tp=devices if pool.role == "decode" else pool.tp) for pool in found.pools)
    launch = replace(found, engine=engine, version=version, pools=pools)
    documents = list(yaml.safe_load_all(export(launch, "llm-d").text))
    wanted = next(d for d in documents if d["kind"] == "InferencePool")["spec"]["targetPorts"][0]["number"]
    pods = {}
    for document in documents[:-1]:
        checked(document)
        spec = document["spec"]
        template = spec.get("template") or spec["leaderWorkerTemplate"]["leaderTemplate"]
        pods[template["metadata"]["labels"]["llm-d.ai/role"]] = template["spec"]
    (sidecar,) = pods["decode"]["initContainers"]
    assert f"--kv-connector={connector}" in sidecar["args"]
    assert f"--port={wanted}" in sidecar["args"]
    assert "initContainers" not in pods["prefill"]
    for role, port in (("prefill", wanted), ("decode", 8200)):
        (engine_,) = pods[role]["containers"]
        assert engine_["ports"][0]["containerPort"] == port
        assert {engine_[p]["httpGet"]["port"] for p in ("startupProbe", "readinessProbe", "livenessProbe")} == {port}
        assert f"--port {port}" in " ".join(engine_["args"])
