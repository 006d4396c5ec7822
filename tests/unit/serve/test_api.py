"""The HTTP interface, in process: no sockets."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from quality_judge import Engine, judge, judgement, quality, shown
from spct.configs import build
from spct.serve.app import build_app
from spct.serve.settings import ServeConfig
from spct.types import Request

httpx = pytest.importorskip("httpx2")
pytest.importorskip("fastapi")
JSON = {"content-type": "application/json"}


@asynccontextmanager
async def serving(
    engine: Engine | None = None, *, token: str | None = None, k: int = 1, **settings: Any
) -> AsyncIterator[Any]:
    app = build_app(judge(engine, k=k), build(ServeConfig, settings), token=token)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=30) as client:
        client.service = app.state.service
        yield client


def call(work: Callable[[Any], Awaitable[None]], engine: Engine | None = None, **settings: Any) -> None:
    async def main() -> None:
        async with serving(engine, **settings) as client:
            await work(client)

    asyncio.run(main())


def member(text: str, size: int = 2, **fields: Any) -> dict[str, Any]:
    return {"prompt": "2+2?", "response": text, "group_size": size} | fields


async def bring(client: Any, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answers of /v1/group to calls at one time."""
    replies = await asyncio.gather(*(client.post("/v1/group", json=body) for body in bodies))
    return [reply.json() for reply in replies]


def test_rewards_of_a_list() -> None:
    async def work(client: Any) -> None:
        body = {"examples": [{"id": "a", "prompt": "q", "responses": ["quality 3", "quality 8"]}]}
        answer = (await client.post("/v1/rewards", json=body)).json()
        assert answer["shape"] == "mean"
        [verdict] = answer["verdicts"]
        assert verdict["rewards"] == verdict["mean_rewards"] == [3.0, 8.0]
        assert (verdict["id"], verdict["best"], verdict["ranking"], verdict["ties"]) == ("a", 1, [1, 0], 1)
        assert (verdict["margin"], verdict["k"], verdict["k_valid"], verdict["lists"]) == (5.0, 4, 4, 1)
        assert verdict["trajectories"] is None
        body |= {"shape": "sum", "trajectories": True}
        [verdict] = (await client.post("/v1/rewards", json=body)).json()["verdicts"]
        assert verdict["rewards"] == [12.0, 32.0]  # 4 votes of 3 and of 8
        assert [t["scores"] for t in verdict["trajectories"]] == [[3, 8]] * 4

    call(work, k=4)


def test_equal_texts_are_judged_once_and_get_one_reward() -> None:
    engine = Engine()

    async def work(client: Any) -> None:
        body = {"examples": [{"prompt": "q", "responses": ["quality 8", "quality 3", "quality 8"]}]}
        [verdict] = (await client.post("/v1/rewards", json=body)).json()["verdicts"]
        assert verdict["rewards"] == [8.0, 3.0, 8.0]
        assert (verdict["best"], verdict["ranking"], verdict["ties"]) == (0, [0, 2, 1], 2)
        assert [sorted(texts) for texts in engine.calls] == [["quality 3", "quality 8"]]

    call(work, engine)


def test_a_long_list_is_judged_in_overlapping_lists() -> None:
    async def work(client: Any) -> None:
        texts = [f"n{n} quality {n % 10 + 1}" for n in range(20)]
        body = {"examples": [{"prompt": "q", "responses": texts}]}
        [verdict] = (await client.post("/v1/rewards", json=body)).json()["verdicts"]
        assert verdict["rewards"] == [quality(t) for t in texts]
        assert (verdict["lists"], verdict["k"]) == (6, 6)  # 20 in lists of at most 8: 3, cut twice

    call(work)


def test_a_verdict_without_votes_is_null_and_never_zero() -> None:
    async def work(client: Any) -> None:
        body = {"examples": [{"prompt": "q", "responses": ["a", "b"]}], "shape": "centred"}
        [verdict] = (await client.post("/v1/rewards", json=body)).json()["verdicts"]
        assert verdict["rewards"] == verdict["mean_rewards"] == [None, None]
        assert verdict["best"] is verdict["ranking"] is verdict["margin"] is None
        assert verdict["failures"] == {"no_scores": 2}

    call(work, Engine(script=lambda request, j: "I would rather not."), k=2)


