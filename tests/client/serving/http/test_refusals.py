"""Requests that are refused, in OpenAI's form, by an application in this process (client/serving/http/)."""

import json
from contextlib import contextmanager

import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.finished.run import load_run
from client.serving import cached_rows
from client.serving.http.app import make_app, make_service
from client.serving.limits import Limits
from client.serving.models import Models


@contextmanager
def application(trained, key=None, limits=Limits()):  # noqa: B008
    app = make_app(make_service(trained, Models(trained, "mine"), limits), key, limits)
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def client(llama):
    with application(llama) as client:
        yield client


@pytest.fixture(scope="module")
def labels(run_of):
    with application(load_run(run_of("bert"))) as client:
        yield client


def error(answer: httpx.Response, status: int) -> dict[str, str]:
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error"}
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    return answer.json()["error"]


COMPLETION = {"model": "mine", "prompt": "a cow", "max_tokens": 2}
CHAT = {"model": "mine", "messages": [{"role": "user", "content": "a cow"}], "max_tokens": 2}
PLACES = {"/v1/completions": COMPLETION, "/v1/chat/completions": CHAT}


@pytest.mark.parametrize(("place", "body"), PLACES.items())
def test_what_is_asked_rightly_is_answered(client, place, body):
    assert client.post(place, json=body).status_code == 200


@pytest.mark.parametrize("place", PLACES)
def test_an_unknown_model_is_404_with_the_known_names(client, llama, place):
    told = error(client.post(place, json=PLACES[place] | {"model": "no"}), 404)
    assert told["message"] == f"model 'no' is not served; known: {llama.base.folder.name}, mine"
    assert (told["param"], told["code"]) == ("model", "model_not_found")


@pytest.mark.parametrize(
    ("changed", "param", "reason"),
    [
        ({"prompt": "cow " * 600}, "prompt", "exceed the model's 513 positions; shorten one of them"),
        ({"max_tokens": 600}, "prompt", "exceed the model's 513 positions"),
        ({"prompt": [[5, 700]]}, "prompt", "has the token 700, of a model with 512 tokens"),
        ({"prompt": ["a"] * 65}, "prompt", "has 65 texts, of at most 64"),
        ({"stop": ["a"] * 5}, "stop", "has 5 strings, of at most 4"),
        ({"n": 2}, "n", "n = 2 is not supported; leave it out"),
        ({"echo": True}, "echo", "echo = true is not supported"),
        ({"logprobs": 0}, "logprobs", "logprobs = 0 is not supported"),
        ({"best_of": 3}, "best_of", "not supported"),
        ({"presence_penalty": 0.5}, "presence_penalty", "not supported"),
        ({"min_p": 0.5}, "min_p", "not supported"),
    ],
)
def test_what_cannot_be_done_is_400_by_name(client, changed, param, reason):
    told = error(client.post("/v1/completions", json=COMPLETION | changed), 400)
    assert told["param"] == param
    assert reason in told["message"]


NEUTRAL = {
    "n": 1,
    "echo": False,
    "presence_penalty": 0,
    "logprobs": None,
    "user": "me",
    "seed": None,
    "stop": ["", "q"],
}


def test_options_that_ask_for_nothing_are_taken(client):
    assert client.post("/v1/completions", json=COMPLETION | NEUTRAL).status_code == 200


def test_a_chat_that_ends_with_the_assistant_is_refused(client):
    chat = [*CHAT["messages"], {"role": "assistant", "content": "moo"}]
    assert (
        "ends with the assistant's turn"
        in error(client.post("/v1/chat/completions", json=CHAT | {"messages": chat}), 400)["message"]
    )
    told = error(
        client.post("/v1/chat/completions", json=CHAT | {"messages": [{"role": "user", "content": "c " * 600}]}), 400
    )
    assert told["param"] == "messages"


def test_a_base_without_a_chat_template_says_so(llama, monkeypatch):
    monkeypatch.setattr(llama.base.tokenizer, "chat_template", None)
    with application(llama) as client:
        assert "has no chat template" in error(client.post("/v1/chat/completions", json=CHAT), 400)["message"]


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"max_tokens": "3"}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"stream": "yes"}, "stream"),
        ({"model": 3}, "model"),
        ({"stream_options": {"no": 1}}, "stream_options.no"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", [1]]}, "prompt"),
        ({"stop": [1]}, "stop"),
    ],
)
def test_what_is_malformed_is_422_by_name(client, changed, param):
    assert error(client.post("/v1/completions", json=COMPLETION | changed), 422)["param"] == param


