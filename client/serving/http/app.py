"""The application: each route reads a request, lets the engine compute, and answers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from client.finished.run import Trained
from client.serving.classifier import Classifier
from client.serving.decoder import Decoder
from client.serving.engine import Engine
from client.serving.http.answers import Form, Stream, classes
from client.serving.http.errors import ApiError, add_error_answers
from client.serving.http.guard import Guard
from client.serving.http.pending import Pending
from client.serving.http.schemas import ChatBody, ClassifyBody, CompletionBody, Generation, LoadBody, UnloadBody, parse
from client.serving.http.texts import Texts
from client.serving.jobs import Job
from client.serving.limits import Limits
from client.serving.models import Models, Served
from common.errors import ModelError
from common.settings.tasks import TASKS, problem_of


@dataclass(frozen=True, eq=False)
class Service:
    """What the routes use."""

    trained: Trained
    models: Models
    engine: Engine
    texts: Texts

    @property
    def continues(self) -> bool:
        """Whether the model continues texts; otherwise it classifies them."""
        return TASKS[self.trained.node.data.task].causal


def make_service(trained: Trained, models: Models, limits: Limits) -> Service:
    """Put together what serves a run.

    Raises:
        ModelError: the model cannot be served.
    """
    data = trained.node.data
    if TASKS[data.task].seq2seq:
        raise ModelError(
            f"{trained.base.folder} is an encoder with a decoder, and serve answers with decoders and classifiers; use "
            "`fedlora generate`, or `fedlora merge` and a server for such models"
        )
    model = Decoder(trained.base, limits) if TASKS[data.task].causal else Classifier(trained.base, limits)
    texts = Texts(trained.base, data.max_length, limits, fold=data.system == "fold")
    return Service(trained, models, Engine(model, limits), texts)


def make_app(service: Service, key: str | None, limits: Limits) -> FastAPI:
    """Return the application, whose engine runs as long as it does; with a key, only those who have it are served."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.engine.start()
        yield
        await asyncio.to_thread(service.engine.stop)

    app = FastAPI(title="fedlora", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.include_router(_generation_routes(service))
    app.include_router(_model_routes(service))
    add_error_answers(app)
    app.add_middleware(Guard, key=key, limits=limits)
    return app


def _generation_routes(service: Service) -> APIRouter:
    routes = APIRouter()

    @routes.post("/v1/completions")
    async def complete(request: Request) -> Response:
        body = parse(CompletionBody, await request.body())
        model = _model(service, body.model, continues=True)
        jobs = await asyncio.to_thread(service.texts.completion, body, model)
        return await _answer(service, request, body, jobs, Form(body.model, chat=False))

    @routes.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = parse(ChatBody, await request.body())
        model = _model(service, body.model, continues=True)
        jobs = await asyncio.to_thread(service.texts.chat, body, model)
        return await _answer(service, request, body, jobs, Form(body.model, chat=True))

    @routes.post("/v1/classify")
    async def classify(request: Request) -> Response:
        body = parse(ClassifyBody, await request.body())
        model = _model(service, body.model, continues=False)
        jobs, cut = await asyncio.to_thread(service.texts.classify, body, model)
        found = await Pending(service.engine, jobs).collect(request)
        data = service.trained.node.data
        return JSONResponse(classes(body.model, problem_of(data), data.labels, found, cut))

    return routes


def _model(service: Service, name: str, continues: bool) -> Served:
    """Return the model of a request.

    Raises:
        UnknownModelError: it is not served.
        ApiError: it is of the other kind.
    """
    model = service.models.find(name)
    if continues and not service.continues:
        raise ApiError(400, f"{name!r} classifies; use /v1/classify", "model")
    if service.continues and not continues:
        raise ApiError(400, f"{name!r} continues texts; use /v1/completions or /v1/chat/completions", "model")
    return model


async def _answer(service: Service, request: Request, body: Generation, jobs: Sequence[Job], form: Form) -> Response:
    pending = Pending(service.engine, jobs)
    if body.stream:
        return Stream(pending, form, body.stream_options.include_usage)
    return JSONResponse(form.whole(jobs, await pending.collect(request)))


def _model_routes(service: Service) -> APIRouter:
    routes = APIRouter()

    @routes.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_card(each, service.models.base) for each in service.models.all]}

    @routes.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        return _card(service.models.find(name), service.models.base)

    @routes.get("/health")
    async def health() -> Response:
        alive = service.engine.alive
        return JSONResponse({"status": "ok" if alive else "failed"}, 200 if alive else 503)

    @routes.post("/v1/load_lora_adapter")
    async def load(request: Request) -> dict[str, str]:
        body = parse(LoadBody, await request.body())
        await asyncio.to_thread(service.models.add, body.lora_name, Path(body.lora_path))
        return {"status": f"{body.lora_name} is served"}

    @routes.post("/v1/unload_lora_adapter")
    async def unload(request: Request) -> dict[str, str]:
        body = parse(UnloadBody, await request.body())
        service.models.remove(body.lora_name)
        return {"status": f"{body.lora_name} is no longer served"}

    return routes


def _card(model: Served, base: str) -> dict[str, Any]:
    parent = None if model.is_base else base
    return {"id": model.name, "object": "model", "created": model.created, "owned_by": "fedlora", "parent": parent}
