"""`fedlora serve` as a process on loopback, asked by the official `openai` client and by raw HTTP."""

import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import openai
import psutil
import pytest

from client.data.chats.reply import reply_prompt
from client.data.tokens import prompt_ids
from client.finished.run import load_run
from client.finished.text import continue_text, generate
from client.serving.adapter_folder import read_adapter
from common.adapters.adapter import Adapter
from common.huggingface.peft_folder import write_peft_folder
from tests.helpers.client.serving import served
from tests.helpers.end_to_end.command import call, end, start

PROMPT = "a cow by the old barn is seen at the"


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=60) as client:
        yield client


def test_the_models_are_listed_with_their_base(client, server):
    assert [each.id for each in client.models.list()] == [server.base, server.run, "small", "large"]
    assert client.models.retrieve("small").parent == server.base
    assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}


def test_a_completion_is_what_generate_writes(client, server, run_of):
    answer = client.completions.create(model=server.run, prompt=PROMPT, max_tokens=8, temperature=0)
    assert answer.choices[0].text == generate(run_of("llama"), PROMPT, 8, raw=True)
    assert answer.choices[0].finish_reason in ("stop", "length")
    ids = prompt_ids(load_run(run_of("llama")).base.tokenizer, PROMPT)
    assert answer.usage.prompt_tokens == len(ids)
    assert answer.usage.total_tokens == len(ids) + answer.usage.completion_tokens
    by_ids = client.completions.create(model=server.run, prompt=ids, max_tokens=8, temperature=0)
    assert by_ids.choices[0].text == answer.choices[0].text


def test_each_model_answers_at_once_what_it_writes_alone(client, server, llama, folders):
    adapters = {server.base: Adapter({}), server.run: llama.adapter}
    adapters |= {name: read_adapter(folders[name], llama.node, llama.base) for name in ("small", "large")}
    ids = prompt_ids(llama.base.tokenizer, PROMPT)
    expected = {name: continue_text(replace(llama, adapter=each), each, ids, 20) for name, each in adapters.items()}
    assert len(set(expected.values())) == 4  # control

    def ask(name):
        return client.completions.create(model=name, prompt=PROMPT, max_tokens=20, temperature=0).choices[0].text

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, [*expected] * 3)) == [*expected.values()] * 3


def test_a_chat_goes_through_the_template(client, server, llama):
    turns = [{"role": "system", "content": "say where"}, {"role": "user", "content": PROMPT}]
    answer = client.chat.completions.create(model=server.run, messages=turns, max_tokens=8, temperature=0)
    assert answer.choices[0].message.role == "assistant"
    expected = continue_text(llama, llama.adapter, reply_prompt(llama.base.tokenizer, turns), 8)
    assert answer.choices[0].message.content == expected
    parts = [{"role": "user", "content": [{"type": "text", "text": PROMPT}]}]
    assert client.chat.completions.create(model=server.run, messages=parts, max_completion_tokens=3).usage


def test_streams_are_the_whole_answers(client, server):
    asked = {"model": "large", "max_tokens": 12, "temperature": 0}
    whole = client.completions.create(prompt=[PROMPT, "soup"], **asked)
    texts = ["", ""]
    for part in client.completions.create(prompt=[PROMPT, "soup"], stream=True, **asked):
        texts[part.choices[0].index] += part.choices[0].text
    assert texts == [each.text for each in whole.choices]
    turns = [{"role": "user", "content": PROMPT}]
    chat = client.chat.completions.create(messages=turns, **asked)
    parts = list(
        client.chat.completions.create(messages=turns, stream=True, stream_options={"include_usage": True}, **asked)
    )
    assert (
        "".join(each.choices[0].delta.content or "" for each in parts if each.choices)
        == chat.choices[0].message.content
    )
    assert parts[0].choices[0].delta.role == "assistant"
    assert parts[-2].choices[0].finish_reason == chat.choices[0].finish_reason
    assert (parts[-1].choices, parts[-1].usage) == ([], chat.usage)


