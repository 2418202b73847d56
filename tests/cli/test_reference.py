"""Every setting is declared once: its description, flag and help come from there, and so does docs/configuration.md."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import get_args

import click
import pytest

from stream_i3d.cli.app import app
from stream_i3d.cli.options import SETTINGS, parameter_of
from stream_i3d.cli.reference import make_reference
from stream_i3d.config import Config
from stream_i3d.settings import Setting, settings_of
from stream_i3d.sink_settings import SinkSettings
from stream_i3d.training.config import TrainConfig

ROOT = Path(__file__).parents[2]
LISTS = {"cameras", "sinks"}
ALL = [*settings_of(Config), *settings_of(TrainConfig)]
ALL += [one for kind in get_args(SinkSettings) for one in settings_of(kind, f"{kind.__struct_config__.tag}.")]


def test_the_reference_in_the_documentation_is_up_to_date() -> None:
    written = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == make_reference(), "run: stream-i3d config reference > docs/configuration.md"


@pytest.mark.parametrize("one", [one for one in ALL if one.key not in LISTS], ids=lambda one: one.key)
def test_every_setting_says_what_it_is(one: Setting) -> None:
    assert one.description.endswith("."), f"{one.key} has no description"


def test_no_flag_stands_for_two_settings() -> None:
    flags = Counter(one.flag for one in SETTINGS.values() if one.flag)
    assert [flag for flag, count in flags.items() if count > 1] == []


@pytest.mark.parametrize("one", [one for one in SETTINGS.values() if one.flag], ids=lambda one: one.key)
def test_run_has_every_flag_with_its_description(one: Setting) -> None:
    run = app.get_command(click.Context(app), "run")
    assert run is not None
    [option] = [parameter for parameter in run.params if parameter.name == parameter_of(one.key)]
    assert isinstance(option, click.Option)
    assert {*option.opts, *option.secondary_opts} == set(one.flag.split("/"))
    assert str(option.help).startswith(one.description.rstrip("."))
    assert option.default is None, "what the file says counts where the flag is not given"
