"""The HTTP server: the same answers as Python, a valid schema, bounds, and errors that say what to do."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
from openapi_spec_validator import validate

import cli
import search
from benchmarks.serve_fuzz import FLEET, GOOD, ROW, SMALL, requests, verdict
from hwdb import InputError
from search.commands import command_tree
from search.service import OPERATIONS, Bounds, InProcess, application, called
from search.service.guard import Guard, roots, search_path
from search.sweeps import ARGUMENTS

testclient = pytest.importorskip("fastapi.testclient")
JSON = {"content-type": "application/json"}
PLACES = ("/etc/passwd", "../x.csv", "~/x.csv", "C:\\x.csv", "a/../../x.csv", "./x.csv")
TRACE = "arrival_s,input_tokens,output_tokens\n" + "".join(f"{i / 2},{100 + i % 7},{10 + i % 3}\n" for i in range(60))


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Return a client of the server, which answers in this process."""
    bounds = Bounds(body=200_000, rows=50, plans=3, candidates=500)
    with testclient.TestClient(application(InProcess(bounds), bounds), base_url="http://127.0.0.1") as made:
        yield made


@pytest.fixture(scope="module")
def small() -> search.PlanView:
    """Return the plan of `SMALL`, as Python has it."""
    return search.plan(SMALL)


def told(response: Any, status: int = 422) -> dict[str, Any]:
    """Return what is wrong with a request."""
    assert response.status_code == status, response.text
    assert "Traceback" not in response.text
    error = response.json()["error"]
    assert set(error) == {"message", "place", "value", "way_out"}
    assert error["message"]
    assert error["way_out"], error
    return dict(error)


def test_an_estimate_is_that_of_python(client: Any) -> None:
    asked = {"model": "llama-3.1-8b", "device": ["h100-sxm", "l40s"], "tp": [1, 3], "concurrency": 8, "explain": 0}
    found = client.post("/v1/estimate", json=asked).json()
    frame = search.sweep("llama-3.1-8b", ["h100-sxm", "l40s"], tp=[1, 3], concurrency=8).frame()
    assert [row["ttft_ms"] for row in found["rows"]] == [None if v != v else v for v in frame.ttft_ms]
    assert found["rows"][1]["reason"].startswith("tp 3 does not divide")
    assert sum(t["share_percent"] for t in found["operators"]) == pytest.approx(200.0)


