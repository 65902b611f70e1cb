"""List the flags that a release of an engine takes, from the sources of its published package.

    python tools/engine_flags.py vllm 0.33.0 2026-11 FOLDER > search/deploy/engine_settings/flags/vllm-0.33.0.txt

FOLDER holds the unpacked package. The sources are read (`ast`, regular expressions), never run. Each line of the
result is `spellings | kind`: switch, int, float, str, list (takes several words) or json. Only names are taken over.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

#: Configurations of vLLM that flags take as JSON, whose keys are listed too.
VLLM_JSON = ("KVTransferConfig", "CompilationConfig", "SpeculativeConfig")


def classes(folder: Path) -> dict[str, dict[str, str]]:
    """Return class -> field -> annotation, for all classes in the Python files of `folder`."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                fields = [n for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
                found.setdefault(node.name, {n.target.id: ast.unparse(n.annotation) for n in fields})
    return found


def kind_of(annotation: str) -> str:
    """Return the kind of a flag whose field has this annotation."""
    if re.search(r"\bbool\b", annotation):
        return "str" if re.search(r"\bstr\b", annotation) else "switch"
    if re.search(r"\b(list|tuple|set|List|Tuple)\b", annotation):
        return "list"
    config = re.search(r"\b\w+Config\b", annotation)
    if config or re.search(r"\b(dict|Dict)\b", annotation):
        return f"json {config[0]}" if config else "json"
    return next((kind for kind in ("int", "float") if re.search(rf"\b{kind}\b", annotation)), "str")


def calls(path: Path) -> Iterator[ast.Call]:
    """Yield every call of `add_argument` in a file, in order."""
    found = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    for node in sorted(found, key=lambda n: (n.lineno, n.col_offset)):
        if isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            yield node


def spelt(node: ast.Call) -> list[str]:
    """Return the spellings of a flag that a call declares."""
    words = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return [w for w in words if w.startswith("-")]


def stated_kind(node: ast.Call) -> str:
    """Return the kind that the keywords of a call of `add_argument` say."""
    words = {k.arg: ast.unparse(k.value) for k in node.keywords if k.arg}
    action = words.get("action", "").lower()
    if "boolean" in action:
        return "switch both"
    if re.search(r"true|false|const|version|count|deprecated", action) and words.get("nargs") != "None":
        return "switch"
    if words.get("nargs", "'?'").strip("'") not in ("?", "1") or "append" in action:
        return "list"
    kind = words.get("type", "str")
    return "json" if "json" in kind else kind if kind in ("int", "float") else "str"


def both(name: str) -> str:
    """Return both spellings of a switch that can be turned off, as argparse's BooleanOptionalAction has them."""
    return f"{name} --no-{name.removeprefix('--')}"


def row(names: list[str], kind: str) -> str:
    """Return one line of the result."""
    if kind == "switch both":
        names, kind = [both(n) if n.startswith("--") else n for n in names], "switch"
    return f"{' '.join(names)} | {kind}"


def vllm(folder: Path) -> list[str]:
    """List the flags of `vllm serve`, those of `vllm bench serve`, keys of JSON flags, variables of the environment."""
    package, known = folder / "vllm", classes(folder / "vllm" / "config")
    arguments = package / "engine" / "arg_utils.py"
    text, lines = arguments.read_text(), []
    of = dict(re.findall(r"(\w+) = get_kwargs\((\w+)\)", text))
    for node in calls(arguments):
        names = spelt(node)
        star = next((ast.unparse(k.value) for k in node.keywords if k.arg is None), "")
        held = re.search(r"(\w+)\[['\"](\w+)['\"]\]", star)
        source, field = (held[1], held[2]) if held else (star, "")
        kind = kind_of(known[of[source]].get(field, "str")) if source in of else stated_kind(node)
        kind = "switch both" if kind == "switch" and source in of else kind
        if names:
            lines.append(row(names, kind))
    front = next(p for p in package.rglob("cli_args.py") if "class FrontendArgs" in p.read_text())
    fields = {
        k: v for name in ("BaseFrontendArgs", "FrontendArgs") for k, v in classes(front.parent).get(name, {}).items()
    }
    short = {"lora_modules": "list", "middleware": "list", "allowed_origins": "json"}
    for name, annotation in fields.items():
        kind = short.get(name, kind_of(annotation))
        lines.append(row([f"--{name.replace('_', '-')}"], "switch both" if kind == "switch" else kind))
    lines += [row(spelt(n), stated_kind(n)) for n in calls(front) if spelt(n)]
    lines += [row(spelt(n), stated_kind(n)) for n in calls(package / "entrypoints" / "cli" / "serve.py") if spelt(n)]
    lines += [
        "[bench]",
        *sorted(
            {
                row(spelt(n), stated_kind(n))
                for f in ("serve.py", "datasets.py", "datasets")
                for n in bench(package / "benchmarks" / f)
                if spelt(n)
            }
        ),
    ]
    for name in VLLM_JSON:
        lines += [f"[{name}]", *sorted(k for k in known.get(name, {}) if not k.startswith("_"))]
    names = re.findall(r'^    "([A-Z][A-Z0-9_]+)":', (package / "envs.py").read_text(), re.M)
    return [*lines, "[env]", *sorted(set(names))]


