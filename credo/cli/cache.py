"""`credo cache`: the compiled steps that credo keeps on disk."""

import click

from credo.cli.mistakes import mistakes


@click.command()
@click.option("--clear", is_flag=True, help="Delete them; the next long run compiles its step again.")
def cache(clear: bool) -> None:
    """Show where compiled steps are kept and how large they are; --clear deletes them."""
    from credo.inference.capture.cache import cache_folder, cleared, kept

    with mistakes():
        folder = cache_folder()
        if clear:
            number, size = cleared(folder)
            click.echo(f"{folder}: deleted {number:,} compiled steps, {size / 1e6:,.1f} MB")
        else:
            number, size = kept(folder)
            click.echo(f"{folder}: {number:,} compiled steps, {size / 1e6:,.1f} MB")
