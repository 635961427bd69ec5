"""The shell snippets, read by real shells: our commands, every other echo, and completion."""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from echo_cli.cli import app
from echo_cli.cli.shell_init import Shell, snippet
from echo_cli.commands import ALWAYS_ECHOED, COMMANDS, OPTIONS

SCRIPTS = Path(sysconfig.get_path("scripts"))
SHELLS = {shell: shutil.which(shell) for shell in Shell}
BARE = {Shell.BASH: ["--norc", "--noprofile"], Shell.ZSH: ["-f"], Shell.FISH: ["--no-config"]}

each_shell = pytest.mark.parametrize(
    "shell",
    [
        pytest.param(shell, marks=pytest.mark.skipif(path is None, reason=f"no {shell} here"))
        for shell, path in SHELLS.items()
    ],
)


def tell(shell: Shell, script: str, home: Path) -> str:
    """What `shell` prints for `script` after the snippet; echo-cli is replaced by a script that shows its arguments, or
    declines a call that names no storyboard and no option."""
    fake = home / "bin" / "echo-cli"
    fake.parent.mkdir(exist_ok=True)
    fake.write_text("#!/bin/sh\n"
                    'case "${_ECHO_CLI_ASKED-}:$*" in 1:*.yaml*|1:*--*|:*) ;; *) exit 113 ;; esac\n'
                    'printf "tool"; for word; do printf " <%s>" "$word"; done; printf "\\n"\n'
                    'case "$2" in lacking.yaml) exit 2 ;; esac\n')
    fake.chmod(0o755)
    (fake.parent / "echo").write_text("#!/bin/sh\nprintf 'not the builtin'\n")
    (fake.parent / "echo").chmod(0o755)
    done = subprocess.run([SHELLS[shell], *BARE[shell], "-c", snippet(shell) + script], capture_output=True, text=True,
                          env={"PATH": f"{fake.parent}:{os.environ['PATH']}", "HOME": str(home), "TERM": "dumb"})
    assert done.returncode == 0, done.stderr
    return done.stdout


@each_shell
def test_our_commands_go_to_the_tool_word_for_word(shell: Shell, tmp_path: Path) -> None:
    assert (
        tell(shell, "echo generate 'my film.yaml' '' -o '*'\n", tmp_path)
        == "tool <generate> <my film.yaml> <> <-o> <*>\n"
    )
    assert tell(shell, "".join(f"echo {word}\n" for word in OPTIONS), tmp_path) == "".join(
        f"tool <{word}>\n" for word in OPTIONS
    )
    commands = [command for command in COMMANDS if command != ALWAYS_ECHOED]
    assert tell(shell, "".join(f"echo {word} --help\n" for word in commands), tmp_path) == "".join(
        f"tool <{word}> <--help>\n" for word in commands
    )
    code = "$status" if shell is Shell.FISH else "$?"
    assert tell(shell, f"echo validate lacking.yaml\necho {code}\n", tmp_path) == "tool <validate> <lacking.yaml>\n2\n"


@each_shell
def test_every_other_echo_is_the_shells_own(shell: Shell, tmp_path: Path) -> None:
    script = "echo hi there\necho\necho -n x\necho 'generate it'\necho Generate\necho '' generate\n"
    assert tell(shell, script, tmp_path) == "hi there\n\nxgenerate it\nGenerate\n generate\n"
    for word in COMMANDS:
        said = f"{word}\n{word} finished\n"
        assert tell(shell, f"echo {word}\necho {word} finished\n", tmp_path) == said
    said = "echo train --help\necho train a.yaml\necho --help me\n"
    assert tell(shell, said, tmp_path) == said.replace("echo ", "")


@pytest.mark.skipif(not SHELLS[Shell.BASH], reason="no bash here")
def test_the_tool_tells_a_shell_what_is_not_for_it() -> None:
    script = (f"{snippet(Shell.BASH)}set -eu\necho validate finished\necho -n doctor who\necho train --help\n"
              "echo validate missing.yaml || echo code $?\n")
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True,
                          env={**os.environ, "PATH": f"{SCRIPTS}:{os.environ['PATH']}"})
    assert done.stdout == "validate finished\ndoctor whotrain --help\ncode 2\n"
    assert "missing.yaml" in done.stderr and "not for" not in done.stderr


@pytest.mark.skipif(not SHELLS[Shell.BASH], reason="no bash here")
@pytest.mark.parametrize(("words", "offered"), [
    (["echo-cli", "gen"], "generate"), (["echo", "gen"], "generate"), (["echo", "validate", "--sch"], "--schema"),
    (["echo-cli", "validate", "--model", "t"], "tiny"), (["echo-cli", "shell-init", "z"], "zsh"),
    (["echo", "other", "--"], ""),
], ids=" ".join)
def test_bash_completes(words: list[str], offered: str) -> None:
    script = (f"{snippet(Shell.BASH)}\nCOMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}\n"
              f"_echo_cli_complete {words[0]}\nprintf '%s\\n' \"${{COMPREPLY[*]-}}\"")
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True,
                          env={**os.environ, "PATH": f"{SCRIPTS}:{os.environ['PATH']}"})
    assert done.stdout.split() == offered.split()


@pytest.mark.skipif(not SHELLS[Shell.FISH], reason="no fish here")
@pytest.mark.parametrize(("line", "offered"), [
    ("echo-cli gen", "generate"), ("echo gen", "generate"), ("echo-cli validate --model t", "tiny"),
])
def test_fish_completes(line: str, offered: str, tmp_path: Path) -> None:
    done = subprocess.run(["fish", "--no-config", "-c", f"{snippet(Shell.FISH)}\ncomplete --do-complete '{line}'"],
                          capture_output=True, text=True,
                          env={**os.environ, "PATH": f"{SCRIPTS}:{os.environ['PATH']}", "HOME": str(tmp_path)})
    assert [row.split("\t")[0] for row in done.stdout.splitlines()] == [offered]


@pytest.mark.skipif(not SHELLS[Shell.ZSH], reason="no zsh here")
def test_zsh_completes(tmp_path: Path) -> None:
    # Outside its line editor zsh has nothing to complete for: what would be offered is caught instead.
    script = (f"{snippet(Shell.ZSH)}\n_arguments() {{ print -r -- $@ }}; _default() {{ print default }}\n"
              "words=(echo gen); CURRENT=2; _echo_cli_complete\n"
              "words=(echo other x); CURRENT=3; _echo_cli_complete\n")
    done = subprocess.run(["zsh", "-f", "-c", script], capture_output=True, text=True,
                          env={**os.environ, "PATH": f"{SCRIPTS}:{os.environ['PATH']}", "HOME": str(tmp_path)})
    assert done.stderr == ""
    offered, other = done.stdout.splitlines()
    assert "generate" in offered and "validate" not in offered
    assert other == "default"


def test_the_shell_is_found_or_asked_for(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import shellingham

    for name in Shell:
        monkeypatch.setattr(shellingham, "detect_shell", lambda name=name: (str(name), f"/bin/{name}"))
        assert app.run(["shell-init"]) == 0
        assert capfd.readouterr().out == snippet(name)
    monkeypatch.setattr(shellingham, "detect_shell", lambda: ("tcsh", "/bin/tcsh"))
    assert app.run(["shell-init"]) == 2
    assert "no snippet for the shell 'tcsh'; there are bash, zsh, fish" in capfd.readouterr().err