def test_a_group_of_callers_is_judged_in_one_call() -> None:
    engine = Engine()

    async def work(client: Any) -> None:
        bodies = [
            member(f"quality {q}", 3, shape=how) for q, how in ((3, "mean"), (9, "centred"), (6, "rank"))
        ]
        answers = await bring(client, bodies)
        assert [a["reward"] for a in answers] == [3.0, 3.0, 0.0]  # 9 - (3 + 9 + 6) / 3; the middle rank
        assert all(a["rewards"] == [3.0, 9.0, 6.0] and a["how"] == "complete" for a in answers)
        assert [a["place"] for a in answers] == [0, 1, 2]
        assert len(engine.calls) == 1

    call(work, engine)


def test_a_partial_group_is_judged_at_its_deadline() -> None:
    async def work(client: Any) -> None:
        answer = (await client.post("/v1/group", json=member("quality 3", 8, deadline_s=0.05))).json()
        assert (answer["reward"], answer["how"], answer["rewards"]) == (3.0, "deadline", [3.0])

    call(work)


def test_samples_of_a_group_tell_the_score_of_the_own_response() -> None:
    async def work(client: Any) -> None:
        bodies = [member(text, trajectories=True) for text in ("b quality 3", "a quality 9")]
        answers = await bring(client, bodies)
        assert [[t["own_score"] for t in a["trajectories"]] for a in answers] == [[3, 3], [9, 9]]
        assert answers[0]["trajectories"][0]["principles"][0]["name"] == "Quality"

    call(work, k=2)


@pytest.mark.parametrize(
    ("invalid", "expected"),
    [("null", [None, 4.0, 8.0]), ("mean", [6.0, 4.0, 8.0])],  # (4 + 8) / 2
)
def test_an_invalid_response_gets_what_the_server_is_set_to(invalid: str, expected: list[float]) -> None:
    """Lists of one: the judge has nothing to say about the first response."""
    engine = Engine(script=lambda r, j: "?" if "x" in shown(r)[0] else judgement(r, j))

    async def work(client: Any) -> None:
        bodies = [member(text, 3) for text in ("x", "quality 4", "quality 8")]
        answers = await bring(client, bodies)
        assert [a["reward"] for a in answers] == expected
        assert [a["stood_in"] for a in answers] == [invalid == "mean", False, False]
        assert answers[0]["mean_reward"] is None
        counted = (await client.get("/metrics")).text
        assert ('spct_fallbacks_total{reason="invalid",route="group"} 1.0' in counted) == (invalid == "mean")

    call(work, engine, invalid=invalid, max_list=1)


def test_an_invalid_response_can_be_an_error() -> None:
    async def work(client: Any) -> None:
        reply = await client.post("/v1/group", json=member("x", 1))
        assert reply.status_code == 503
        assert "no sample of 1 was valid: {'no_scores': 1}" in reply.json()["error"]["got"]
        reply = await client.post("/v1/group", json=member("x", 1, invalid="mean"))
        assert reply.json()["reward"] == 5.5  # the call has the last word

    call(work, Engine(script=lambda r, j: "?"), invalid="error")


WRONG = [
    ("/v1/rewards", {"examples": []}, "examples"),
    ("/v1/rewards", {"examples": [{"prompt": "q", "responses": []}]}, "examples.0.responses"),
    ("/v1/rewards", {"examples": [{"prompt": "q", "responses": [1]}]}, "examples.0.responses.0"),
    ("/v1/rewards", {"examples": [{"prompt": "", "responses": ["a"]}]}, "examples.0.prompt"),
    ("/v1/rewards", {"examples": [{"prompt": "q", "responses": ["a"]}], "shape": "best"}, "shape"),
    ("/v1/rewards", {"examples": [{"prompt": "q", "responses": ["a"], "labels": [1]}]}, "examples.0.labels"),
    ("/v1/group", member("a", 0), "group_size"),
    ("/v1/group", member("a", deadline_s=-1), "deadline_s"),
    ("/v1/group", member("a", deadline_s="soon"), "deadline_s"),
    ("/v1/group", {"prompt": "q", "group_size": 1}, "response"),
    ("/get_reward", {"query": ["a"], "prompts": []}, "prompts"),
    ("/get_reward", {"query": ["a", "b"], "prompts": ["a"]}, None),
    ("/classify", {}, None),
]


