"""Layers as text, such as ``conv:6x5,pool:2,120``: for the command line, settings files and recipes.

=====================  ==========================================================================================
text                   layer
=====================  ==========================================================================================
``120``                ``Dense(120)``
``conv:6x5``           ``Conv2D(6, 5)``: channels x kernel; ``conv:6x3x5`` has a kernel of height 3 and width 5
``pool:2``             ``MaxPool2D(2)``; ``pool:2x3`` has windows of height 2 and width 3; ``maxpool`` is the same
``avgpool:2``          ``AvgPool2D(2)``
``norm``               ``BatchNorm()``
=====================  ==========================================================================================

After the sizes of a convolution or a pool, ``s2`` or ``s2x1`` is its stride and ``p1`` or ``p1x0`` its padding;
convolutions have ``same``, too. Any layer may end with its activation: ``conv:6x5:tanh``.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fastnn.checks import short
from fastnn.errors import SettingsError
from fastnn.network.activations import ACTIVATIONS
from fastnn.network.layers.base import Layer
from fastnn.network.layers.batch_norm import BatchNorm
from fastnn.network.layers.convolution import Conv2D
from fastnn.network.layers.dense import Dense
from fastnn.network.layers.pooling import AvgPool2D, MaxPool2D
from fastnn.network.layers.windows import Pair, pair_text
from fastnn.suggestions import did_you_mean

_SIZES = re.compile(r"(\d{1,18}(?:x\d{1,18})*)((?:same|[sp]\d{1,18}(?:x\d{1,18})?)*)")
_OPTION = re.compile(r"(same)|([sp])(\d+(?:x\d+)?)")
_OPTION_NAMES = {"s": "stride", "p": "padding"}


class _Form(NamedTuple):
    """How the sizes of a kind of layer are written."""

    make: Callable[..., Layer]  # of the numbers, of stride and padding by name, and of the activation
    example: str
    numbers: range  # how many numbers there may be
    accepts_same: bool = False


def _convolution(numbers: Sequence[int], **settings: Any) -> Layer:
    channels, *kernel = numbers
    return Conv2D(channels, *([_size(kernel)] if kernel else []), **settings)


def _pool(kind: type[Layer]) -> Callable[..., Layer]:
    return lambda numbers, **settings: kind(*([_size(numbers)] if numbers else []), **settings)


_FORMS = {
    "conv": _Form(_convolution, "conv:16x5, conv:16x3x5 or conv:16x3s2p1", range(1, 4), accepts_same=True),
    "pool": _Form(_pool(MaxPool2D), "pool:2, pool:2x3 or pool:3s2p1", range(3)),
    "maxpool": _Form(_pool(MaxPool2D), "maxpool:2, maxpool:2x3 or maxpool:3s2p1", range(3)),
    "avgpool": _Form(_pool(AvgPool2D), "avgpool:2, avgpool:2x3 or avgpool:3s2p1", range(3)),
    "norm": _Form(lambda numbers, **settings: BatchNorm(**settings), "norm or norm:relu", range(1)),
}


def parse_layers(text: str) -> list[Layer]:
    """Return the layers that a text describes; the docstring of this module has its grammar.

    Parameters
    ----------
    text : str
        Layers, separated by commas.

    Returns
    -------
    list of Layer
        The activation of a layer that names none is None.

    Raises
    ------
    SettingsError
        If the text describes no layers. One line names the place in the text, what was found and what was expected.

    Examples
    --------
    >>> from fastnn.network.layers.notation import parse_layers
    >>> parse_layers("conv:6x5:tanh, 120")
    [Conv2D(channels=6, kernel=(5, 5), stride=(1, 1), padding=(0, 0), activation='tanh'), Dense(units=120, \
activation=None)]
    """
    layers, start = [], 0
    for part in text.split(","):
        word = part.strip()
        at = start + len(part) - len(part.lstrip()) + 1
        try:
            layers.append(_parse_layer(word))
        except SettingsError as error:
            found = f"layers have {short(word)} at character {at}" if text.strip() else f"layers are {short(text)}"
            raise SettingsError(f"{found}: {error}") from None
        start += len(part) + 1
    return layers


def format_layers(layers: Sequence[Layer]) -> str:
    """Return the text of layers, each with the name of its activation or None; equal layers give equal text.

    The text has no momentum or epsilon of `BatchNorm`.

    Examples
    --------
    >>> import fastnn
    >>> from fastnn.network.layers.notation import format_layers
    >>> format_layers([fastnn.Conv2D(6, 5, activation="tanh"), fastnn.MaxPool2D((2, 3)), fastnn.Dense(120)])
    'conv:6x5:tanh,pool:2x3,120'
    """
    return ",".join(map(_format_layer, layers))


def _parse_layer(word: str) -> Layer:
    """Return the layer of a text without commas; SettingsError without its place."""
    kind, *fields = word.split(":")
    if re.fullmatch(r"\d{1,18}", kind):
        return Dense(int(kind), _activation(fields, "120 or 120:tanh"))
    if kind not in _FORMS:
        *first, last = _FORMS
        expected = f"expected a number of units, {', '.join(first)} or {last}"
        raise SettingsError(f"{short(kind)} is no layer{did_you_mean(kind, _FORMS)}, {expected}" if word else expected)
    form = _FORMS[kind]
    sizes = fields.pop(0) if fields and not fields[0][:1].isalpha() else ""
    numbers, settings = _parse_sizes(sizes, form)
    if len(numbers) not in form.numbers:
        count = "1 size" if len(numbers) == 1 else f"{len(numbers) or 'no'} sizes"
        raise SettingsError(f"{kind} has {count}, expected {form.example}")
    return form.make(numbers, **settings, activation=_activation(fields, form.example))


def _parse_sizes(sizes: str, form: _Form) -> tuple[list[int], dict[str, Any]]:
    """Return the numbers of a layer, and its stride and padding by name."""
    if not sizes:
        return [], {}
    match = _SIZES.fullmatch(sizes)
    if match is None:
        raise SettingsError(f"{short(sizes)} is no size, expected {form.example}")
    settings: dict[str, Any] = {}
    for same, letter, numbers in _OPTION.findall(match[2]):
        name = "padding" if same else _OPTION_NAMES[letter]
        if name in settings or (same and not form.accepts_same):
            reason = f"{name} is given twice" if name in settings else "'same' is for convolutions"
            raise SettingsError(f"{short(sizes)}: {reason}, expected {form.example}")
        settings[name] = same or _size([int(number) for number in numbers.split("x")])
    return [int(number) for number in match[1].split("x")], settings


def _size(numbers: Sequence[int]) -> Any:
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


def _activation(fields: Sequence[str], example: str) -> str | None:
    """Return the activation in the last field of a layer; None without one."""
    if len(fields) > 1:
        raise SettingsError(f"{short(':'.join(fields))} is no activation, expected {example}")
    if fields and fields[0] not in ACTIVATIONS:
        meant, known = did_you_mean(fields[0], ACTIVATIONS), ", ".join(ACTIVATIONS)
        raise SettingsError(f"{short(fields[0])} is no activation{meant}, expected one of {known}")
    return fields[0] if fields else None


def _format_layer(layer: Layer) -> str:
    if isinstance(layer, Conv2D):
        text = f"conv:{layer.channels}x{pair_text(layer.kernel)}{_options(layer, (1, 1))}"
    elif isinstance(layer, (MaxPool2D, AvgPool2D)):
        name = "pool" if isinstance(layer, MaxPool2D) else "avgpool"
        text = f"{name}:{pair_text(layer.size)}{_options(layer, layer.size)}"
    elif isinstance(layer, BatchNorm):
        text = "norm"
    else:
        text = str(layer.units) if isinstance(layer, Dense) else layer.kind
    return text if layer.activation in (None, layer.default_activation) else f"{text}:{layer.activation}"


def _options(layer: Conv2D | MaxPool2D | AvgPool2D, usual_stride: Pair) -> str:
    stride = "" if layer.stride == usual_stride else f"s{pair_text(layer.stride)}"
    return stride + ("" if layer.padding == (0, 0) else f"p{pair_text(layer.padding)}")
