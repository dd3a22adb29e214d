"""The settings of a run: checks, replacement, and the options that are generated from them."""

import inspect
import json
import math
from dataclasses import fields

import numpy as np
import pytest

import fastnn
from fastnn import LBFGS, Adam, AdamW, EarlyStopping, SettingsError, TrainingConfig
from fastnn.optim.config import OPTIONS, LossConfig
from fastnn.optim.schedules import Constant, Cosine, OneCycle, WarmUp, get_schedule
from fastnn.runs.recipes import RECIPES

BAD = {
    "epochs": (0, "epochs is 0"),
    "batch_size": (2.5, "batch_size is 2.5"),
    "learning_rate": (0, "learning_rate is 0"),
    "schedule": ("linear", "schedule is 'linear'"),
    "warm_up": (-1, "warm_up is -1"),
    "optimizer": ("rmsprop", "optimizer is 'rmsprop'.*adamw"),
    "l2": (-1, "l2 is -1"),
    "dropout": (1, "dropout is 1"),
    "label_smoothing": (1.0, "label_smoothing is 1.0"),
    "augment": ("shft=1", r"augment is 'shft=1' \(did you mean shift"),
    "clip_norm": (0, "clip_norm is 0"),
    "clip_value": (-1.0, "clip_value is -1"),
    "max_norm": (0.0, "max_norm is 0"),
    "average": ("em", r"average is 'em' \(did you mean ema\?\)"),
    "frozen": (-1, "frozen is -1"),
    "early_stopping": (0, "patience is 0"),
    "shuffle": ("yes", "shuffle is 'yes'"),
    "slices": (6, "slices is 6, expected a power of 2"),
    "buffer_blocks": (0, "buffer_blocks is 0"),
    "memory": ("lots", r"memory is .lots.*512MB"),
    "divide_l2": (1, "divide_l2 is 1"),
    "seed": (-1, "seed is -1"),
    "backend": ("cuda", "backend is 'cuda'"),
    "threads": (0, "threads is 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_setting_out_of_range_is_refused_in_one_line(name):
    value, words = BAD[name]
    with pytest.raises(SettingsError, match=words) as caught:
        TrainingConfig(**{name: value})
    assert "\n" not in str(caught.value)


def test_every_setting_has_a_case_above():
    assert {each.name for each in fields(TrainingConfig)} == set(BAD)


def test_a_name_that_is_no_setting_is_refused_with_the_names_that_are():
    with pytest.raises(
        SettingsError, match=r"'epoch' is no setting \(did you mean epochs\?\), expected one of .*epochs"
    ):
        TrainingConfig().replace(epoch=3)
    with pytest.raises(SettingsError, match="'epochs' is no setting, expected one of l2"):
        LossConfig.from_settings({"epochs": 3})


@pytest.mark.parametrize(("settings", "words"), [
    ({"batch_size": 64}, "batch_size is 64 with L-BFGS, expected None"),
    ({"batch_size": None, "dropout": 0.1}, "dropout is 0.1 with L-BFGS, expected 0"),
    ({"batch_size": None, "schedule": "cosine"}, "schedule is 'cosine' with L-BFGS"),
    ({"batch_size": None, "warm_up": 1}, "warm_up is 1 with L-BFGS, expected 0"),
    ({"batch_size": None, "augment": "shift=1"}, "augment is 'shift=1' with L-BFGS, expected None"),
    ({"batch_size": None, "clip_norm": 1}, "clip_norm is 1.0 with L-BFGS, expected None"),
    ({"batch_size": None, "clip_value": 1}, "clip_value is 1.0 with L-BFGS, expected None"),
    ({"batch_size": None, "slices": 8}, "slices is 8 with L-BFGS, expected None"),
])  # fmt: skip
def test_lbfgs_refuses_what_changes_its_loss(settings, words):
    with pytest.raises(SettingsError, match=words):
        TrainingConfig(optimizer=LBFGS(), **settings)
    assert TrainingConfig(optimizer="lbfgs", batch_size=None, schedule=Constant()).update_rule == LBFGS()


def test_numpy_numbers_are_plain_settings():
    config = TrainingConfig(epochs=np.int64(3), learning_rate=np.float64(0.1), l2=np.float32(0.5))
    assert [type(value) for value in (config.epochs, config.learning_rate, config.l2)] == [int, float, float]
    assert config.to_dict()["learning_rate"] == 0.1


def test_a_decay_that_turns_the_sign_of_weights_is_refused():
    with pytest.raises(SettingsError, match="learning_rate \\* weight_decay is 3, expected at most 1"):
        TrainingConfig(optimizer=AdamW(weight_decay=30), learning_rate=0.1)


def test_one_cycle_rises_to_its_peak_and_falls_to_0():
    """An epoch has the factor of its middle: four epochs have those at 1/8, 3/8, 5/8 and 7/8 of the run."""
    factors = [OneCycle(rise=0.25, start=0.5)(epoch, 4) for epoch in range(4)]
    # 1/8 is half of the rise: the middle between start and 1. 3/8, 5/8 and 7/8 are 1/6, 1/2 and 5/6 of the fall.
    expected = [0.75, (1 + math.sqrt(3) / 2) / 2, 0.5, (1 - math.sqrt(3) / 2) / 2]
    assert factors == pytest.approx(expected)
    many = [OneCycle()(epoch, 1000) for epoch in range(1000)]
    assert many.index(max(many)) in (299, 300)
    assert 0.04 < many[0] < 0.0401
    assert 0 < many[-1] < 1e-5
    assert OneCycle(rise=0)(0, 1) == pytest.approx(0.5)
    assert OneCycle(rise=1, start=0)(0, 1) == pytest.approx(0.5)
    assert get_schedule("one-cycle:0.2,0.1") == OneCycle(0.2, 0.1)
    for text in ("one-cycle:1.1", "one-cycle:-0.1", "one-cycle:0.2,2", "one-cycle:nan"):
        with pytest.raises(SettingsError, match="of the one-cycle schedule is"):
            get_schedule(text)


def test_the_rate_warms_up_and_then_follows_the_schedule():
    config = TrainingConfig(learning_rate=0.4, schedule="cosine", warm_up=1)
    assert config.rate(0, 5) == pytest.approx(0.2)
    assert [config.rate(epoch, 5) for epoch in range(1, 5)] == [0.4 * Cosine()(epoch, 4) for epoch in range(4)]


def test_the_plain_form_holds_every_setting():
    config = TrainingConfig(early_stopping=3, optimizer=Adam(), l2=0.5)
    assert config.early_stopping == EarlyStopping(3)
    plain = config.to_dict()
    assert set(plain) == {each.name for each in fields(TrainingConfig)}
    assert plain["early_stopping"] == 3
    assert plain["optimizer"] == {"kind": "Adam", "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
    assert config.changed() == {"early_stopping": EarlyStopping(3), "optimizer": Adam(), "l2": 0.5}


def test_settings_survive_their_plain_form_but_for_functions():
    for settings in (
        {
            "optimizer": AdamW(weight_decay=0.1),
            "schedule": Cosine(0.1),
            "early_stopping": EarlyStopping(3, min_delta=0.1),
            "augment": fastnn.Augment(shift=2, noise=0.1),
        },
        {"optimizer": "nesterov", "schedule": WarmUp(2, OneCycle(0.2)), "batch_size": None, "shuffle": False},
        {"optimizer": LBFGS(0.1), "batch_size": None},
    ):
        config = TrainingConfig(**settings)
        assert TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    named = TrainingConfig(shuffle=np.flip).to_dict()
    assert named["shuffle"] == {"name": "numpy.flip"}
    with pytest.raises(SettingsError, match=r"shuffle was 'numpy\.flip', which is in no file"):
        TrainingConfig.from_dict(named)
    assert TrainingConfig.from_dict(named, shuffle=np.flip).shuffle is np.flip
    for value in ({"kind": "Popen"}, {"kind": "SGD"}, {"kind": ["SGD"]}, {}):
        with pytest.raises(SettingsError, match="optimizer is"):
            TrainingConfig.from_dict({"optimizer": value})


def test_the_signature_of_train_lists_every_setting_with_its_default():
    parameters = inspect.signature(fastnn.train).parameters
    for each in fields(TrainingConfig):
        assert parameters[each.name].default == each.default
    assert "settings" not in parameters


def test_options_are_settings_and_recipes_are_configurations():
    assert set(OPTIONS) < {each.name for each in fields(TrainingConfig)}
    for recipe in RECIPES.values():
        assert TrainingConfig(**recipe.settings) == recipe.config
