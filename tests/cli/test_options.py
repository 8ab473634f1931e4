import click
import pytest
from click.testing import CliRunner

from skdejavid.cli.options import (
    Assignment,
    as_options,
    clip_options,
    encoder_options,
    with_options,
)


def parse(options, arguments):
    """Return the parameters that a command with these options gets."""
    found = {}
    command = click.command()(options(lambda **given: found.update(given)))
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    return found if result.exit_code == 0 else result.output


@pytest.mark.parametrize(
    ("text", "length"),
    [("16", 16), ("0.2", 0.2), ("1.5s", "1.5s"), ("1e-1", 0.1), ("wide", "wide")],
)
def test_a_length_is_a_number_of_frames_a_fraction_or_seconds(text, length):
    found = parse(clip_options, ["--width", text, "--width", 8, "--stride", text])
    assert found["width"] == (length, 8)
    assert found["stride"] == length
    assert type(found["stride"]) is type(length)


@pytest.mark.parametrize(
    ("text", "pair"), [("a=1", ("a", "1")), ("a=b=c", ("a", "b=c")), ("a=", ("a", ""))]
)
def test_an_assignment_is_split_at_its_first_equals_sign(text, pair):
    assert parse(click.option("--set", "pair", type=Assignment()), ["--set", text])["pair"] == pair


def test_an_assignment_without_equals_sign_is_refused():
    option = click.option("--set", type=Assignment())
    assert "expected NAME=VALUE, got 'a'" in parse(option, ["--set", "a"])


def test_options_that_are_not_given_say_so():
    """Then the extractor's own defaults hold."""
    found = parse(with_options(clip_options, encoder_options), [])
    assert {value for value in found.values() if value != ()} == {None}
    assert {"width", "stride", "clip_length", "mean", "std"} <= set(found)
    assert {"encoder", "processor", "encoder_id", "n_jobs"} <= set(found)


def test_options_are_listed_in_their_order():
    options = with_options(click.option("--one"), click.option("--two"), click.option("--three"))
    command = click.command()(options(lambda **given: None))
    assert [parameter.name for parameter in command.params] == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "If it takes frames, set layout='BCHW'; check",
            "If it takes frames, set --layout BCHW; check",
        ),
        ('on batch_size=16, with layout="BCHW": N', "on --batch-size 16, with --layout BCHW: N"),
        ("Set a smaller batch_size.", "Set a smaller --batch-size."),
        ("check also clip_length, frame_size.", "check also --clip-length, --frame-size."),
        ("choose n_jobs=2 or width=0.5", "choose --jobs 2 or --width 0.5"),
        ("the width and the head of a layout", "the width and the head of a layout"),
        ("no file /data/frame_size/width=8/a.mp4", "no file /data/frame_size/width=8/a.mp4"),
        ("'batch_size' has key=3, my_width=8", "'batch_size' has key=3, my_width=8"),
        ("the folder frame_size/a, frame_size.py", "the folder frame_size/a, frame_size.py"),
        ("n_epochs=5 is no option", "n_epochs=5 is no option"),
    ],
)
def test_messages_name_options_of_the_command_line(message, expected):
    command = click.command()(encoder_options(clip_options(lambda **given: None)))
    assert as_options(message, command) == expected
