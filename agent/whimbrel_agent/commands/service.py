"""tbd."""
import click
@click.command()
def service() -> None:
    """tbd."""
