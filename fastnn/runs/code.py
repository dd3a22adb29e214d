"""`RunCode`: the command line, and the Python code, that repeat a run to the same bits."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from fastnn.optim.augmentation import Augment
from fastnn.optim.config import OPTIONS, TrainingConfig, as_plain
from fastnn.optim.optimizers import LBFGS, SGD, Adam, AdamW
from fastnn.optim.stopping import EarlyStopping
from fastnn.runs.plan import Plan, default_config
from fastnn.runs.recipes import get_recipe

# The classes of settings that have a place among the public names.
_PUBLIC = (SGD, Adam, AdamW, LBFGS, EarlyStopping, Augment)
_LINE = 100  # a call with longer arguments has a line for each


class RunCode:
    """How a run that `fastnn train` or `fastnn play` planned can be repeated.

    Parameters
    ----------
    plan : Plan
    recorded : dict
        The settings of the run, as the report of a run has them.
    """

    def __init__(self, plan: Plan, recorded: Mapping[str, Any]) -> None:
        self._recorded = recorded
        recipe = recorded["recipe"]
        self._usual = default_config(len(plan.splits.train)) if recipe is None else get_recipe(recipe).config

    def command(self, config: TrainingConfig, backend: str) -> str | None:
        """Return the command line; None if the options of the command cannot express the settings.

        config: the settings of the run with the number of its learning rate
        backend: the one that trained, which determines the bits
        """
        settings = self._options(config, backend)
        if settings is None:
            return None
        return shlex.join(["fastnn", "train", *self._data_options(), *self._network_options(), *settings])

    def python(self, config: TrainingConfig, backend: str, stopped_after: int | None = None) -> str:
        """Return the lines of Python. The last one prints the digest of the result.

        stopped_after: the epoch after which the run was stopped, if it was
        """
        recorded, arguments = self._recorded, python_settings(config, backend)
        uses_plan = recorded["files"] or recorded["from"] or recorded["standardize"]
        training, validation = "splits.train", "splits.validation"
        split_seed = config.seed if recorded.get("split_seed") is None else recorded["split_seed"]
        lines = ["import fastnn"]
        read = "split_blocks" if "block_rows" in recorded["reading"] else "split_files"
        if recorded["files"]:
            lines.append(f"from fastnn.{'streams' if read == 'split_blocks' else 'datasets'}.splits import {read}")
        if recorded["layers"] and not recorded["from"]:
            lines.append("from fastnn.network.layers import parse_layers")
        if uses_plan:
            lines.append("from fastnn.runs.plan import make_plan")
        if recorded["files"]:
            reading = {name: _literal(value) for name, value in recorded["reading"].items()}
            values = {"paths": _literal(list(recorded["files"])), "seed": _literal(split_seed), **reading}
            splits = _call(read, values, n_positional=2)
        else:
            splits = f"fastnn.get_recipe({_literal(recorded['recipe'])}).load(seed={split_seed})"
        lines += ["", f"splits = {splits}"]
        if recorded["layers"]:
            hidden = f"parse_layers({_literal(recorded['layers'])})"
        else:
            hidden = _literal(tuple(recorded["hidden"]))
        network = {} if recorded["from"] else self._network_arguments(config)
        if uses_plan:
            first = {"splits": "splits", "hidden": "()" if recorded["from"] else hidden}
            if recorded["from"]:
                first |= {"config": "config", "start": f"fastnn.load({_literal(recorded['from'])})"}
            else:
                first |= {"config": "config", "standardize": _literal(recorded["standardize"])}
            lines.append(_call("config = fastnn.TrainingConfig", arguments))
            lines.append(_call("plan = make_plan", first | network, n_positional=3))
            lines.append("training, validation = map(plan.for_training, (plan.splits.train, plan.splits.validation))")
            arguments = {"config": "config"}
            training, validation, start = "training", "validation", "plan.network"
        else:
            network = {"data": "splits.train", "hidden": hidden, **network}
            lines.append(_call("network = fastnn.Network.for_data", network, n_positional=2))
            start = "network"
        arguments = {"network": start, "data": training, "validation": validation, **arguments}
        if recorded.get("class_weight"):
            arguments["sample_weight"] = _class_weights(recorded["class_weight"], f"{'plan.' * bool(uses_plan)}splits")
        if stopped_after is not None:
            arguments["callbacks"] = f"[lambda end: end.record.epoch == {stopped_after}]"
        lines.append(_call("result = fastnn.train", arguments, n_positional=2))
        return "\n".join([*lines, "print(result.digest())", ""])

    def _network_arguments(self, config: TrainingConfig) -> dict[str, str]:
        """Return the arguments of `Network.for_data` that differ from its defaults."""
        recorded, found = self._recorded, {}
        if recorded["activation"] not in (None, "relu"):
            found["activation"] = _literal(recorded["activation"])
        if recorded["dtype"] != "float32":
            found["dtype"] = _literal(recorded["dtype"])
        if recorded["initializer"] not in (None, "auto"):
            found["initializer"] = _literal(recorded["initializer"])
        return {**found, "seed": _literal(config.seed)}

    def _data_options(self) -> list[str]:
        recorded, found = self._recorded, []
        if recorded["recipe"] is not None:
            found += ["--recipe", recorded["recipe"]]
        if recorded["files"]:
            found += ["--data", *recorded["files"]]
            for name, value in recorded["reading"].items():
                option = f"--{name.replace('_', '-')}"
                if isinstance(value, bool):
                    found.append(option if value else f"--no-{option[2:]}")
                elif name == "image_shape":
                    found += [option, "{}x{}".format(*value)]
                elif name == "drop":
                    found += [option, *map(str, value)]
                else:
                    found += [option, str(value)]
            found.append("--standardize" if recorded["standardize"] else "--no-standardize")
        elif recorded["standardize"]:
            found.append("--standardize")
        if recorded.get("split_seed") is not None:
            found += ["--split-seed", str(recorded["split_seed"])]
        if recorded["from"]:
            found += ["--from", recorded["from"]]
        if recorded.get("class_weight"):
            found += ["--class-weight", *recorded["class_weight"]]
        return found

    def _network_options(self) -> list[str]:
        recorded = self._recorded
        if recorded["from"]:
            return []
        hidden = recorded["hidden"]
        found = ["--layers", recorded["layers"]] if recorded["layers"] else ["--hidden", *map(str, hidden)]
        activation = recorded["activation"]
        if activation not in (None, "relu"):
            found += ["--activation", *([activation] if isinstance(activation, str) else activation)]
        if recorded["initializer"] not in (None, "auto"):
            found += ["--initializer", recorded["initializer"]]
        if recorded["dtype"] != "float32":
            found += ["--dtype", recorded["dtype"]]
        return found

    def _options(self, config: TrainingConfig, backend: str) -> list[str] | None:
        """Return the options of the settings that differ from the usual ones; None if one has no text."""
        usual = self._usual
        is_lbfgs = isinstance(config.update_rule, LBFGS)
        if is_lbfgs:
            usual = usual.adapted(optimizer="lbfgs")  # which settings it changes by itself
        before, now = usual.to_dict(), _pinned(config, backend).to_dict()
        needed = {"backend", "optimizer" if is_lbfgs else "learning_rate"}
        found = []
        for name, value in now.items():
            if value == before[name] and name not in needed:
                continue
            if name not in OPTIONS or isinstance(value, dict) or (value is None and name != "batch_size"):
                return None
            text = "full" if value is None else str(value)
            if isinstance(value, list):  # the rates of dropout: a single one is that of the inputs, too
                text = ",".join(map(str, value)) + "," * (len(value) == 1)
            found += [f"--{(OPTIONS[name].flag or name).replace('_', '-')}", text]
        return found


def python_settings(config: TrainingConfig, backend: str) -> dict[str, str]:
    """Return the settings that differ from the defaults as Python code, by name, with all that the bits depend on."""
    return {name: _literal(value) for name, value in _pinned(config, backend).changed().items()}


def _pinned(config: TrainingConfig, backend: str) -> TrainingConfig:
    """Return the settings with the backend that trained. The bits of the Numba backend do not depend on threads."""
    return config.replace(backend=backend, threads=None if backend == "numba" else config.threads)


def _literal(value: Any) -> str:
    """Return a value as Python code, with texts in double quotes. Objects of fastnn have the name of their package."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (list, tuple)):
        texts = ", ".join(map(_literal, value))
        return f"[{texts}]" if isinstance(value, list) else f"({texts}{',' * (len(value) == 1)})"
    if isinstance(as_plain(value), dict) and type(value).__module__.startswith("fastnn."):
        package = "fastnn" if type(value) in _PUBLIC else type(value).__module__
        return f"{package}.{value!r}"
    return repr(as_plain(value))


def _class_weights(given: list[str], splits: str) -> str:
    if given == ["balanced"]:
        return f"fastnn.class_weights({splits}.train)"
    weights = {label: float(number) for label, _, number in (text.rpartition("=") for text in given)}
    return f"fastnn.class_weights({splits}.train, {weights!r})"


def _call(function: str, arguments: Mapping[str, str], n_positional: int = 0) -> str:
    """Return a call; on several lines if one would be long."""
    texts = [value if k < n_positional else f"{name}={value}" for k, (name, value) in enumerate(arguments.items())]
    line = f"{function}({', '.join(texts)})"
    if len(line) <= _LINE:
        return line
    rows: list[str] = []
    for text in texts:
        if rows and len(rows[-1]) + len(text) + 2 <= _LINE:
            rows[-1] += f" {text},"
        else:
            rows.append(f"    {text},")
    return "\n".join([f"{function}(", *rows, ")"])
