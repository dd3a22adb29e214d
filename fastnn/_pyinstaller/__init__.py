"""Tells PyInstaller where the hook is that collects what fastnn imports by name and the files it reads."""

import os


def get_hook_dirs() -> list[str]:
    """Return the folder of the hook, for the entry point "pyinstaller40"."""
    return [os.path.dirname(__file__)]
