"""Tests of layers as text: what each text means, that every layer comes back, and where an error is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastnn.errors import SettingsError
from fastnn.network import ACTIVATIONS, AvgPool2D, BatchNorm, Conv2D, Dense, MaxPool2D
from fastnn.network.layers import LAYERS, format_layers, parse_layers

MEANINGS = {
    "120": Dense(120),
    "120:tanh": Dense(120, "tanh"),
    "conv:6": Conv2D(6),
    "conv:6x5": Conv2D(6, 5),
    "conv:16x3x5": Conv2D(16, (3, 5)),
    "conv:16x3s2": Conv2D(16, 3, stride=2),
    "conv:16x3x5s2x1p0x2:tanh": Conv2D(16, (3, 5), stride=(2, 1), padding=(0, 2), activation="tanh"),
    "conv:16x3p1s2": Conv2D(16, 3, stride=2, padding=1),
    "conv:16x3x5same": Conv2D(16, (3, 5), padding="same"),
    "conv:16x3:leaky_relu": Conv2D(16, 3, activation="leaky_relu"),
    "pool": MaxPool2D(),
    "pool:3": MaxPool2D(3),
    "pool:relu": MaxPool2D(activation="relu"),
    "maxpool:2x3s1p1x0:relu": MaxPool2D((2, 3), stride=1, padding=(1, 0), activation="relu"),
    "avgpool:3s2": AvgPool2D(3, stride=2),
    "norm": BatchNorm(),
    "norm:relu": BatchNorm("relu"),
}


@pytest.mark.parametrize("text", MEANINGS)
def test_a_text_means_a_layer(text):
    assert parse_layers(text) == [MEANINGS[text]]


def test_layers_are_separated_by_commas():
    expected = [Conv2D(6, 5), MaxPool2D(2), Conv2D(16, 5), MaxPool2D(2), Dense(120), Dense(84)]
    assert parse_layers("conv:6x5,pool:2,conv:16x5,pool:2,120,84") == expected
    assert parse_layers(" conv:6x5, pool:2 ,conv:16x5,\tpool:2,120,84\n") == expected
    assert format_layers(expected) == "conv:6x5,pool:2,conv:16x5,pool:2,120,84"


PAIRS = st.tuples(st.integers(1, 9), st.integers(1, 9))
NAMES = st.none() | st.sampled_from(list(ACTIVATIONS))


@st.composite
def windows(draw, kind, name):
    """Return a layer with a window, stride, padding and activation."""
    size = draw(PAIRS)
    most = [each - 1 if kind is Conv2D else each // 2 for each in size]
    padding = draw(st.tuples(*(st.integers(0, each) for each in most)))
    own = {"channels": draw(st.integers(1, 99))} if kind is Conv2D else {}
    return kind(**own, **{name: size}, stride=draw(PAIRS), padding=padding, activation=draw(NAMES))


EVERY_LAYER = {
    Dense: st.builds(Dense, st.integers(1, 10**6), NAMES),
    BatchNorm: st.builds(BatchNorm, NAMES),
    Conv2D: windows(Conv2D, "kernel"),
    MaxPool2D: windows(MaxPool2D, "size"),
    AvgPool2D: windows(AvgPool2D, "size"),
}


@given(layers=st.lists(st.one_of(*EVERY_LAYER.values()), min_size=1, max_size=6))
def test_every_layer_comes_back_from_its_text(layers):
    assert set(EVERY_LAYER) == set(LAYERS.values())
    text = format_layers(layers)
    # The default activation is not written.
    usual = [each.with_activation(None) if each.activation == each.default_activation else each for each in layers]
    assert parse_layers(text) == usual
    assert format_layers(usual) == text


@pytest.mark.parametrize(("text", "place", "part"), [
    ("", "layers are ''", "expected a number of units, conv, pool, maxpool, avgpool or norm"),
    ("120,,84", "layers have '' at character 5", "expected a number of units"),
    ("conv:6x5, pol:2,120", "'pol:2' at character 11", "'pol' is no layer (did you mean pool?), expected a number of"),
    ("cnov:6x5", "'cnov:6x5' at character 1", "did you mean conv?"),
    ("Conv:6x5", "at character 1", "did you mean conv?"),
    ("conv:6x5,batch_norm", "at character 10", "'batch_norm' is no layer, expected"),
    ("12x5", "'12x5'", "'12x5' is no layer"),
    ("-3", "'-3'", "'-3' is no layer"),
    ("9" * 30, "at character 1", "is no layer"),
    ("0", "'0'", "units of a dense layer is 0, expected a whole number, 1 or more"),
    ("conv", "'conv'", "conv has no sizes, expected conv:16x5, conv:16x3x5 or conv:16x3s2p1"),
    ("conv:tanh", "'conv:tanh'", "conv has no sizes"),
    ("conv:6x5x5x5", "'conv:6x5x5x5'", "conv has 4 sizes, expected conv:16x5"),
    ("conv:6*5", "'conv:6*5'", "'6*5' is no size, expected conv:16x5"),
    ("conv:6x", "'conv:6x'", "'6x' is no size"),
    ("conv:6x5z2", "'conv:6x5z2'", "'6x5z2' is no size"),
    ("conv:6x5s2s3", "'conv:6x5s2s3'", "stride is given twice"),
    ("conv:6x5samep1", "'conv:6x5samep1'", "padding is given twice"),
    ("conv:6x4same", "'conv:6x4same'", "padding of a conv2d layer is 'same' with kernel (4, 4), expected odd"),
    ("conv:6x5p5", "'conv:6x5p5'", "padding of a conv2d layer is (5, 5), expected at most 4"),
    ("conv:0x5", "'conv:0x5'", "channels of a conv2d layer is 0"),
    ("pool:2same", "'pool:2same'", "'same' is for convolutions, expected pool:2, pool:2x3 or pool:3s2p1"),
    ("pool:2x2x2", "'pool:2x2x2'", "pool has 3 sizes"),
    ("avgpool:0", "'avgpool:0'", "size of an avg_pool2d layer is 0"),
    ("norm:3", "'norm:3'", "norm has 1 size, expected norm or norm:relu"),
    ("120:tahn", "'120:tahn'", "'tahn' is no activation (did you mean tanh?), expected one of relu, leaky_relu"),
    ("120:", "'120:'", "'' is no activation, expected one of"),
    ("120:tanh:relu", "'120:tanh:relu'", "'tanh:relu' is no activation, expected 120 or 120:tanh"),
    ("a\nb", "layers have", "is no layer"),
    ("x" * 10_000, "at character 1", "is no layer"),
])  # fmt: skip
def test_an_error_has_the_place_in_the_text(text, place, part):
    with pytest.raises(SettingsError) as caught:
        parse_layers(text)
    message = str(caught.value)
    assert place in message
    assert part in message
    assert len(message.splitlines()) == 1
    assert len(message) < 300