def test_a_deployment_is_that_of_the_command(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Every input of the command is a field, what it means included; the row is that which the command prints."""
    command = typer.main.get_command(command_tree("estimate")).commands["estimate"]  # type: ignore[attr-defined]
    of_the_command = {p.name for p in command.params} - {
        "from_",
        "as_json",
        "as_csv",
        "wide",
        "explain",
        "hwdb",
        "help",
    }
    body = OPERATIONS["deployment"].body
    assert of_the_command == set(body.model_fields) - {"explain", "files", "hardware_files"}
    assert set(ARGUMENTS) <= set(OPERATIONS["estimate"].body.model_fields)
    assert all(len(field.description or "") > 8 for field in body.model_fields.values())
    given = {"tp": 2, "prefill_workers": 1, "decode_workers": 2, "lora_rank": 16, "speculation": "ngram", "pue": 1.3}
    given |= {"host_kv": 0.25, "request_rate_rps": 2.5, "usd_per_hour": ["1.5"], "slo": ["ttft_ms_p95=900"]}
    found = client.post(
        "/v1/deployment", json={"model": "llama-3.1-8b", "device": "l40s", **given, "explain": True}
    ).json()
    flags = [t for n, v in given.items() for t in (f"--{n.replace('_', '-')}", str(v[0] if isinstance(v, list) else v))]
    code = cli.main(["estimate", "llama-3.1-8b", "--device", "l40s", *flags, "--json"])
    assert found["rows"] == json.loads(capsys.readouterr().out)
    assert found["keeps_slo"] == (code == 0)
    assert {t["phase"] for t in found["operators"]} == {"prefill", "decode"}


def test_inputs_of_a_deployment_come_with_the_request(client: Any) -> None:
    asked = {"model": "llama-3.1-8b", "device": "l40s"}
    lengths = "input_tokens,output_tokens,share\n300,30,0.5\n900,60,0.5\n"
    found = client.post("/v1/deployment", json={**asked, "histogram": "h.csv", "files": {"h.csv": lengths}}).json()
    assert found["rows"][0]["isl"] == pytest.approx(600.0)
    assert "send its content" in told(client.post("/v1/deployment", json={**asked, "histogram": "h.csv"}))["message"]
    error = told(client.post("/v1/deployment", json={**asked, "prefill_workers": 1}))
    assert error["message"] == "decode_workers is missing; give 1 or more"


def test_a_plan_is_that_of_python(client: Any, small: search.PlanView) -> None:
    found = client.post("/v1/plan", json={"scenario": SMALL}).json()
    assert found["feasible"] is True
    assert found["headline"] == search.headline(small)
    assert [r["usd_per_hour"] for r in found["rows"] if r["rank"]] == [r["usd_per_hour"] for r in small.rows()]


def test_what_if_compare_and_fleet_answer(client: Any) -> None:
    found = client.post("/v1/whatif", json={"scenario": SMALL, "grid": ["workload.request_rate_rps=2,200"]}).json()
    assert [row["grid_value"] for row in found["rows"]] == [None, 2, 200]
    assert found["grids"] == ["workload.request_rate_rps"]
    found = client.post("/v1/compare", json={"before": [ROW], "after": [{**ROW, "usd_per_hour": 1.0}]}).json()
    assert found["changed"] == [{"column": "usd_per_hour", "before": 0.79, "after": 1.0}]
    found = client.post("/v1/fleet", json={"scenario": FLEET}).json()
    assert found["rows"][0]["replicas"] == 3


def test_lists_are_cut_and_figures_have_sources(client: Any) -> None:
    found = client.get("/v1/models", params={"like": "llama", "limit": 3}).json()
    assert len(found["rows"]) == 3 < found["total"]
    found = client.get("/v1/hardware", params={"name": "h100-sxm"}).json()
    assert all(row["source"] for row in found["rows"])
    assert client.get("/v1/hardware", params={"vendor": "AMD"}).json()["total"] > 3


def test_a_report_is_a_page(client: Any, small: search.PlanView, monkeypatch: pytest.MonkeyPatch) -> None:
    import search.service.answers as answers

    monkeypatch.setattr(answers, "plan", lambda scenario, **_: small if scenario.title == "scenario" else None)
    monkeypatch.setattr(answers, "render_report", lambda plan, progress, form: f"{form}: {plan.scenario.title}")
    for form, media in (("html", "text/html"), ("md", "text/markdown"), ("csv", "text/csv")):
        found = client.post("/v1/report", json={"scenario": SMALL, "form": form})
        assert found.headers["content-type"].startswith(media)
        assert found.text == f"{form}: scenario"


def test_files_come_with_the_request(client: Any) -> None:
    scenario = {**SMALL, "workload": {"trace": "mine.csv"}}
    found = client.post("/v1/plan", json={"scenario": scenario, "files": {"mine.csv": TRACE}})
    assert found.json()["feasible"] is True
    error = told(client.post("/v1/plan", json={"scenario": scenario}))
    assert "mine.csv" in error["message"]
    assert "perfmodel-" not in error["message"]
    error = told(client.post("/v1/plan", json={"scenario": scenario, "files": {"../mine.csv": TRACE}}))
    assert error["place"].startswith("files")


@pytest.mark.parametrize("place", PLACES)
def test_no_file_of_the_machine_is_read(client: Any, place: str) -> None:
    for body in (
        {**SMALL, "workload": {"trace": place}},
        {**SMALL, "model": {"config": place}},
        {**SMALL, "hardware": {"devices": ["l40s"], "folders": [place]}},
        {**SMALL, "calibration": {"file": place}},
        {**SMALL, "engine": {"name": place}},
        {**SMALL, "site": {"gco2_by_hour": place}},
    ):
        assert "is a path" in told(client.post("/v1/plan", json={"scenario": body}))["message"]
    asked = {"scenario": SMALL, "set": [f'workload.trace="{place}"']}
    assert "is a path" in told(client.post("/v1/whatif", json=asked))["message"]
    fields = {"estimate": ("model", "device", "engine"), "deployment": ("model", "engine", "draft_model", "host_cpu")}
    for name, field in ((name, field) for name, several in fields.items() for field in several):
        error = told(client.post(f"/v1/{name}", json={"model": "llama-3.1-8b", "device": "l40s", field: place}))
        assert "is a path" in error["message"]
        assert error["place"] == field


def test_own_hardware_comes_with_the_request(client: Any) -> None:
    card = Path(search.__file__).parents[1] / "hwdb" / "devices" / "l40s.toml"
    text = 'type = "device"\n' + card.read_text(encoding="utf-8")
    asked = {"model": "llama-3.1-8b", "device": "my-card", "hardware_files": {"my-card.toml": text}}
    found = client.post("/v1/estimate", json=asked).json()
    assert found["rows"][0]["device"] == "my-card"
    assert "my-card" in told(client.post("/v1/estimate", json={**asked, "hardware_files": {}}))["message"]
    error = told(client.post("/v1/estimate", json={**asked, "hardware_files": {"my-card.toml": "x = ["}}))
    assert error["message"].startswith("my-card.toml: not TOML")


def test_requests_are_bounded(client: Any) -> None:
    assert "bytes" in told(client.post("/v1/plan", content=b"x" * 300_000, headers=JSON), 413)["message"]
    many = {"model": "llama-3.1-8b", "device": "l40s", "isl": list(range(1, 60))}
    assert "at most 50" in told(client.post("/v1/estimate", json=many))["message"]
    asked = {"scenario": SMALL, "grid": ["workload.request_rate_rps=1:9:9"]}
    assert "9 plans are more than the 3" in told(client.post("/v1/whatif", json=asked))["message"]
    wide = {**SMALL, "search": {"max_num_seqs": list(range(1, 900)), "tp": 1, "pp": 1}}
    assert "candidates are more than the 500" in told(client.post("/v1/plan", json={"scenario": wide}))["message"]


WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("estimate", {"model": "llama-3.1-8b"}, "device", "add the field"),
    ("estimate", {"model": "llama-3.1-8b", "device": "l40s", "foo": 1}, "foo", "leave the field out"),
    ("estimate", {"model": "llama-3.1-8b", "devices": "l40s"}, "devices", "is 'device'"),
    ("plan", {"scenaro": SMALL}, "scenaro", "is 'scenario' meant?"),
    ("deployment", {"model": "llama-3.1-8b", "device": "l40s", "concurency": 4}, "concurency", "is 'concurrency'"),
    ("estimate", {"model": "llama-3.1-8b", "device": "l40s", "tp": "4"}, "tp", ""),
    ("estimate", {"model": "llama-3.1-8b", "device": "l40s", "tp": True}, "tp", ""),
    ("estimate", {"model": "llama-3.1-8b", "device": "l40s", "explain": -1}, "explain", ""),
    ("estimate", {"model": "llama-3.1-8b", "device": "l40s", "concurrency": 1, "isl": 0.5}, "isl", "give 1 or more"),
    ("estimate", {"model": "llama-3.1-8b", "device": "l40s", "batch": 1, "concurrency": 1}, "", "give one of them"),
    ("plan", {"scenario": "[model"}, "scenario.toml", ""),
    ("plan", {"scenario": {"model": {"name": None}}}, "scenario.model.name", "leave the key out"),
    ("plan", {"scenario": SMALL, "top": 0}, "top", ""),
    ("report", {"scenario": SMALL, "form": "pdf"}, "form", ""),
    ("compare", {"before": [{"rank": 2, "candidate": "x"}], "after": [ROW]}, "before", "send one with an answer"),
    ("fleet", {"scenario": {"title": "x"}}, "scenario.toml", ""),
]


@pytest.mark.parametrize(("name", "asked", "place", "way_out"), WRONG)
def test_errors_name_place_and_way_out(client: Any, name: str, asked: Any, place: str, way_out: str) -> None:
    error = told(client.post(f"/v1/{name}", json=asked))
    assert error["place"].startswith(place)
    assert way_out in error["way_out"]
    assert error["way_out"]


@pytest.mark.parametrize("table", ["model", "workload", "engine", "calibration", "hardware"])
def test_names_of_any_length_are_refused(client: Any, table: str) -> None:
    for length in (300, 5000):
        key = {"workload": "trace", "calibration": "file", "hardware": "devices"}.get(table, "name")
        long = "x" * length + (".toml" if table == "engine" else "")
        asked = {**SMALL, table: {key: [long] if table == "hardware" else long}}
        assert len(told(client.post("/v1/plan", json={"scenario": asked}))["message"]) < 3000


def test_wrong_paths_hosts_and_bodies_are_told(client: Any) -> None:
    assert "POST /v1/plan" in told(client.get("/v1/nothing"), 404)["message"]
    assert told(client.get("/v1/plan"), 405)
    assert told(client.post("/v1/plan", content=b"{", headers=JSON))


HOSTS = ("evil.example", "127.0.0.1.evil.example", "127.0.0.1:80@evil.example", "[::1].evil.example", "evil.example:80")
ORIGINS = (
    "https://evil.example",
    "null",
    "http://127.0.0.1:3000",
    "https://127.0.0.1",
    "http://127.0.0.1.evil.example",
)
MEDIA = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain;a=/json", "")


@pytest.mark.parametrize("name", ["host", "origin", "content-type"])
def test_pages_of_other_servers_cannot_ask(client: Any, name: str) -> None:
    values, status = {"host": (HOSTS, 400), "origin": (ORIGINS, 403), "content-type": (MEDIA, 415)}[name]
    for value in values:
        told(client.post("/v1/models", content=b"{}", headers={**JSON, name: value}), status)
        if name != "content-type":
            told(client.get("/v1/models", headers={name: value}), status)
    for good in (
        {"host": "LOCALHOST:8000"},
        {"host": "[::1]:8000"},
        {"host": "127.0.0.1:9", "origin": "http://127.0.0.1:9"},
    ):
        assert client.get("/health", headers=good).status_code == 200
    assert "access-control-allow-origin" not in client.get("/health", headers={"origin": "http://127.0.0.1"}).headers
    good = {"content-type": "Application/JSON; charset=utf-8"}
    assert "add the field" in told(client.post("/v1/plan", content=b"{}", headers=good))["message"]


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 50_000, b'{"scenario": 1' + b"0" * 9000 + b"}", b"", b"\x00"])
def test_bodies_that_cannot_be_read_are_told_as_such(client: Any, content: bytes) -> None:
    found = client.post("/v1/plan", content=content, headers=JSON)
    assert "no such operation" not in told(found, found.status_code)["message"]
    assert found.status_code in (400, 422)


def test_a_body_that_does_not_arrive_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import search.service.request_filter as request_filter

    monkeypatch.setattr(request_filter, "ARRIVING_S", 0.05)
    sent: list[Any] = []

    async def never() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/plan", "headers": headers}
    asyncio.run(
        request_filter.RequestFilter(application(InProcess(Bounds()), Bounds()), 100, request_filter.LOOPBACK)(
            scope, never, send
        )
    )
    assert sent[0]["status"] == 408


def test_a_port_that_is_taken_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["serve", "--port", str(port)]) == 2
    assert f"--port {port}: cannot listen there" in capsys.readouterr().err


def test_the_page_asks_nobody_else(client: Any) -> None:
    page = client.get("/").text
    assert "http://" not in page
    assert "https://" not in page
    assert client.get("/health").json()["version"]


def test_the_schema_is_valid_and_the_answers_follow_it(client: Any) -> None:
    schema = client.get("/openapi.json").json()
    validate(schema)
    for name, operation in OPERATIONS.items():
        path = schema["paths"][f"/v1/{name}"]["get" if operation.reads else "post"]
        assert path["operationId"] == name
        assert path["summary"].endswith(".")
        jsonschema.Draft202012Validator.check_schema(operation.body.model_json_schema())
        if name in ("report", "plan", "whatif"):
            continue
        asked = GOOD[name]
        found = client.get(f"/v1/{name}", params=asked) if operation.reads else client.post(f"/v1/{name}", json=asked)
        answer = path["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(found.json(), {**answer, "components": schema["components"]})
        jsonschema.validate(asked, operation.body.model_json_schema())


@pytest.mark.parametrize("seed", range(20))
def test_random_requests_are_answered_or_refused(seed: int) -> None:
    here = InProcess(Bounds(rows=50, plans=2, candidates=500))
    for name, given in requests(5, seed, ["estimate", "deployment", "compare", "fleet", "models", "hardware"]):
        said = verdict(lambda name=name, given=given: called(here, name, given))
        assert said in ("answered", "refused"), json.dumps(given)


@pytest.mark.parametrize(
    "place",
    [
        *("/etc/passwd", "/proc/self/environ", "/root/.ssh/id_rsa", "/etc/../etc/shadow"),
        *(f"{tempfile.gettempdir()}/x.csv", f"{Path.home()}/.cache/huggingface/token"),
    ],
)
def test_the_guard_of_a_worker_refuses_files_of_the_machine(place: str) -> None:
    guard = Guard(roots())
    guard.on = True
    for event in ("open", "os.listdir", "os.scandir"):
        with pytest.raises(InputError, match="reads no file of its machine"):
            guard._hook(event, (place, "r", 0))
        guard._hook(event, (search.__file__, "r", 0))
    with pytest.raises(InputError, match="starts no program"):
        guard._hook("subprocess.Popen", ("ls", ["ls"], None, None))


def test_an_import_of_a_worker_lists_no_folder_of_others(tmp_path: Path) -> None:
    allowed = roots()
    here = str(Path(search.__file__).parents[1])
    assert search_path([str(tmp_path), here, *sys.path], allowed)[0] == here
    assert str(tmp_path) not in search_path([str(tmp_path)], allowed)
    guard = Guard(allowed)
    guard.on = True
    guard._hook("os.listdir", (here,))
    with pytest.raises(InputError, match="reads no file of its machine"):
        guard._hook("open", (f"{here}/.git/config", "r", 0))


@pytest.mark.slow
def test_workers_end_what_takes_too_long() -> None:
    from search.service import Workers
    from search.service.bodies import Models, PlanBody

    workers = Workers(Bounds(workers=1, waiting=0, seconds=60.0))
    folder = Path(workers._idle.queue[0].folder.name)
    try:
        found = workers.answer("models", Models(limit=1))
        assert found.status == 200
        assert folder.is_dir()
        workers.bounds = Bounds(workers=1, waiting=0, seconds=0.05)
        begun = time.monotonic()
        found = workers.answer("plan", PlanBody(scenario=SMALL))
        assert found.status == 504
        assert time.monotonic() - begun < 10
        assert not folder.exists(), "a worker that is ended leaves no input of a request behind"
        workers.bounds = Bounds(workers=1, waiting=0, seconds=60.0)
        assert workers.answer("models", Models(limit=1)).status == 200
    finally:
        workers.close()
