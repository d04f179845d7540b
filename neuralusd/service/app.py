"""The service over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from .._version import __version__
from .client import PROTOCOL, proof
from .errors import Refused, not_found
from .jobs import Job
from .service import Service
from .verbs import describe


class Asked(BaseModel):
    """A job that is asked for. The key, where there is one, makes asking twice the same job."""

    model_config = ConfigDict(extra="forbid")
    verb: Annotated[str, Field(max_length=100)]
    arguments: dict[str, Any] = {}
    key: Annotated[str, Field(max_length=100)] = ""


class Stop(BaseModel):
    """`if_idle`: only where there is nothing to do."""

    if_idle: bool = False


def make_app(service: Service) -> FastAPI:
    """The routes; who asks is known by then (see `Gate`)."""
    app = FastAPI(title="neuralusd", version=__version__, docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json")

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return _error(error.status, error.code, error.message, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"][1:])
        return _error(
            400, "bad_argument", f"The request is not understood: {where} {problem['msg']}.".replace("  ", " ")
        )

    @app.exception_handler(HTTPException)
    async def failed(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code in (404, 405):
            return _error(error.status_code, "not_found", "There is nothing here by this name and method.")
        return _error(error.status_code, "bad_argument", f"The request is not understood: {error.detail}.")

    @app.get("/v1/health")
    async def health(challenge: Annotated[str, Query(max_length=100)] = "") -> dict[str, Any]:
        found = {"service": "neuralusd", "protocol": PROTOCOL, "version": __version__}
        if challenge and service.own_token:
            found["proof"] = proof(service.own_token, challenge)
        return found

    @app.get("/v1/info")
    async def info() -> dict[str, Any]:
        return {
            "protocol": PROTOCOL,
            "version": __version__,
            "verbs": describe(),
            "backends": service.backends(),
            "device": service.supervisor.device,
            "local": not service.settings.shared,
            "limits": service.limits(),
        }

    @app.post("/v1/uploads", status_code=201)
    async def upload(request: Request, name: Annotated[str, Query(max_length=1000)]) -> dict[str, Any]:
        length = request.headers.get("content-length")
        return await service.upload(_user(request), name, int(length) if length else None, request.stream())

    @app.delete("/v1/uploads/{identifier}")
    async def remove_upload(request: Request, identifier: str) -> dict[str, Any]:
        service.remove_upload(_user(request), identifier)
        return {}

    @app.post("/v1/jobs", status_code=201)
    async def submit(request: Request, asked: Asked) -> dict[str, Any]:
        return {"id": service.submit(_user(request), asked.verb, asked.arguments, asked.key).id}

    @app.get("/v1/jobs")
    async def jobs(request: Request) -> dict[str, Any]:
        return {"jobs": [_described(job) for job in service.jobs.of(_user(request))]}

    @app.get("/v1/jobs/{identifier}")
    async def job(request: Request, identifier: str) -> dict[str, Any]:
        return _described(_job(request, identifier))

    @app.delete("/v1/jobs/{identifier}")
    async def remove(request: Request, identifier: str) -> dict[str, Any]:
        found = _job(request, identifier)
        if not found.over:
            raise Refused("The job has not ended. Cancel it first.", "running", 409)
        service.jobs.remove(found)
        return {}

    @app.post("/v1/jobs/{identifier}/cancel")
    async def cancel(request: Request, identifier: str) -> dict[str, Any]:
        found = _job(request, identifier)
        service.supervisor.cancel(found)
        return _described(found)

    @app.get("/v1/jobs/{identifier}/events")
    async def events(
        request: Request,
        identifier: str,
        after: Annotated[int, Query(ge=0)] = 0,
        beat: Annotated[float, Query(ge=0.1, le=30)] = 5.0,
    ) -> StreamingResponse:
        found = _job(request, identifier)
        return StreamingResponse(_lines(found, after, beat), media_type="application/x-ndjson")

    @app.get("/v1/jobs/{identifier}/preview")
    async def preview(request: Request, identifier: str) -> Response:
        path = _job(request, identifier).folder / "preview.png"
        try:
            return Response(path.read_bytes(), media_type="image/png")
        except OSError:
            return Response(status_code=204)

    @app.get("/v1/jobs/{identifier}/files/{name}")
    async def file(request: Request, identifier: str, name: str) -> FileResponse:
        found = _job(request, identifier)
        path = found.folder / "files" / name
        if name not in found.files or not path.is_file():
            raise not_found("file")
        return FileResponse(path, media_type="application/octet-stream")

    @app.post("/v1/shutdown")
    async def shutdown(asked: Stop) -> dict[str, Any]:
        if service.settings.shared:
            raise Refused("Only whoever runs this service stops it.", "not_offered", 403)
        if asked.if_idle and service.busy:
            raise Refused("The service has jobs to do.", "busy", 409)
        service.stop("it was asked to")
        return {}

    def _job(request: Request, identifier: str) -> Job:
        found = service.jobs.get(identifier, _user(request))
        if found is None:
            raise not_found("job")
        return found

    def _described(job: Job) -> dict[str, Any]:
        return job.describe(service.queue.position(job))

    async def _lines(job: Job, after: int, beat: float) -> AsyncIterator[bytes]:
        told = None
        async for event in job.since(after, beat, service.closing):
            position = service.queue.position(job)
            if event is None:
                event = {"event": "beat"} if position == told else job.event("queue")
            told = position
            yield json.dumps({**event, "position": position}).encode() + b"\n"

    return app


def _user(request: Request) -> str:
    return str(request.scope["user_name"])


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


__all__ = ["make_app"]
