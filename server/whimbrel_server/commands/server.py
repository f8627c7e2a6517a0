"""``whimbrel server …``: make, run and check a fleet server."""

from __future__ import annotations

import os
from pathlib import Path

import click

_FILE = click.Path(path_type=Path)
_CONFIG = click.option(
    "--config",
    "config_file",
    type=_FILE,
    default=Path("server.toml"),
    show_default=True,
    help="The server's configuration.",
)


@click.group(epilog="Example: whimbrel server run --config fleet/server.toml")
def server() -> None:
    """Run the fleet server: telemetry, drift, rollouts, dashboard."""


@server.command(
    epilog="Example: whimbrel server init --dir fleet --repo repository --online-keys online"
)
@click.option("--dir", "directory", type=_FILE, required=True, help="New folder of the server.")
@click.option("--repo", "repository", type=_FILE, required=True, help="The bundle repository.")
@click.option(
    "--online-keys",
    type=_FILE,
    help="Folder with snapshot.pem, timestamp.pem and fleet.pem, as 'whimbrel repo init' made it.",
)
@click.option("--http-host", default="127.0.0.1", show_default=True, help="Where the web listens.")
@click.option("--http-port", type=click.IntRange(0, 65535), default=8500, show_default=True)
@click.option("--public-url", default="", help="What devices call this server, e.g. https://fleet.")
@click.option("--mqtt-host", default="127.0.0.1", show_default=True, help="The broker.")
@click.option("--mqtt-port", type=click.IntRange(1, 65535), default=8883, show_default=True)
@click.option("--embedded-broker", is_flag=True, help="A broker inside the server: for trying out.")
@click.option("--token-file", type=_FILE, help="Also write the operator token there (mode 0600).")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def init(  # noqa: PLR0917 - click hands every option over by keyword
    directory: Path,
    repository: Path,
    online_keys: Path | None,
    http_host: str,
    http_port: int,
    public_url: str,
    mqtt_host: str,
    mqtt_port: int,
    embedded_broker: bool,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Make a server's folder: authority, certificates, configuration, operator token."""
    import msgspec

    from whimbrel_server import enrolment, provision
    from whimbrel_server.api.access import hash_token, new_token

    token = new_token()
    plan = provision.Plan(
        directory=directory,
        repository=repository,
        online_keys=online_keys,
        http_host=http_host,
        http_port=http_port,
        mqtt_host=mqtt_host,
        mqtt_port=mqtt_port,
        embedded_broker=embedded_broker,
        public_url=public_url,
    )
    if token_file is not None:
        enrolment.write_secret(token_file, token.encode("ascii") + b"\n")
    try:
        files = provision.make(plan, token_hash=hash_token(token), now=enrolment.now_utc())
    except BaseException:  # Ctrl-C, too, must leave no token of no server
        if token_file is not None:
            token_file.unlink(missing_ok=True)
        raise
    config = directory / "server.toml"
    if as_json:
        value = {
            "directory": str(directory),
            "config": str(config),
            "files": [str(file) for file in files],
            "token": None if token_file is not None else token,
            "token_file": str(token_file) if token_file is not None else None,
        }
        click.echo(msgspec.json.encode(value))
        return
    click.echo(f"made {directory}: {', '.join(file.name for file in files)}")
    if token_file is None:
        click.echo(f"operator token (shown once, only its hash is kept): {token}")
    else:
        click.echo(f"operator token: {token_file}")
    if embedded_broker:
        click.echo("broker: embedded; loopback only, no TLS, no authorisation: for trying out")
    else:
        click.echo(f"broker: mosquitto -c {directory / 'mosquitto.conf'}")
    click.echo(f"next: whimbrel server run --config {config}")


@server.command(epilog="Example: whimbrel server run --config fleet/server.toml")
@_CONFIG
@click.option("--http-port", type=click.IntRange(0, 65535), help="Instead of the configured one.")
@click.option("--verbose", is_flag=True, help="Log debugging details.")
def run(config_file: Path, http_port: int | None, verbose: bool) -> None:
    """Run the server until it is interrupted."""
    from whimbrel_server import config, running

    settings = config.load(config_file, os.environ, {"http.port": http_port})
    running.run(settings, env=os.environ, verbose=verbose)


@server.command(epilog="Example: whimbrel server check --config fleet/server.toml")
@_CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def check(context: click.Context, config_file: Path, as_json: bool) -> None:
    """Look at configuration, keys, repository, broker and store; exit 1 on a problem."""
    import msgspec

    from whimbrel_server import checks, config

    settings = config.load(config_file, os.environ)
    findings = checks.look(settings)
    if as_json:
        click.echo(msgspec.json.encode(findings))
    else:
        for finding in findings:
            click.secho("ok      " if finding.ok else "problem ", nl=False, bold=not finding.ok)
            click.echo(f"{finding.what}: {finding.found}")
            if finding.hint:
                click.echo(f"        hint: {finding.hint}")
    if not all(finding.ok for finding in findings):
        context.exit(1)
