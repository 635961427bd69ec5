"""`verify` as people run it: films with and without a signature, changed films, and what signing refuses."""

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from echo_cli.cli.app import run
from echo_cli.errors import UsageError
from echo_cli.files import sha256
from echo_cli.models.registry import MODELS
from echo_cli.render.provenance import sign
from echo_cli.video import ffmpeg, read, signing
from tests.render import stage
from tests.video.clips import write_clip
from tests.video.sounds import tone


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a storyboard in it, and the small model under the name `tiny`."""
    monkeypatch.setitem(MODELS.own, "tiny", stage.ROW)
    monkeypatch.chdir(tmp_path)
    Path("story.yaml").write_text("seed: 5\nscenes: [{id: a, prompt: a red ball, duration: 0.5s}]")
    return tmp_path


@pytest.fixture
def keys(place: Path) -> tuple[str, ...]:
    """Options for a certificate of our own."""
    pytest.importorskip("c2pa")
    from tests.video.certificates import chain

    cert, key = chain(place)
    return "--sign", str(cert), "--key", str(key)


def generate(*arguments: str) -> int:
    return run(["generate", "story.yaml", "--scale", "1", *arguments])


def verified(film: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict]:
    capsys.readouterr()
    code = run(["verify", film, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_film_without_a_signature_is_compared_with_its_manifest(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("-o", "film.mp4") == 0
    code, said = verified("film.mp4", capsys)
    assert (code, said["status"], said["signature"], said["wrong"]) == (0, "verified", None, [])
    assert said["facts"]["seed"] == 5
    for name in ("film.mp4", "film"):
        assert run(["verify", name]) == 0
        assert capsys.readouterr().out.startswith("film.mp4: verified\nmanifest: film.manifest.json\nsignature: none\n")
    film = bytearray(Path("film.mp4").read_bytes())
    film[len(film) // 2] ^= 1
    Path("film.mp4").write_bytes(film)
    code, said = verified("film.mp4", capsys)
    assert (code, said["status"]) == (2, "different") and "its sha256 differs" in said["wrong"][0]
    Path("film.manifest.json").unlink()
    code, said = verified("film.mp4", capsys)
    assert run(["verify", "film.mp4"]) == 2 and capsys.readouterr().out.startswith("film.mp4: cannot be verified\n")
    assert (code, said["status"]) == (2, "unknown")
    assert "neither a manifest beside the film nor a signature" in said["wrong"][0]
    assert run(["verify", "none.mp4"]) == 2 and "there is no such film" in capsys.readouterr().err


def test_a_film_that_cannot_be_read_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("film.mp4").symlink_to("nowhere.mp4")
    assert run(["verify", "film.mp4"]) == 2
    assert capsys.readouterr().err.startswith("film.mp4: cannot be read: No such file or directory\n")


def test_a_sequence_of_pictures_is_compared_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("-o", "f/%03d.png") == 0
    assert verified("f/%03d.png", capsys)[0] == 0
    Path("f/003.png").write_bytes(Path("f/000.png").read_bytes())
    assert verified("f/%03d.png", capsys)[0] == 2


@pytest.mark.parametrize("film", ["film.mp4", "film.mov", "film.gif"])
def test_a_signed_film_says_who_made_it_and_how(film: str, keys: tuple[str, ...],
                                                capsys: pytest.CaptureFixture[str]) -> None:
    import c2pa

    assert generate("-o", film, *keys) == 0
    assert sum(1 for _ in read.pictures(Path(film))) == 8
    code, said = verified(film, capsys)
    assert (code, said["wrong"], said["signature"]["state"]) == (0, [], "valid")
    assert said["signature"]["signer"] == "A signer, Tests"
    with c2pa.Reader(film) as reader:  # the library's own validator
        assert reader.get_validation_state() == "Valid"
        result = json.loads(reader.json())
    claim = result["manifests"][result["active_manifest"]]
    (action,) = next(each for each in claim["assertions"] if each["label"] == "c2pa.actions.v2")["data"]["actions"]
    assert action["action"] == "c2pa.created" and action["softwareAgent"]["name"] == "echo-cli"
    assert action["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    ours = next(each for each in claim["assertions"] if each["label"] == "org.echo-cli.film")["data"]
    identity = json.loads(Path("film.manifest.json").read_text())["identity"]
    assert (ours["storyboard"], ours["seed"], ours["model"]) == (identity["storyboard"], 5, "tiny")
    Path("film.manifest.json").unlink()
    assert verified(film, capsys)[1]["facts"]["seed"] == 5, "the signature speaks for itself"


def test_a_signed_film_that_was_changed_is_noticed(keys: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("-o", "film.mp4", *keys) == 0
    film = bytearray(Path("film.mp4").read_bytes())
    film[film.index(b"mdat") + 40] ^= 1
    Path("film.mp4").write_bytes(film)
    code, said = verified("film.mp4", capsys)
    assert code == 2 and said["signature"]["state"] == "invalid" and len(said["wrong"]) == 2
    assert run(["verify", "film.mp4"]) == 2
    assert "wrong: the signature does not fit the film: " in capsys.readouterr().err


def test_what_came_in_is_an_ingredient(keys: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    ffmpeg.run(["-f", "lavfi", "-i", "sine=440:duration=1", "-y", "tone.wav"])
    assert generate("-o", "film.mp4", "--audio", "tone.wav", *keys) == 0
    code, said = verified("film.mp4", capsys)
    assert (code, said["signature"]["ingredients"]) == (0, ["tone.wav"])


def test_a_sound_that_is_gone_when_the_film_is_signed_is_named(
    keys: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tone(Path("tone.wav"), 440, 1)
    library = signing.library

    def gone() -> ModuleType:
        Path("tone.wav").unlink(missing_ok=True)
        return library()

    job = stage.job(Path.cwd(), audio="tone.wav", sign_cert=keys[1], sign_key=keys[3])
    identity = job.identity("weights")
    Path("film.mp4").write_bytes(b"a film")
    monkeypatch.setattr(signing, "library", gone)
    with pytest.raises(UsageError, match="tone.wav: No such file or directory"):
        sign(job, identity, Path("film.mp4"))


def test_pictures_and_clips_of_every_kind_are_ingredients(keys: tuple[str, ...],
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    """Read with the library's own validator. A file's content counts, not its name, and what the library cannot read is
    named too."""
    import c2pa

    write_clip(Path("in/drone.mkv"), 48, 16, (96, 64))
    write_clip(Path("in/walk.mp4"), 48, 16, (96, 64))
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8))
    photo.save("in/photo.jpg")
    photo.save("in/really-a-jpeg.png", format="JPEG")
    tone(Path("in/rain.ogg"), 440, 1)
    Path("story.yaml").write_text("scenes:" + "".join(
        f"\n  - {{id: s{number}, prompt: a red ball, duration: 1.5s, {given}}}" for number, given in enumerate((
            "picture: in/photo.jpg, soundtrack: in/rain.ogg", "clip: in/drone.mkv", "clip: in/walk.mp4",
            "picture: in/really-a-jpeg.png", "picture: in/photo.jpg"))))
    assert generate("-o", "film.mp4", *keys) == 0
    with c2pa.Reader("film.mp4") as reader:
        assert reader.get_validation_state() == "Valid"
        result = json.loads(reader.json())
    claim = result["manifests"][result["active_manifest"]]
    assert {each["title"]: (each["format"], each["relationship"]) for each in claim["ingredients"]} == {
        "photo.jpg": ("image/jpeg", "inputTo"), "rain.ogg": ("audio/ogg", "inputTo"),
        "drone.mkv": ("video/x-matroska", "inputTo"), "walk.mp4": ("video/mp4", "inputTo"),
        "really-a-jpeg.png": ("image/jpeg", "inputTo")}
    assert len(claim["ingredients"]) == 5, "a file that comes in twice is named once"
    said = next(each for each in claim["assertions"] if each["label"] == "org.echo-cli.film")["data"]["inputs"]
    assert said == [{"name": name, "sha256": sha256(Path("in", name))} for name in (
        "photo.jpg", "rain.ogg", "drone.mkv", "walk.mp4", "really-a-jpeg.png")]
    assert run(["verify", "film.mp4"]) == 0
    assert "made from: photo.jpg, rain.ogg, drone.mkv, walk.mp4, really-a-jpeg.png\n" in capsys.readouterr().out


def test_a_signature_is_part_of_what_was_asked_for(keys: tuple[str, ...], monkeypatch: pytest.MonkeyPatch,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ECHO_SIGN_CERT", keys[1])
    monkeypatch.setenv("ECHO_SIGN_KEY", keys[3])
    assert generate("-o", "film.mp4") == 0 and generate("-o", "film.mp4") == 0
    assert "skipped" in capsys.readouterr().err and verified("film.mp4", capsys)[1]["signature"]
    monkeypatch.delenv("ECHO_SIGN_KEY")
    assert generate("-o", "film.mp4") == 2 and "--sign and --key need each other" in capsys.readouterr().err


def test_what_cannot_sign_is_refused_before_anything_is_rendered(keys: tuple[str, ...],
                                                                 capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (("-o", "film.webm", *keys), "film.webm cannot be signed"),
        (("-o", "a/%d.png", *keys), "a/%d.png cannot be signed, since a signature belongs to one file"),
        (("-o", "-", *keys), "standard output cannot be signed, since a signature belongs to one file"),
        (("-o", "a.mp4", *keys[:3], "none.pem"), "No such file"),
        (("-o", "a.mp4", "--sign", "none.pem", *keys[2:]), "--sign"),
        (("-o", "a.mp4", *keys[:3], keys[1]), "--key"),
        (("-o", "a.mp4", "--sign", keys[3], *keys[2:]), "cannot sign with it"),
    ):
        assert generate(*arguments) == 2, arguments
        assert message in capsys.readouterr().err
    assert not list(Path().glob("a.*"))


def test_without_the_extra_it_is_said_what_to_install(keys: tuple[str, ...], monkeypatch: pytest.MonkeyPatch,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("-o", "film.mp4", *keys) == 0
    monkeypatch.setitem(sys.modules, "c2pa", None)
    assert run(["verify", "film.mp4"]) == 3
    assert "pip install 'echo-cli[sign]'" in capsys.readouterr().err
    assert generate("-o", "other.mp4", *keys) == 3
    Path("film.mp4").unlink()
    assert generate("-o", "film.mp4") == 0 and run(["verify", "film.mp4"]) == 0, "nothing else needs it"


@pytest.mark.parametrize("name", ["story.yaml", "photo.png", "film.avi"])
def test_what_is_no_film_is_not_taken_for_an_output(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("photo.png").write_bytes(b"")
    assert run(["verify", name]) == 2
    message, hint = capsys.readouterr().err.splitlines()
    assert message == f"{name}: is not a film that echo writes"
    assert ".mp4" in hint and "%06d.png" in hint and "-o" not in hint
