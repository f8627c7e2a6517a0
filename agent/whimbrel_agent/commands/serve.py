"""tbd."""
import click
@click.command()
def serve() -> None:
    """tbd."""