def test_a_field_of_several_forms_is_one_fault_that_says_them(client):
    told = error(client.post("/v1/completions", json=COMPLETION | {"prompt": [[]]}), 422)
    assert told["message"] == "prompt: give a text, token ids, or a list of either, with at least one entry"


def test_a_reply_is_a_turn_of_the_next_request_with_what_it_lacks_as_nulls(client):
    first, nulls = CHAT["messages"][-1], dict.fromkeys(("refusal", "annotations", "audio", "tool_calls", "name"))
    found = []
    for more in ({}, nulls, {"tool_calls": [], "annotations": []}):
        chat = CHAT | {"messages": [first, {"role": "assistant", "content": "moo", **more}, first], "temperature": 0}
        answer = client.post("/v1/chat/completions", json=chat)
        assert answer.status_code == 200, answer.text
        found.append(answer.json()["choices"])
    assert found[1:] == found[:1] * 2
    calls = {"role": "assistant", "content": "moo", "tool_calls": [{"id": "1"}]}  # control
    told = error(client.post("/v1/chat/completions", json=CHAT | {"messages": [first, calls, first]}), 400)
    assert told["param"] == "messages.1.tool_calls"


def test_what_a_turn_has_beyond_text_is_refused_by_name(client):
    def post(**turn):
        return client.post("/v1/chat/completions", json=CHAT | {"messages": [{"role": "user", **turn}]})

    assert error(post(content="moo", name="ada"), 400)["param"] == "messages.0.name"
    told = error(post(content=[{"type": "image_url", "image_url": {"url": "http://x"}}]), 422)
    assert told["param"] == "messages.0.content"
    assert 'a list of parts with type = "text"' in told["message"]


@pytest.mark.parametrize("options", [{"include_usage": None}, {"include_usage": True, "include_obfuscation": False}])
def test_options_of_a_stream_that_ask_for_nothing_are_taken(client, options):
    body = COMPLETION | {"stream": True, "stream_options": options}
    assert client.post("/v1/completions", json=body).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"[" * 100_000,
        b'{"model": "mine", "prompt": ' + b"[" * 100_000,
        b'{"model": "mine", "prompt": "\xff"}',
        b'{"model": "mine", "prompt": "\\ud800"}',
        b'{"model": "mine", "prompt": []}',
        b'{"model": "mine", "prompt": [[]]}',
        b'{"model": "mine", "prompt": [1, "a"]}',
        b'{"model": "mine", "prompt": [-1]}',
        b'{"model": "mine", "prompt": [' + b"9" * 50_000 + b"]}",
        b'{"model": "mine", "prompt": "a", "temperature": NaN}',
        b'{"model": "mine", "prompt": "a", "temperature": 1e999}',
    ],
    ids=lambda body: repr(body[:40]),
)
@pytest.mark.parametrize("place", ["/v1/completions", "/v1/chat/completions", "/v1/classify", "/v1/load_lora_adapter"])
def test_hostile_bodies_are_422_and_serving_goes_on(client, place, body):
    error(client.post(place, content=body), 422)
    assert client.get("/health").json() == {"status": "ok"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
KEYS = ["model", "prompt", "messages", "max_tokens", "temperature", "top_p", "stop", "seed", "stream_options", "n", "x"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(PLACES)), st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4))
def test_whatever_is_asked_is_answered_or_refused_in_form(client, place, changed):
    answer = client.post(place, json=PLACES[place] | {"temperature": 0} | changed)
    if answer.status_code != 200:
        assert error(answer, answer.status_code)["message"]
        assert answer.status_code in (400, 404, 422)


def test_a_prompt_of_half_a_surrogate_pair_is_malformed(client):
    error(client.post("/v1/completions", content=json.dumps(COMPLETION | {"prompt": "\ud800"}).encode()), 422)


def test_a_body_that_is_too_large_is_413(llama):
    with application(llama, limits=Limits(body=1000)) as client:
        large = json.dumps(COMPLETION | {"prompt": "a" * 1000}).encode()
        assert "more than 1000 bytes" in error(client.post("/v1/completions", content=large), 413)["message"]
        parts = iter([large[:600], large[600:]])
        error(client.post("/v1/completions", content=parts), 413)  # of a length that nobody says
        assert client.post("/v1/completions", json=COMPLETION).status_code == 200  # control


def test_more_texts_than_may_wait_are_429(llama):
    with application(llama, limits=Limits(waiting=2)) as client:
        assert client.post("/v1/completions", json=COMPLETION | {"prompt": ["a", "b"]}).status_code == 200  # control
        told = error(client.post("/v1/completions", json=COMPLETION | {"prompt": ["a", "b", "c"]}), 429)
        assert "of at most 2; try again later" in told["message"]


