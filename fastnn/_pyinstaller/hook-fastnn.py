"""PyInstaller's hook: collects all modules, which fastnn imports when they are used, MNIST and the report's page."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules, copy_metadata

hiddenimports = collect_submodules("fastnn", filter=lambda name: not name.startswith("fastnn._pyinstaller"))
datas = collect_data_files("fastnn") + copy_metadata("fastnn-digits")