@pytest.mark.parametrize(("path", "body", "field"), WRONG)
def test_a_wrong_call_is_a_400_that_names_the_field(path: str, body: object, field: str | None) -> None:
    async def work(client: Any) -> None:
        reply = await client.post(path, json=body)
        assert reply.status_code == 400
        found = reply.json()["error"]["field"]
        assert found == field or (field and found and found.startswith(field)), found

    call(work)


def test_text_that_is_no_json_is_a_400() -> None:
    async def work(client: Any) -> None:
        for body in (b"{", b"[1,", b"\xff\xfe", b'{"examples": NaN}'):
            reply = await client.post("/v1/rewards", content=body, headers=JSON)
            assert reply.status_code == 400, body
        body = b'{"prompt": "\\ud800", "response": "quality 3 \\udfff", "group_size": 1}'
        reply = await client.post("/v1/group", content=body, headers=JSON)
        assert reply.status_code == 400
        form = {"content-type": "text/plain"}  # what a foreign web page may send without asking
        reply = await client.post("/v1/group", content=json.dumps(member("a", 1)), headers=form)
        assert (reply.status_code, reply.json()["error"]["fix"]) == (
            400,
            "send Content-Type: application/json",
        )

    call(work)


def test_sizes_that_disagree_within_one_group_are_refused() -> None:
    async def work(client: Any) -> None:
        first = asyncio.create_task(client.post("/v1/group", json=member("quality 3", 2, group_id="g")))
        await asyncio.sleep(0.01)
        reply = await client.post("/v1/group", json=member("quality 9", 3, group_id="g"))
        assert reply.status_code == 400
        assert reply.json()["error"]["got"] == "group_size is 3, and group 'g' has 2"
        second = await client.post("/v1/group", json=member("quality 9", 2, group_id="g"))
        assert second.json()["rewards"] == (await first).json()["rewards"] == [3.0, 9.0]

    call(work)


def test_a_body_over_the_limit_is_a_413_with_or_without_its_length() -> None:
    async def work(client: Any) -> None:
        body = json.dumps(member("x" * 5000)).encode()

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 500):
                yield body[start : start + 500]

        for content in (body, pieces()):
            reply = await client.post("/v1/group", content=content, headers=JSON)
            assert reply.status_code == 413
            assert "at most 2000" in reply.json()["error"]["expected"]

    call(work, max_body=2000)


def test_a_token_is_asked_for_where_it_matters() -> None:
    async def work(client: Any) -> None:
        body = member("quality 3", 1)
        assert (await client.post("/v1/group", json=body)).status_code == 401
        for wrong in ("Bearer nope", "Basic s3cret", "Bearer", "s3cret", "Bearer s3cret2", "Bearer s3cre"):
            reply = await client.post("/v1/group", json=body, headers={"Authorization": wrong})
            assert reply.status_code == 403, wrong
        right = {"Authorization": "Bearer s3cret"}
        assert (await client.post("/v1/group", json=body, headers=right)).status_code == 200
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/metrics", headers=right)).status_code == 200
        for path in ("/", "/healthz", "/readyz", "/openapi.json"):
            assert (await client.get(path)).status_code == 200

    call(work, token="s3cret")


def test_too_many_callers_are_told_when_to_come_again() -> None:
    async def work(client: Any) -> None:
        waiting = [
            asyncio.create_task(client.post("/v1/group", json=member(f"quality {q}", 3))) for q in (3, 9)
        ]
        await asyncio.sleep(0.01)
        reply = await client.post("/v1/group", json=member("quality 5", 3))
        assert (reply.status_code, reply.headers["retry-after"]) == (429, "1")
        assert (await client.get("/healthz")).status_code == 200
        await client.service.drain()
        assert [r.json()["how"] for r in await asyncio.gather(*waiting)] == ["drain", "drain"]

    call(work, max_waiting=2)