def test_texts_beyond_the_rows_of_a_batch_take_their_turn(llama):
    prompts = [f"a cow number {n}" for n in range(9)]
    body = COMPLETION | {"prompt": prompts, "temperature": 0, "max_tokens": 5}
    with application(llama, limits=Limits(rows=2)) as narrow, application(llama) as wide:
        one, other = (each.post("/v1/completions", json=body).json()["choices"] for each in (narrow, wide))
    assert [each["text"] for each in one] == [each["text"] for each in other]
    assert [each["index"] for each in one] == list(range(9))


@pytest.mark.parametrize(
    "header", ["Bearer wrong", "Bearer ", "", "secre", "secret", "Basic secret", "Bearer s\u00e9cret"]
)
def test_a_wrong_or_missing_key_is_401(llama, header):
    with application(llama, key="secret") as client:
        headers = {"Authorization": header.encode("latin-1")} if header else {}
        told = error(client.get("/v1/models", headers=headers), 401)
        assert told["code"] == "invalid_api_key"
        error(client.post("/v1/load_lora_adapter", json={"lora_name": "a", "lora_path": "/"}, headers=headers), 401)
        assert client.get("/v1/models", headers={"Authorization": "Bearer secret"}).status_code == 200  # control
        assert client.get("/v1/models", headers={"Authorization": "bearer secret"}).status_code == 200
        assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "localhost.", "[::2]"]
)
def test_a_page_under_a_name_that_leads_to_loopback_is_refused(client, host):
    error(client.post("/v1/completions", json=COMPLETION, headers={"Host": host}), 403)


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000"])
def test_loopback_is_answered_by_its_names(client, host):
    assert client.get("/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:8000"])
@pytest.mark.parametrize("key", [None, "secret"])
def test_a_web_page_drives_nothing(llama, origin, key):
    with application(llama, key) as client:
        headers = {"Origin": origin, "Authorization": "Bearer secret", "Content-Type": "text/plain"}
        error(client.post("/v1/completions", content=json.dumps(COMPLETION), headers=headers), 403)
        error(client.options("/v1/completions", headers=headers), 403)
        del headers["Origin"]
        assert (
            client.post("/v1/completions", content=json.dumps(COMPLETION), headers=headers).status_code == 200
        )  # control


def test_a_route_that_is_not_there_is_404_in_form(client):
    for place in ("/", "/docs", "/openapi.json", "/v1/embeddings"):
        assert error(client.get(place), 404)["message"]
    error(client.get("/v1/completions"), 405)


def test_each_kind_of_model_names_the_routes_of_the_other(client, labels):
    told = error(client.post("/v1/classify", json={"model": "mine", "input": "a"}), 400)
    assert "use /v1/completions or /v1/chat/completions" in told["message"]
    for place, body in PLACES.items():
        assert "'mine' classifies; use /v1/classify" in error(labels.post(place, json=body), 400)["message"]


def test_a_classifier_gives_labels_and_probabilities(labels, run_of):
    rows = [json.loads(line) for line in (run_of("bert") / "test.jsonl").read_text().splitlines()]
    answer = labels.post("/v1/classify", json={"model": "mine", "input": [row["text"] for row in rows]}).json()
    right = [each["label"] == row["label"] for each, row in zip(answer["data"], rows, strict=True)]
    last = json.loads((run_of("bert") / "metrics.jsonl").read_text().splitlines()[-1])
    assert sum(right) / len(right) == last["test_accuracy"]
    for each in answer["data"]:
        assert sum(each["probabilities"].values()) == pytest.approx(1)
        assert each["probabilities"][each["label"]] == max(each["probabilities"].values())
    (long,) = labels.post("/v1/classify", json={"model": "mine", "input": "cow " * 900}).json()["data"]
    assert (long["truncated"], answer["data"][0]["truncated"]) == (True, False)
    assert (
        "empty text" in error(labels.post("/v1/classify", json={"model": "mine", "input": ["a", " "]}), 400)["message"]
    )


def test_a_batch_that_fails_is_500_and_costs_no_other(llama, monkeypatch):
    with application(llama) as client:
        with monkeypatch.context() as patch:
            patch.setattr(cached_rows.LaneModel, "begin", lambda *words: 1 / 0)
            told = error(client.post("/v1/completions", json=COMPLETION), 500)
            assert "the server's log has the reason" in told["message"]
            streamed = client.post("/v1/completions", json=COMPLETION | {"stream": True}).text
            assert '"server_error"' in streamed
            assert streamed.endswith("data: [DONE]\n\n")
        assert client.post("/v1/completions", json=COMPLETION).status_code == 200
