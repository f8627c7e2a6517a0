"""``whimbrel agent serve``: one bundle, at once, without a fleet."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from whimbrel_agent.config import Config
    from whimbrel_agent.control.app import Application
    from whimbrel_agent.update.messages import Failure, Proven
    from whimbrel_core.errors import WhimbrelError


@click.command(
    epilog="Example: whimbrel agent serve flights-1.0.0.whim --key keys/bundle.pub --port 8080"
)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--key",
    "key_path",
    type=click.Path(path_type=Path),
    required=True,
    help="The publisher's public key (PEM).",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to answer on.")
@click.option("--port", type=int, default=8080, show_default=True, help="Port; 0 is any.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Keep profiles and windows there (default: a temporary folder).",
)
def serve(bundle: Path, key_path: Path, host: str, port: int, data_dir: Path | None) -> None:
    """Verify BUNDLE, prove it on this machine, and serve it until Ctrl-C."""
    with tempfile.TemporaryDirectory(prefix="whimbrel-") as temporary:
        _serve(bundle, key_path, _config(data_dir or Path(temporary), host, port))


def _config(data_dir: Path, host: str, port: int) -> Config:
    from whimbrel_agent import config

    return config.check(
        config.Config(
            device_id="try-out",
            data_dir=str(data_dir.resolve()),
            http=config.Http(host=host, port=port),
        ),
        "command line",
    )


def _serve(bundle: Path, key_path: Path, config: Config) -> None:
    from whimbrel_agent.control import app

    proven = _install(bundle, key_path, config)

    def ready(application: Application) -> None:
        address = f"http://{application.listeners.host}:{application.listeners.port}"
        click.echo(
            f"{proven.name} {proven.version} verified and proven on {proven.parity_rows} rows; "
            f"{proven.latency_us:.0f} µs a row, {proven.memory_bytes / 1e6:.0f} MB"
        )
        click.echo(f"metadata  {address}/v2/models/{proven.name}")
        click.echo(f"infer     POST {address}/v2/models/{proven.name}/infer")
        click.echo(f"metrics   {address}/metrics")

    app.run(config, on_ready=ready)


def _refusal(failure: Failure | None, copy: str, bundle: Path) -> WhimbrelError:
    """Return why the probe refused ``bundle``; it knows it under the name of its copy alone."""
    from whimbrel_core.errors import InputError, RefusedError, TrustError

    code = failure.code if failure is not None else "probe.crash"
    message = failure.message if failure is not None else "the probe gave no answer"
    hint = (failure.hint if failure is not None else "") or "nothing was served"
    families: dict[str, type[WhimbrelError]] = {"trust": TrustError, "bundle": InputError}
    family = families.get(code.partition(".")[0], RefusedError)
    return family(message.replace(copy, str(bundle)), code=code, hint=hint)


def _install(bundle: Path, key_path: Path, config: Config) -> Proven:
    """Prove the bundle and put it into the slot that has its model's name."""
    import asyncio

    from whimbrel_agent.control.slots import SlotStore
    from whimbrel_agent.control.state import StateFile
    from whimbrel_agent.paths import DataDirectory, replace_file
    from whimbrel_agent.update import child, machine
    from whimbrel_agent.update.messages import ProbeRequest, PublisherKey
    from whimbrel_core.errors import InputError, WhimbrelError
    from whimbrel_core.identity import sha256
    from whimbrel_core.signing.keys import PublicKey
    from whimbrel_core.wire.assignment import Probation, SlotAssignment

    try:
        data = bundle.read_bytes()
        key = key_path.read_bytes()
    except OSError as error:
        msg = f"{error.filename} cannot be read: {error.strerror}"
        hint = "give the .whim file and the publisher's .pub file; nothing was served"
        raise InputError(msg, code="input.file", hint=hint) from error
    try:
        pem = PublicKey.from_pem(key).pem
    except WhimbrelError as error:
        msg = f"--key {key_path}: {error.message}; nothing was served"
        raise InputError(msg, code=error.code, hint=error.hint) from error
    home = DataDirectory(config.data_dir)
    home.create()
    digest = sha256(data)
    replace_file(home.bundle(digest), data)
    answer = asyncio.run(
        child.run(
            "whimbrel_agent.update.probe",
            ProbeRequest(
                path=str(home.bundle(digest)),
                digest=digest,
                keys=(PublisherKey(pem),),
                memory_bytes=config.limits.probe_memory_bytes,
                cpu_s=int(config.limits.probe_timeout_s),
            ),
            timeout_s=config.limits.probe_timeout_s,
            what="probe",
        )
    )
    proven = answer.proven
    if proven is None:
        home.bundle(digest).unlink()
        raise _refusal(answer.failure, home.bundle(digest).name, bundle)
    assigned = SlotAssignment(bundle.name, digest, len(data), probation=Probation(rows=0))
    installed = machine.Installed(
        assigned,
        name=proven.name,
        version=proven.version,
        release=proven.release,
        memory_bytes=proven.memory_bytes,
        latency_us=proven.latency_us,
        parity_passed=True,
        keys=(pem,),
    )
    state = StateFile(home.database)
    try:
        slots = SlotStore(state)
        for other in slots.load().values():
            # This command serves exactly one bundle, whatever an earlier try left here.
            slots.save(machine.SlotState(other.slot))
        slots.save(
            machine.SlotState(
                proven.name, phase="serving", wanted=assigned, current=installed, committed=True
            )
        )
    finally:
        state.close()
    return proven
