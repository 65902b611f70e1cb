"""Read compose files and manifests of Kubernetes, KServe, Dynamo, llm-d and Ray Serve: each container is a command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hwdb import InputError
from search.deploy.recognised import engine_of_image
from search.deploy.shell import Given, commands
from search.deploy.templates import device_of_product, resources

#: Labels and annotations of an exported manifest begin with this.
PREFIX = "perfmodel/"
#: How the programs of containers are found where only arguments are given.
_PROGRAM = {
    "vllm": ["vllm", "serve"],
    "sglang": ["python3", "-m", "sglang.launch_server"],
    "trtllm": ["trtllm-serve"],
    "llamacpp": ["llama-server"],
}


def documents_of(text: str) -> list[Mapping[str, Any]]:
    """Return the documents of YAML or JSON text that are mappings; empty for a text that is a command or a script."""
    import yaml

    if "\n" not in text.strip() and not text.lstrip().startswith("{"):
        return []
    if text.startswith("#!"):
        return []
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        found = [d for d in yaml.load_all(text, Loader=loader) if d is not None]
    except (yaml.YAMLError, RecursionError) as error:
        if any(f"\n{key}:" in f"\n{text}" for key in ("apiVersion", "services", "kind")):
            raise InputError(f"--from: not YAML: {str(error).splitlines()[0]}") from None
        return []
    return [
        d
        for d in found
        if isinstance(d, Mapping) and any(k in d for k in ("kind", "services", "applications", "BackendConfig"))
    ]


def givens(documents: Sequence[Mapping[str, Any]]) -> list[Given]:
    """Return the commands of all containers in the documents."""
    files = _config_maps(documents)
    found: list[Given] = []
    for document in documents:
        if "services" in document and "kind" not in document:
            found += _compose(document)
        elif "BackendConfig" in document:
            found.append(Given(("mindieservice_daemon",), files={"config.json": json.dumps(document)}))
        elif "applications" in document:
            found += _ray(document)
        else:
            found += _manifest(document, files)
    return found


def _config_maps(documents: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return file name -> text of all ConfigMaps; names are unique within one export."""
    maps = [d for d in documents if d.get("kind") == "ConfigMap"]
    return {str(name): str(text) for d in maps for name, text in _map(d.get("data")).items()}


def _map(value: Any) -> Mapping[str, Any]:
    """Return a mapping; an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    """Return a list; an empty one for anything else."""
    return value if isinstance(value, list) else []


def _manifest(document: Mapping[str, Any], files: Mapping[str, str]) -> Iterator[Given]:
    """Yield the commands of a manifest that starts containers."""
    spec, kind = _map(document.get("spec")), document.get("kind")
    meta = _map(document.get("metadata"))
    if kind == "DynamoGraphDeployment":
        yield from _dynamo(spec, meta)
    elif kind == "LLMInferenceService":
        yield from _kserve(spec, meta)
    elif kind == "RayService":
        import yaml

        served = spec.get("serveConfigV2")
        yield from _ray(_map(yaml.safe_load(served)) if isinstance(served, str) else {})
    elif kind == "InferenceService":
        yield from _pod(_map(spec.get("predictor")), _map(spec.get("predictor")).get("minReplicas", 1), meta, files)
    elif kind == "LeaderWorkerSet":
        template = _map(_map(spec.get("leaderWorkerTemplate")).get("leaderTemplate"))
        yield from _pod(
            _map(template.get("spec")), spec.get("replicas", 1), meta, files, _map(template.get("metadata"))
        )
    elif kind == "Pod":
        yield from _pod(spec, 1, meta, files)
    elif "template" in spec:
        template = _map(spec.get("template"))
        yield from _pod(
            _map(template.get("spec")), spec.get("replicas", 1), meta, files, _map(template.get("metadata"))
        )


def _marks(*metas: Mapping[str, Any]) -> dict[str, str]:
    """Return what the labels and annotations of an export say."""
    found: dict[str, str] = {}
    for meta in metas:
        for part in ("labels", "annotations"):
            held = _map(meta.get(part))
            found |= {str(k)[len(PREFIX) :]: str(v) for k, v in held.items() if str(k).startswith(PREFIX)}
            role = str(held.get("llm-d.ai/role", ""))
            found |= {"pool": role} if role in ("prefill", "decode") else {}
    return found


def _pod(
    spec: Mapping[str, Any], replicas: Any, meta: Mapping[str, Any], files: Mapping[str, str], *more: Mapping[str, Any]
) -> Iterator[Given]:
    """Yield the commands of the containers of a pod."""
    marks = _marks(meta, *more)
    product = str(_map(spec.get("nodeSelector")).get("nvidia.com/gpu.product", ""))
    marks = {"device": device_of_product(product), **marks} if product else marks
    marks["replicas"] = str(replicas) if isinstance(replicas, int) else "1"
    for container in _list(spec.get("containers")):
        if isinstance(container, Mapping):
            yield _container(container, marks, files)


def _container(container: Mapping[str, Any], marks: Mapping[str, str], files: Mapping[str, str]) -> Given:
    """Return the command of one container."""
    words = [str(w) for key in ("command", "args") for w in _list(container.get(key))]
    env = {str(e.get("name")): str(e.get("value", "")) for e in _list(container.get("env")) if isinstance(e, Mapping)}
    engine, version = engine_of_image(str(container.get("image", "")))
    words = words if _list(container.get("command")) else _with_program(engine, words)
    limits = _map(_map(container.get("resources")).get("limits")) or _map(
        _map(container.get("resources")).get("requests")
    )
    held = next((str(limits[r]) for r in resources() if r in limits), "")
    more = {**({"version": version} if version else {}), **({"devices": held} if held else {})}
    return Given(tuple(words), env, files, {**more, **marks})


def _with_program(engine: str, words: list[str]) -> list[str]:
    """Return the words of a container that states no program: where they are flags, its image runs the engine's."""
    return [*_PROGRAM[engine], *words] if engine and words[:1] and words[0].startswith("-") else words


