"""`/api/runs/{name}/examples`: what to say to a run's model."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from chatling.data.examples import example_prompts
from chatling.run_dir import STAGES
from chatling.serve import responses
from chatling.serve.openai import ERRORS

router = APIRouter(prefix="/api/runs/{name}/examples", responses=ERRORS)


@router.get("", response_model=responses.Examples)
async def examples(
    name: str, request: Request, stage: Annotated[str, Query(max_length=20)] = STAGES[-1]
) -> JSONResponse:
    """Prompts for a stage's model: questions, or for a base model beginnings of texts. None where
    the run keeps no such data.
    """
    models = request.app.state.service.models
    found = await asyncio.to_thread(lambda: example_prompts(models.folder(name), stage))
    return JSONResponse({"prompts": found})
