"""Read compose files and manifests of Kubernetes, KServe, Dynamo, llm-d and Ray Serve: each container is a command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hwdb import InputError
from search.deploy.engine_settings.templates import device_of_product, resources
from search.deploy.reading_back.charts import given_of_flags, given_of_recipe, given_of_values, kserve_model
from search.deploy.reading_back.loose import as_list, as_map, variables_of
from search.deploy.reading_back.recognised import engine_of_image
from search.deploy.reading_back.shell import Given, commands, filled, in_brackets, stated

#: Node labels that name a device.
LABELS = ("nvidia.com/gpu.product", "cloud.google.com/gke-accelerator")
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
            way_out = "; render its template first, as with `helm template`" if "{{" in text else ""
            raise InputError(f"--from: not YAML: {_where(error)}{way_out}") from None
        return []
    whole = [
        one for d in found for one in (as_list(as_map(d).get("items")) if as_map(d).get("kind") == "List" else [d])
    ]
    return [d for d in whole if isinstance(d, Mapping) and (any(k in d for k in KEYS) or given_of_flags(d))]


#: A mapping with one of these keys is a document that may start an engine.
KEYS = (
    "kind",
    "services",
    "applications",
    "BackendConfig",
    "servingEngineSpec",
    "modelArtifacts",
    "model_loading_config",
    "backend",
)


def _where(error: Exception) -> str:
    """Return what is wrong in a text that is no YAML, and in which line."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return f"{problem}, line {mark.line + 1}" if mark and problem else str(error).splitlines()[0]