def bench(path: Path) -> list[ast.Call]:
    """Return the calls of `add_argument` in a file, or in all files of a folder; none where there is neither."""
    files = [path] if path.is_file() else sorted(path.rglob("*.py")) if path.is_dir() else []
    return [node for file in files for node in calls(file)]


def sglang(folder: Path) -> list[str]:
    """List the flags of `sglang.launch_server` and of `sglang.bench_serving`, and variables of the environment."""
    root = folder / "sglang"
    server = root / "srt" / "server_args.py"
    lines = [row(spelt(n), stated_kind(n)) for n in calls(server) if spelt(n)]
    for path in sorted((root / "srt" / "arg_groups" / "fields").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AnnAssign) and isinstance(node.annotation, ast.Subscript):
                lines += declared(node)
    benches = [root / "bench_serving.py", root / "benchmark"]
    lines += ["[bench]", *sorted({row(spelt(n), stated_kind(n)) for f in benches for n in bench(f) if spelt(n)})]
    environ = root / "srt" / "environ.py"
    names = re.findall(r"^    (SGLANG_[A-Z0-9_]+) = ", environ.read_text(), re.M) if environ.is_file() else []
    return [*lines, "[env]", *sorted(set(names))]


def declared(node: ast.AnnAssign) -> list[str]:
    """Return the line of a field of SGLang's server arguments, `name: A[type, Arg(aliases=[...])]`; [] without one."""
    parts = node.annotation.slice
    if ast.unparse(node.annotation.value) != "A" or not isinstance(parts, ast.Tuple):
        return []
    words = {k.arg: k.value for p in parts.elts[1:] if isinstance(p, ast.Call) for k in p.keywords}
    if "no_cli" in words:
        return []
    stated = (
        ast.unparse(words["cli_name"]).strip("'") if "cli_name" in words else ast.unparse(node.target).replace("_", "-")
    )
    aliases = [a.value for a in getattr(words.get("aliases"), "elts", [])]
    kind = kind_of(ast.unparse(parts.elts[0]))
    kind = "list" if "nargs" in words and ast.unparse(words["nargs"]).strip("'") in ("+", "*") else kind
    if "action" in words and "oolean" in ast.unparse(words["action"]):
        kind = "switch both"
    return [row([f"--{stated.removeprefix('--')}", *aliases], "str" if kind.startswith("json") else kind)]


def llamacpp(folder: Path) -> list[str]:
    """List the options of llama.cpp's programs (`common/arg.cpp`) and variables of the environment."""
    text = next(folder.rglob("common/arg.cpp")).read_text()
    lines, variables = [], set(re.findall(r'set_env\("(\w+)"\)', text))
    for found in re.finditer(r"common_arg\(\s*\{([^}]*)\},(?:\s*\{([^}]*)\},)?\s*(\"[^\"]*\",\s*)?", text):
        names = re.findall(r'"(-[^"]+)"', found[1] + (found[2] or ""))
        behind = text[found.end() : found.end() + 4000]
        kind = re.search(r"\[[^\]]*\]\(common_params ?&[^,)]*(?:, (const std::string|int|bool))?", behind)
        takes = kind[1] if kind else None
        if names:
            lines.append(row(names, {"int": "int", "const std::string": "str"}.get(takes or "", "switch")))
    return [*dict.fromkeys(lines), "[env]", *sorted(variables)]


def dynamo(folder: Path) -> list[str]:
    """List the flags that Dynamo's workers for vLLM and SGLang have beside those of their engine."""
    root, found = folder / "dynamo", {}
    for path in [
        root / "vllm" / "backend_args.py",
        root / "sglang" / "backend_args.py",
        *sorted((root / "common").rglob("*.py")),
    ]:
        for kind, name in re.findall(
            r"(add_\w*argument)\(\s*(?:\w+,\s*)?(?:flag_name=)?\"(--[\w-]+)\"", path.read_text()
        ):
            found.setdefault(name, "switch both" if "bool" in kind else "str")
    return [row([name], kind) for name, kind in sorted(found.items())]


READERS = {"dynamo": dynamo, "vllm": vllm, "sglang": sglang, "llamacpp": llamacpp}


def main(engine: str, version: str, month: str, folder: str) -> None:
    """Print the flags of one release."""
    print(f"# engine: {engine}\n# version: {version}\n# published: {month}")
    print(f"# source: the package of {engine} {version}, read by tools/engine_flags.py")
    section, seen = "", set()
    for line in READERS[engine](Path(folder)):
        section = line if line.startswith("[") else section
        if (section, line) not in seen:
            print(line)
        seen.add((section, line))


if __name__ == "__main__":
    main(*sys.argv[1:])
