"""The eye: what it is shown, what it reads, and that it comes whole, alone and only when somebody asks for it."""

import itertools
import json
import re
from pathlib import Path

import pytest
import torch

from echo_cli.errors import MissingError
from echo_cli.models.tiny.parts import part_path
from echo_cli.world import eye


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    eye.save_eye(tmp_path, eye.Eye(), {"seed": 3})
    return tmp_path


def test_a_clip_is_four_pictures_and_clips_are_spread_over_the_scene():
    for count, opens in (
        (9, [0]),
        (12, [0]),
        (13, [0]),
        (25, [0, 12]),
        (49, [0, 12, 24, 36]),
        (81, [0, 11, 23, 34, 45, 57, 68]),
    ):
        numbered = torch.arange(count).float()[:, None, None, None].expand(-1, 3, 128, 192)
        seen = eye.clips_of(numbered)[:, :, 0, 0, 0].tolist()
        assert [clip[0] for clip in seen] == opens
        assert all(clip[-1] - clip[0] == min(eye.REACH, count) - 1 and clip[-1] < count for clip in seen)
        assert all(2 <= b - a <= 4 for clip in seen for a, b in itertools.pairwise(clip))
    with pytest.raises(ValueError, match="8 pictures"):
        eye.clips_of(torch.zeros(8, 3, 128, 192))


def test_pictures_of_any_size_are_seen_alike():
    torch.manual_seed(1)
    small = torch.rand(9, 3, eye.HEIGHT, eye.WIDTH)
    large = small.repeat_interleave(5, 2).repeat_interleave(5, 3)
    assert torch.allclose(eye.clips_of(small), eye.clips_of(large), atol=1e-5)


def test_a_bag_holds_what_is_said_in_any_order_and_words():
    said = eye.bag("A red ball rolls to the left in the city at night")
    assert sorted(eye.CONCEPTS[i] for i in said.nonzero()[:, 0]) == ["ball", "city", "left", "night", "red"]
    assert torch.equal(
        said, eye.bag("At midnight, downtown: a crimson sphere moves leftwards, the camera pans, wobbling")
    )
    assert not eye.bag("the camera pans over a zyx").any()


def test_directions_are_of_length_one_and_tell_apart():
    torch.manual_seed(0)
    fresh = eye.Eye()
    seen = fresh.see(torch.rand(3, eye.VIEWS, 3, eye.HEIGHT, eye.WIDTH))
    read = fresh.read(torch.eye(len(eye.CONCEPTS)))
    for directions in (seen, read):
        assert torch.allclose(directions.norm(dim=1), torch.ones(len(directions)), atol=1e-5)
    assert (read @ read.T - torch.eye(len(read))).max() < 0.999


def test_what_is_saved_is_loaded(folder):
    torch.manual_seed(0)
    want = eye.Eye().state_dict()
    for name, value in eye.load_eye(folder=folder).state_dict().items():
        assert torch.allclose(value, want[name], atol=2e-3), name
    assert json.loads((folder / "index.json").read_text())["trained"] == {"seed": 3}


def test_a_missing_or_changed_eye_is_refused(folder):
    path = part_path(folder, "eye")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(MissingError, match="damaged or was replaced"):
        eye.load_eye(folder=folder)
    (folder / "index.json").write_text("{}")
    with pytest.raises(MissingError, match="index of the eye"):
        eye.load_eye(folder=folder)
    path.unlink()
    with pytest.raises(MissingError, match="missing"):
        eye.check(folder)


def test_the_packaged_eye_is_whole_and_small():
    result = eye.load_eye()
    assert all(torch.isfinite(value).all() for value in result.state_dict().values())
    assert sum(path.stat().st_size for path in eye.WEIGHTS.iterdir()) <= 2e6


def test_only_who_judges_or_trains_knows_the_eye():
    package = Path(eye.__file__).parents[1]
    knowing = {
        path.relative_to(package).parts[0]
        for path in package.rglob("*.py")
        if path != Path(eye.__file__)
        and re.search(r"world(\.| import (.*\b)?)eye\b", path.read_text(encoding="utf-8"))
    }
    assert {"bench", "training"} <= knowing <= {"bench", "training", "cli", "world"}