def _compose(document: Mapping[str, Any]) -> Iterator[Given]:
    """Yield the commands of the services of a compose file."""
    held = _map(document.get("configs"))
    texts = {str(k): str(_map(v).get("content", "")) for k, v in held.items()}
    for service in _map(document.get("services")).values():
        service = _map(service)
        files = {
            str(c.get("target", c.get("source"))).rsplit("/", 1)[-1]: texts.get(str(c.get("source")), "")
            for c in _list(service.get("configs"))
            if isinstance(c, Mapping)
        }
        words: list[str] = []
        for key in ("entrypoint", "command"):
            value = service.get(key)
            words += (
                shlex.split(value.replace("\\\n", " ")) if isinstance(value, str) else [str(w) for w in _list(value)]
            )
        deploy = _map(service.get("deploy"))
        held_devices = _list(_map(_map(_map(deploy.get("resources")).get("reservations"))).get("devices"))
        count = next((_reserved(d) for d in held_devices if isinstance(d, Mapping)), "")
        marks = {k[len(PREFIX) :]: str(v) for k, v in _pairs(service.get("labels")).items() if k.startswith(PREFIX)}
        marks["replicas"] = str(deploy.get("replicas", 1))
        engine, version = engine_of_image(str(service.get("image", "")))
        words = words if "entrypoint" in service else _with_program(engine, words)
        marks = {
            **({"version": version} if version else {}),
            **({"devices": count} if count.isdigit() else {}),
            **marks,
        }
        yield Given(tuple(words), _pairs(service.get("environment")), files, marks)


def _reserved(device: Mapping[str, Any]) -> str:
    """Return how many devices a reservation of a compose file holds; "" where it does not say."""
    names = _list(device.get("device_ids"))
    return str(len(names)) if names else str(device.get("count", ""))


def _pairs(value: Any) -> dict[str, str]:
    """Return NAME=VALUE texts or a mapping as a mapping."""
    if isinstance(value, Mapping):
        return {str(k): str(v) for k, v in value.items()}
    parts = [str(text).partition("=") for text in _list(value)]
    return {name: text for name, _, text in parts}