def repeated(text: str) -> list[str]:
    """Return sentences for keys that a mapping of YAML has twice: parsers keep the last one and say nothing."""
    import yaml

    found: list[str] = []
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    waiting = list(yaml.compose_all(text, Loader=loader))
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            names = [str(key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            twice = {name for name in names if names.count(name) > 1 and name != "<<"}
            found += [f"{name}: is given twice, line {node.start_mark.line + 1}; the last one counts" for name in twice]
            waiting += [value for _, value in node.value]
    return found


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
        elif "model_loading_config" in document:
            found += _ray({"applications": [{"args": {"llm_configs": [document]}}]})
        elif "servingEngineSpec" in document or "modelArtifacts" in document:
            found += given_of_values(document)
        elif "backend" in document and "kind" not in document:
            found += [_known_image(one) for one in given_of_recipe(document)]
        elif "kind" not in document:
            found += [given_of_flags(document) or Given(())]
        else:
            found += _manifest(document, files)
    return found


def _known_image(given: Given) -> Given:
    """Return the command of a recipe with the release that its image has, and its device."""
    marks = dict(given.marks)
    _, version = engine_of_image(marks.pop("image"))
    device = device_of_product(marks.pop("gpu_type").upper())
    return replace(given, marks={**marks, **stated(version=version, device=device)})


def _config_maps(documents: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return file name -> text of all ConfigMaps; names are unique within one export."""
    maps = [d for d in documents if d.get("kind") == "ConfigMap"]
    return {str(name): str(text) for d in maps for name, text in as_map(d.get("data")).items()}


def _manifest(document: Mapping[str, Any], files: Mapping[str, str]) -> Iterator[Given]:
    """Yield the commands of a manifest that starts containers."""
    spec, kind = as_map(document.get("spec")), document.get("kind")
    meta = as_map(document.get("metadata"))
    if kind == "DynamoGraphDeployment":
        yield from _dynamo(spec, meta, files)
    elif kind == "LLMInferenceService":
        yield from _kserve(spec, meta)
    elif kind == "RayService":
        yield from _ray(as_map(_inner(spec.get("serveConfigV2"))))
    elif kind == "InferenceService":
        predictor = as_map(spec.get("predictor"))
        yield from _pod({**predictor, "containers": _served(predictor)}, predictor.get("minReplicas", 1), meta, files)
    elif kind == "LeaderWorkerSet":
        group = as_map(spec.get("leaderWorkerTemplate"))
        template = as_map(group.get("leaderTemplate")) or as_map(group.get("workerTemplate"))
        pods = _pod(
            as_map(template.get("spec")), spec.get("replicas", 1), meta, files, as_map(template.get("metadata"))
        )
        for one in pods:
            yield _on_nodes(one, group.get("size", 1))
    elif kind == "Pod":
        yield from _pod(spec, 1, meta, files)
    elif "template" in spec:
        template = as_map(spec.get("template"))
        yield from _pod(
            as_map(template.get("spec")), spec.get("replicas", 1), meta, files, as_map(template.get("metadata"))
        )


def _inner(text: Any) -> Any:
    """Return the content of a text of YAML within a document; None for anything else."""
    import yaml

    try:
        return yaml.safe_load(text) if isinstance(text, str) else None
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"--from: serveConfigV2 is not YAML: {_where(error)}") from None


def _served(predictor: Mapping[str, Any]) -> list[Any]:
    """Return the containers of an InferenceService, also of one that names a model in place of them."""
    model = as_map(predictor.get("model"))
    words = kserve_model(model)
    return [{**model, "image": "", "command": words, "args": []}] if words else as_list(predictor.get("containers"))


def _marks(*metas: Mapping[str, Any]) -> dict[str, str]:
    """Return what the labels and annotations of an export say."""
    found: dict[str, str] = {}
    for meta in metas:
        for part in ("labels", "annotations"):
            held = as_map(meta.get(part))
            found |= {str(k)[len(PREFIX) :]: str(v) for k, v in held.items() if str(k).startswith(PREFIX)}
            role = str(held.get("llm-d.ai/role", ""))
            found |= {"pool": role} if role in ("prefill", "decode") else {}
    return found


def _pod(
    spec: Mapping[str, Any], replicas: Any, meta: Mapping[str, Any], files: Mapping[str, str], *more: Mapping[str, Any]
) -> Iterator[Given]:
    """Yield the commands of the containers of a pod."""
    marks = _marks(meta, *more)
    chosen = as_map(spec.get("nodeSelector"))
    product = str(next((chosen[label] for label in LABELS if label in chosen), ""))
    marks = {"device": device_of_product(product), **marks} if product else marks
    marks["replicas"] = str(replicas) if isinstance(replicas, int) else "1"
    for container in as_list(spec.get("containers")):
        if isinstance(container, Mapping):
            yield _container(container, marks, files)


def _container(container: Mapping[str, Any], marks: Mapping[str, str], files: Mapping[str, str]) -> Given:
    """Return the command of one container."""
    env = variables_of(container)
    words = [w for key in ("command", "args") for w in _command_words(container.get(key), env)]
    engine, version = engine_of_image(str(container.get("image", "")))
    words = words if container.get("command") else _with_program(engine, words, env)
    limits = as_map(as_map(container.get("resources")).get("limits")) or as_map(
        as_map(container.get("resources")).get("requests")
    )
    held = next((str(limits[r]) for r in resources() if r in limits), "")
    return Given(tuple(words), env, files, {**stated(version=version, devices=held), **marks})


def _command_words(value: Any, env: Mapping[str, str]) -> list[str]:
    """Return a command given as a list or as one text, with known variables of the environment put in."""
    if isinstance(value, str):
        try:
            value = shlex.split(value.replace("\\\n", " "), comments=True)
        except ValueError:
            raise InputError(f"--from: a quote is not closed in {value[:60]!r}; close it") from None
    words = [str(w) for w in as_list(value)]
    return [in_brackets(w, env) if "\n" in w or _is_script(w) else filled(w, env) for w in words]


def _is_script(word: str) -> bool:
    """Return whether a word is the text of a shell: its variables are the shell's to fill in."""
    return " " in word.strip() and not word.lstrip().startswith(("{", "[", "-", "$"))


def _with_program(engine: str, words: list[str], env: Mapping[str, str]) -> list[str]:
    """Return the words of a container that states no program: where they are flags, its image runs the engine's."""
    flags = words[:1] and words[0].startswith(("-", "$"))
    named = any(name in env for name in ("LLAMA_ARG_MODEL", "LLAMA_ARG_HF_REPO"))
    return [*_PROGRAM[engine], *words] if engine and (flags or (named and not words)) else words


def _compose(document: Mapping[str, Any]) -> Iterator[Given]:
    """Yield the commands of the services of a compose file."""
    held = as_map(document.get("configs"))
    texts = {str(k): str(as_map(v).get("content", "")) for k, v in held.items()}
    for service in as_map(document.get("services")).values():
        service = as_map(service)
        files = {
            str(c.get("target", c.get("source"))).rsplit("/", 1)[-1]: texts.get(str(c.get("source")), "")
            for c in as_list(service.get("configs"))
            if isinstance(c, Mapping)
        }
        env = _pairs(service.get("environment"))
        words = [
            w.replace("$$", "$") for key in ("entrypoint", "command") for w in _command_words(service.get(key), env)
        ]
        deploy = as_map(service.get("deploy"))
        held_devices = as_list(as_map(as_map(as_map(deploy.get("resources")).get("reservations"))).get("devices"))
        gpus = service.get("gpus")
        held_devices = [{"count": gpus}] if isinstance(gpus, int) else [*held_devices, *as_list(gpus)]
        count = next((_reserved(d) for d in held_devices if isinstance(d, Mapping)), "")
        marks = {k[len(PREFIX) :]: str(v) for k, v in _pairs(service.get("labels")).items() if k.startswith(PREFIX)}
        marks["replicas"] = str(deploy.get("replicas", 1))
        engine, version = engine_of_image(str(service.get("image", "")))
        words = words if "entrypoint" in service else _with_program(engine, words, env)
        marks = {**stated(version=version, devices=count if count.isdigit() else ""), **marks}
        yield Given(tuple(words), env, files, marks)


def _reserved(device: Mapping[str, Any]) -> str:
    """Return how many devices a reservation of a compose file holds; "" where it does not say."""
    names = as_list(device.get("device_ids"))
    return str(len(names)) if names else str(device.get("count", ""))


def _pairs(value: Any) -> dict[str, str]:
    """Return NAME=VALUE texts or a mapping as a mapping."""
    if isinstance(value, Mapping):
        return {str(k): str(v) for k, v in value.items()}
    parts = [str(text).partition("=") for text in as_list(value)]
    return {name: text for name, _, text in parts}


def _dynamo(spec: Mapping[str, Any], meta: Mapping[str, Any], files: Mapping[str, str]) -> Iterator[Given]:
    """Yield the commands of the workers of a Dynamo graph, in its present form and the former one."""
    for part in as_list(spec.get("components")):
        part = as_map(part)
        template = as_map(part.get("podTemplate"))
        nodes = as_map(part.get("multinode")).get("nodeCount", 1)
        for one in _pod(
            as_map(template.get("spec")), part.get("replicas", 1), meta, files, as_map(template.get("metadata"))
        ):
            yield _on_nodes(one, nodes)
    for part in as_map(spec.get("services")).values():
        part = as_map(part)
        pod = as_map(part.get("extraPodSpec"))
        container = {**as_map(pod.get("mainContainer"))}
        limits = as_map(as_map(part.get("resources")).get("limits"))
        if "gpu" in limits:
            container["resources"] = {"limits": {"nvidia.com/gpu": limits["gpu"]}}
        role = {"prefill": "prefill", "decode": "decode"}.get(str(part.get("subComponentType")), "")
        labels = {"labels": {f"{PREFIX}pool": role}} if role else {}
        for one in _pod({**pod, "containers": [container]}, part.get("replicas", 1), meta, files, labels):
            yield _on_nodes(one, as_map(part.get("multinode")).get("nodeCount", 1))


def _on_nodes(given: Given, nodes: Any) -> Given:
    """Return a command whose replica has the devices of several nodes."""
    held = given.marks.get("devices", "")
    if not held.isdigit() or not isinstance(nodes, int):
        return given
    return replace(given, marks={**given.marks, "devices": str(int(held) * nodes)})


def _kserve(spec: Mapping[str, Any], meta: Mapping[str, Any]) -> Iterator[Given]:
    """Yield the commands of the workloads of an LLMInferenceService."""
    model = as_map(spec.get("model"))
    name = str(model.get("uri", "")).removeprefix("hf://")
    parts = [(spec, "decode" if "prefill" in spec else "serve")]
    parts += [(as_map(spec.get("prefill")), "prefill")] if "prefill" in spec else []
    for part, role in parts:
        ways = as_map(part.get("parallelism"))
        words = ["vllm", "serve", name, "--served-model-name", str(model.get("name", name))]
        for key, flag in (
            ("tensor", "--tensor-parallel-size"),
            ("pipeline", "--pipeline-parallel-size"),
            ("data", "--data-parallel-size"),
        ):
            words += [flag, str(ways[key])] if key in ways else []
        words += ["--enable-expert-parallel"] if ways.get("expert") else []
        replicas = part.get("replicas", as_map(part.get("scaling")).get("minReplicas", 1))
        for one in _pod(as_map(part.get("template")), replicas, meta, {}, part):
            whole, local = ways.get("data"), ways.get("dataLocal")
            nodes = whole // local if isinstance(whole, int) and isinstance(local, int) and local else 1
            one = _on_nodes(one, nodes if nodes > 1 or "worker" not in part else ways.get("pipeline", 1))
            more = commands(f"args {one.env.get('VLLM_ADDITIONAL_ARGS', '')}")
            words += more[0].words[1:] if more else ()
            yield Given(
                (*words, *[w for w in one.words if w.startswith("-")]), one.env, {}, {**one.marks, "pool": role}
            )
            break


def _ray(document: Mapping[str, Any]) -> Iterator[Given]:
    """Yield the commands that the model configurations of a Ray Serve application stand for."""
    for application in as_list(document.get("applications")):
        for config in as_list(as_map(as_map(application).get("args")).get("llm_configs")) or _pd(application):
            if isinstance(config, str):
                raise InputError(f"--from: llm_configs names the file {config}; give that file, or put its text there")
            config = as_map(config)
            loading = as_map(config.get("model_loading_config"))
            scaling = as_map(as_map(config.get("deployment_config")).get("autoscaling_config"))
            words = ["vllm", "serve", str(loading.get("model_source", loading.get("model_id", "")))]
            words += ["--served-model-name", str(loading.get("model_id", ""))]
            words += engine_words(as_map(config.get("engine_kwargs")))
            kind = device_of_product(str(config.get("accelerator_type", "")))
            env = _pairs(as_map(config.get("runtime_env")).get("env_vars"))
            marks = {k[10:].lower(): v for k, v in env.items() if k.startswith("PERFMODEL_")}
            count = as_map(config.get("deployment_config")).get(
                "num_replicas", scaling.get("initial_replicas", scaling.get("min_replicas", 1))
            )
            yield Given(
                tuple(words),
                {k: v for k, v in env.items() if not k.startswith("PERFMODEL_")},
                {},
                {**stated(device=kind), **marks, "replicas": str(count)},
            )


def _pd(application: Any) -> list[Any]:
    """Return the configurations of an application with a prefill and a decode deployment."""
    args = as_map(as_map(application).get("args"))
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