def test_a_stream_is_server_sent_events_that_end_with_done(server):
    body = {"model": server.run, "prompt": PROMPT, "max_tokens": 3, "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert lines[-1] == "data: [DONE]"
    assert all(json.loads(line.removeprefix("data: "))["object"] == "text_completion" for line in lines[:-1])


def test_a_stop_string_ends_the_text_before_it(client, server):
    asked = {"model": "small", "prompt": PROMPT, "max_tokens": 20, "temperature": 0}
    whole = client.completions.create(**asked).choices[0].text
    stop = whole[7:9]
    cut = client.completions.create(stop=stop, **asked).choices[0]
    assert (cut.text, cut.finish_reason) == (whole[: whole.index(stop)], "stop")


def test_a_seed_repeats_a_text(client, server):
    def draw(seed):
        asked = {"model": "small", "prompt": PROMPT, "max_tokens": 20, "temperature": 1.0, "top_p": 0.9}
        return client.completions.create(seed=seed, **asked).choices[0].text

    assert draw(1) == draw(1)
    assert len({draw(n) for n in range(4)}) > 1  # control


def test_the_clients_errors_are_its_own_classes(client, server):
    with pytest.raises(openai.NotFoundError, match=r"known: .*small"):
        client.completions.create(model="no", prompt="a")
    with pytest.raises(openai.BadRequestError, match="exceed the model's 513 positions"):
        client.completions.create(model=server.run, prompt="cow " * 600)
    with pytest.raises(openai.UnprocessableEntityError):
        client.completions.create(model=server.run, prompt="a", max_tokens="many")


def test_adapters_come_and_go_under_load(client, server, folders):
    """Texts that run keep their adapter, and those of others are not disturbed."""
    asked = {"prompt": PROMPT, "max_tokens": 120, "temperature": 0}
    expected, stopped, wrong = client.completions.create(model="large", **asked).choices[0].text, threading.Event(), []

    def load():
        while not stopped.is_set():
            text = client.completions.create(model="large", **asked).choices[0].text
            wrong.extend([text] if text != expected else [])

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        texts = set()
        for _ in range(5):
            post(server, "load_lora_adapter", lora_name="head", lora_path=str(folders["head"])).raise_for_status()
            parts = client.completions.create(model="head", stream=True, **asked)
            text = next(parts).choices[0].text
            post(server, "unload_lora_adapter", lora_name="head").raise_for_status()
            texts.add(text + "".join(each.choices[0].text for each in parts))
            with pytest.raises(openai.NotFoundError):
                client.completions.create(model="head", **asked)
    finally:
        stopped.set()
        for thread in threads:
            thread.join(timeout=60)
    assert wrong == []
    assert len(texts) == 1
    assert expected not in texts  # control


def post(server, place, **body):
    return httpx.post(f"{server.url}/v1/{place}", json=body, timeout=60)


def test_an_adapter_that_does_not_fit_is_400_with_the_module(server, run_of, tmp_path):
    answer = post(server, "load_lora_adapter", lora_name="a", lora_path=str(run_of("gpt2") / "adapter"))
    assert (answer.status_code, "was trained on the base model" in answer.text) == (400, True)
    it = load_run(run_of("gpt2"))
    write_peft_folder(tmp_path / "unstated", it.adapter, (), "base", "causal-lm")  # As other programs write it.
    answer = post(server, "load_lora_adapter", lora_name="a", lora_path=str(tmp_path / "unstated"))
    assert answer.status_code == 400
    assert "module transformer.h.0.attn.c_attn is not in the base model" in answer.json()["error"]["message"]
    answer = post(server, "load_lora_adapter", lora_name="a", lora_path=str(tmp_path))
    assert (answer.status_code, "cannot read" in answer.text) == (400, True)
    assert post(server, "unload_lora_adapter", lora_name=server.base).status_code == 400
    assert post(server, "unload_lora_adapter", lora_name="no").status_code == 404


def test_a_server_ends_with_status_0_at_a_signal(run_of, tmp_path):
    for stop in (signal.SIGTERM, signal.SIGINT):
        with served(tmp_path / "log", run_of("llama")) as (process, url):
            assert httpx.get(f"{url}/health", timeout=30).status_code == 200
            process.send_signal(stop)
            assert process.wait(timeout=60) == 0
        assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_key_from_the_environment_is_needed_by_those_who_ask(run_of, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLORA_API_KEY", "s3cret")
    with served(tmp_path / "log", run_of("llama"), "--host", "0.0.0.0") as (process, url):
        url = url.replace("0.0.0.0", "127.0.0.1")
        assert "s3cret" not in psutil.Process(process.pid).cmdline()
        with openai.OpenAI(base_url=f"{url}/v1", api_key="s3cret", max_retries=0, timeout=60) as client:
            assert len(list(client.models.list())) == 2
            with pytest.raises(openai.AuthenticationError):
                client.with_options(api_key="other").models.list()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 is not loopback, and there is no API key; set FEDLORA_API_KEY"),
        (["--api-key", ""], "--api-key is empty"),
        (["--adapter", "nothing"], "--adapter nothing: give NAME=DIR"),
        (["--adapter", "x=~nobody-here/x"], "begins with the home folder of no known user; write the whole path"),
        (["--adapter", "a=missing", "--port", "0"], "cannot read missing/adapter_config.json"),
        (["--host", "203.0.113.7", "--port", "0", "--api-key", "k"], "cannot listen at 203.0.113.7"),
    ],
)
def test_what_cannot_be_served_ends_with_status_2(run_of, words, reason):
    ended = call("serve", run_of("llama"), *words)
    assert (ended.status, ended.out) == (2, "")
    assert reason in ended.err


def test_a_port_that_is_taken_ends_with_status_2(run_of, server):
    port = server.url.rpartition(":")[2]
    ended = call("serve", run_of("llama"), "--port", port)
    assert ended.status == 2
    assert f"cannot listen at 127.0.0.1, --port {port}: Address already in use; give another --port" in ended.err


def test_an_adapter_of_another_base_ends_with_status_2(run_of):
    ended = end(start("serve", run_of("llama"), "--port", "0", "--adapter", f"other={run_of('gpt2') / 'adapter'}"))
    assert ended.status == 2
    assert "was trained on the base model" in ended.err
    assert "Traceback" not in ended.err


def test_the_help_teaches():
    ended = call("serve", "--help")
    for word in ("--adapter", "NAME=DIR", "--api-key", "FEDLORA_API_KEY", "--host", "--port", "docs/serving.md"):
        assert word in ended.out