def _dynamo(spec: Mapping[str, Any], meta: Mapping[str, Any]) -> Iterator[Given]:
    """Yield the commands of the workers of a Dynamo graph, in its present form and the former one."""
    for part in _list(spec.get("components")):
        part = _map(part)
        template = _map(part.get("podTemplate"))
        nodes = _map(part.get("multinode")).get("nodeCount", 1)
        for one in _pod(_map(template.get("spec")), part.get("replicas", 1), meta, {}, _map(template.get("metadata"))):
            yield _on_nodes(one, nodes)
    for part in _map(spec.get("services")).values():
        part = _map(part)
        pod = _map(part.get("extraPodSpec"))
        container = {**_map(pod.get("mainContainer"))}
        limits = _map(_map(part.get("resources")).get("limits"))
        if "gpu" in limits:
            container["resources"] = {"limits": {"nvidia.com/gpu": limits["gpu"]}}
        yield from _pod({**pod, "containers": [container]}, part.get("replicas", 1), meta, {})


def _on_nodes(given: Given, nodes: Any) -> Given:
    """Return a command whose replica has the devices of several nodes."""
    held = given.marks.get("devices", "")
    if not held.isdigit() or not isinstance(nodes, int):
        return given
    return replace(given, marks={**given.marks, "devices": str(int(held) * nodes)})


def _kserve(spec: Mapping[str, Any], meta: Mapping[str, Any]) -> Iterator[Given]:
    """Yield the commands of the workloads of an LLMInferenceService."""
    model = _map(spec.get("model"))
    name = str(model.get("uri", "")).removeprefix("hf://")
    parts = [(spec, "decode" if "prefill" in spec else "serve")]
    parts += [(_map(spec.get("prefill")), "prefill")] if "prefill" in spec else []
    for part, role in parts:
        ways = _map(part.get("parallelism"))
        words = ["vllm", "serve", name, "--served-model-name", str(model.get("name", name))]
        for key, flag in (
            ("tensor", "--tensor-parallel-size"),
            ("pipeline", "--pipeline-parallel-size"),
            ("data", "--data-parallel-size"),
        ):
            words += [flag, str(ways[key])] if key in ways else []
        words += ["--enable-expert-parallel"] if ways.get("expert") else []
        for one in _pod(_map(part.get("template")), part.get("replicas", 1), meta, {}, part):
            more = commands(f"args {one.env.get('VLLM_ADDITIONAL_ARGS', '')}")
            words += more[0].words[1:] if more else ()
            yield Given(
                (*words, *[w for w in one.words if w.startswith("-")]), one.env, {}, {**one.marks, "pool": role}
            )
            break


def _ray(document: Mapping[str, Any]) -> Iterator[Given]:
    """Yield the commands that the model configurations of a Ray Serve application stand for."""
    for application in _list(document.get("applications")):
        for config in _list(_map(_map(application).get("args")).get("llm_configs")) or _pd(application):
            config = _map(config)
            loading = _map(config.get("model_loading_config"))
            scaling = _map(_map(config.get("deployment_config")).get("autoscaling_config"))
            words = ["vllm", "serve", str(loading.get("model_source", loading.get("model_id", "")))]
            words += ["--served-model-name", str(loading.get("model_id", ""))]
            words += engine_words(_map(config.get("engine_kwargs")))
            env = _pairs(_map(config.get("runtime_env")).get("env_vars"))
            marks = {k[10:].lower(): v for k, v in env.items() if k.startswith("PERFMODEL_")}
            count = _map(config.get("deployment_config")).get(
                "num_replicas", scaling.get("initial_replicas", scaling.get("min_replicas", 1))
            )
            yield Given(
                tuple(words),
                {k: v for k, v in env.items() if not k.startswith("PERFMODEL_")},
                {},
                {**marks, "replicas": str(count)},
            )


def _pd(application: Any) -> list[Any]:
    """Return the configurations of an application with a prefill and a decode deployment."""
    args = _map(_map(application).get("args"))
    return [args[key] for key in ("prefill_config", "decode_config") if key in args]


def engine_words(arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield the flags that keyword arguments of an engine stand for."""
    for name, value in arguments.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            yield flag if value else f"--no-{flag[2:]}"
        else:
            yield flag
            yield json.dumps(value) if isinstance(value, dict | list) else str(value)
