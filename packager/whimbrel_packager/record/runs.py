"""Runs: under which id a tracker, a pipeline or a build server knows the training of a model.

They are read from where those tools leave them, the environment and the folders they write, and
never asked over a network. A run that cannot be told to be the model's own is not taken.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from whimbrel_packager.record.checkout import Checkout

# Build servers, and the variable in which each says where a build can be seen.
_BUILDS = (
    ("gitlab", "CI_JOB_URL"),
    ("gitlab", "CI_PIPELINE_URL"),
    ("jenkins", "BUILD_URL"),
    ("buildkite", "BUILDKITE_BUILD_URL"),
    ("circleci", "CIRCLE_BUILD_URL"),
    ("ci", "CI_BUILD_URL"),
)
_MLFLOW_RUN = re.compile(r"[0-9a-f]{32}")
_MLFLOW_MODEL = re.compile(r"m-[0-9a-f]{32}")
_WANDB_FOLDER = re.compile(r"(?:offline-)?run-\d{8}_\d{6}-(?P<id>[\w-]+)")


def find(
    model: Path | None, code: Path | None, checkout: Checkout | None, env: Mapping[str, str]
) -> dict[str, str]:
    """Return run ids by tool.

    Args:
        model: the model's file, if it is one.
        code: folder of the training code.
        checkout: its repository.
        env: environment variables.
    """
    found = {"mlflow": env.get("MLFLOW_RUN_ID", "") or _mlflow(model)}
    found["wandb"] = _wandb_named(env) or _wandb(model, code, checkout)
    found["pachyderm"] = env.get("PACH_JOB_ID", "")
    found.update(_build(env))
    return {tool: run for tool, run in sorted(found.items()) if run}


def _build(env: Mapping[str, str]) -> dict[str, str]:
    server, project = env.get("GITHUB_SERVER_URL", ""), env.get("GITHUB_REPOSITORY", "")
    if server and project and (run := env.get("GITHUB_RUN_ID", "")):
        url = f"{server}/{project}/actions/runs/{run}"
        attempt = env.get("GITHUB_RUN_ATTEMPT", "1")
        return {"github": url if attempt == "1" else f"{url}/attempts/{attempt}"}
    for tool, variable in _BUILDS:
        if env.get(variable):
            return {tool: env[variable]}
    return {}


def _mlflow(model: Path | None) -> str:
    """Return the run in whose folder of artifacts a model lies: ``mlruns/<experiment>/<run>/…``."""
    parts = model.resolve().parts if model else ()
    for i, part in enumerate(parts):
        if part != "mlruns":
            continue
        below = parts[i + 1 :]
        if len(below) > 2 and below[2] == "artifacts" and _MLFLOW_RUN.fullmatch(below[1]):  # noqa: PLR2004
            return below[1]
        # MLflow 3 keeps models beside runs: mlruns/<experiment>/models/<model>/artifacts/…
        if len(below) > 3 and below[1] == "models" and _MLFLOW_MODEL.fullmatch(below[2]):  # noqa: PLR2004
            return below[2]
    return ""


def _wandb_named(env: Mapping[str, str]) -> str:
    run = env.get("WANDB_RUN_ID", "")
    parts = (env.get("WANDB_ENTITY", ""), env.get("WANDB_PROJECT", ""), run)
    return "/".join(part for part in parts if part) if run else ""


def _wandb(model: Path | None, code: Path | None, checkout: Checkout | None) -> str:
    """Return the run in whose folder a model lies, or the latest one if it ran this very commit."""
    for folder in model.resolve().parents if model else ():
        if folder.parent.name == "wandb" and (found := _WANDB_FOLDER.fullmatch(folder.name)):
            return found["id"]
    if code is None or checkout is None or checkout.dirty:
        return ""
    latest = (code / "wandb" / "latest-run").resolve()
    named = _WANDB_FOLDER.fullmatch(latest.name)
    if named is None:
        return ""
    try:
        metadata = json.loads((latest / "files" / "wandb-metadata.json").read_bytes())
        ran = metadata["git"]["commit"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return named["id"] if ran == checkout.commit else ""
