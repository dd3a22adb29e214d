"""The `fastnn` command. `main` is imported when it is first used: signals are answered before that."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastnn.cli.command import main

__all__ = ["main"]


def __getattr__(name: str) -> Any:
    if name == "main":
        from fastnn.cli.command import main

        return main
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
