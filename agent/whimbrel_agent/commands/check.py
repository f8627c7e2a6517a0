"""tbd."""
import click
@click.command()
def check() -> None:
    """tbd."""