def test_an_engine_that_is_down_is_a_503_and_shows_in_readyz_and_metrics() -> None:
    down = True

    async def work(client: Any) -> None:
        nonlocal down
        for _ in range(5):
            reply = await client.post("/v1/group", json=member("quality 3", 1))
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "3")
            assert reply.json()["error"]["got"] == "the engine is down"
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.text) == (503, "the engine failed the last 5 judgements\n")
        assert "spct_engine_errors_total 5.0" in (await client.get("/metrics")).text
        down = False
        assert (await client.post("/v1/group", json=member("quality 3", 1))).status_code == 200
        assert (await client.get("/readyz")).text == "ready\n"

    call(work, Engine(fails=lambda number: down))


def test_a_draining_server_takes_no_calls() -> None:
    async def work(client: Any) -> None:
        await client.service.drain()
        for path, body in (
            ("/v1/group", member("a", 1)),
            ("/v1/rewards", {"examples": [{"prompt": "q", "responses": ["a"]}]}),
            ("/get_reward", {"query": ["q a"], "prompts": ["q "]}),
            (
                "/classify",
                {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
            ),
            ("/v1/watch", {"prompt": "q", "responses": ["a"]}),
        ):
            assert (await client.post(path, json=body)).status_code == 503, path
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200

    call(work)


def test_metrics_count_samples_tokens_and_groups() -> None:
    def half(request: Request, j: int) -> str:
        return judgement(request, j) if request.samples[j] % 2 else "?"

    async def work(client: Any) -> None:
        bodies = [member(f"quality {q}") for q in (3, 9)]
        await asyncio.gather(*(client.post("/v1/group", json=b) for b in bodies))
        lines = (await client.get("/metrics")).text.splitlines()
        assert 'spct_samples_total{result="ok"} 2.0' in lines
        assert 'spct_samples_total{result="no_scores"} 2.0' in lines
        assert 'spct_groups_total{event="complete"} 1.0' in lines
        assert 'spct_request_seconds_count{route="/v1/group",status="200"} 2.0' in lines
        assert 'spct_valid_share_bucket{le="0.5"} 1.0' in lines
        assert "spct_waiting 0.0" in lines
        assert any(line.startswith('spct_tokens_total{kind="completion"}') for line in lines)

    call(work, Engine(script=half), k=4)


def test_the_log_holds_no_contents_unless_asked(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "spct.serve")

    async def work(client: Any) -> None:
        caplog.clear()
        await client.post(
            "/v1/group", json=member("quality 3 SECRET", 1), headers={"Authorization": "Bearer K"}
        )
        [line] = [json.loads(r.message) for r in caplog.records if r.name == "spct.serve"]
        assert (line["route"], line["method"], line["status"]) == ("/v1/group", "POST", 200)
        assert line["ms"] >= 0
        assert ("SECRET" in caplog.text) == client.service.config.log_contents
        assert "Bearer" not in caplog.text

    call(work)
    call(work, log_contents=True)


def test_watching_yields_each_sample_and_then_the_verdict() -> None:
    async def work(client: Any) -> None:
        body = {"prompt": "q", "responses": ["quality 3", "quality 8"]}
        reply = await client.post("/v1/watch", json=body)
        assert reply.headers["content-type"] == "application/x-ndjson"
        first, *samples, last = [json.loads(line) for line in reply.text.splitlines()]
        assert first == {"start": {"model": "scripted", "k": 4, "scale": [1, 10]}}
        assert sorted(s["sample"]["sample"] for s in samples) == [0, 1, 2, 3]
        assert all(s["sample"]["scores"] == [3, 8] for s in samples)
        assert last["verdict"]["rewards"] == [12, 32]

    call(work, k=4)


def test_watching_a_broken_engine_ends_with_the_error() -> None:
    async def work(client: Any) -> None:
        reply = await client.post("/v1/watch", json={"prompt": "q", "responses": ["a"]})
        assert json.loads(reply.text.splitlines()[-1])["error"]["got"] == "the engine is down"

    call(work, Engine(fails=lambda number: True))


def test_the_page_allows_only_its_own_script() -> None:
    async def work(client: Any) -> None:
        reply = await client.get("/")
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'sha256-" in policy
        assert "unsafe" not in policy
        assert "http://" not in reply.text.replace("http://www.w3.org", "")
        assert "https://" not in reply.text

    call(work)
