"""`shell-init`: the lines that make a shell's `echo` pass our calls on, and complete them.

The shell knows our commands by name; whether a call is one of ours, the tool decides by the rule of the `echo`
script."""

import os
from enum import StrEnum
from typing import Annotated

import typer

from echo_cli.cli.options import Debug
from echo_cli.commands import ALWAYS_ECHOED, ASKED, COMMANDS, NOT_OURS, OPTIONS
from echo_cli.errors import UsageError


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


# `@commands@` and `@options@` stand for our words as a pattern, `@words@` for all of them separated by spaces. A
# command's name alone proves nothing; with more words after it, the tool is asked, and answers `@no@` to be passed by.
_FUNCTION = """\
echo() {
  case "${#}:${1-}" in
    1:@options@) command echo-cli "$@"; return ;;
    1:*) ;;
    *:@commands@)
      @asked@=1 command echo-cli "$@" && return
      set -- $? "$@"
      [ "$1" -eq @no@ ] || return "$1"
      shift ;;
  esac
  builtin echo "$@"
}
"""

# The tool is asked only where it can help: completion after any other `echo` must stay instant.
_BASH = _FUNCTION + """\
_echo_cli_complete() {
  case "${COMP_CWORD}:${1##*/}:${COMP_WORDS[1]-}" in
    1:*|*:echo-cli:*) ;;
    *) case " @words@ " in *" ${COMP_WORDS[1]} "*) ;; *) return 0 ;; esac ;;
  esac
  local IFS=$'\\n'
  COMPREPLY=( $(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" _ECHO_CLI_COMPLETE=complete_bash \\
    command echo-cli 2>/dev/null) )
}
complete -o default -F _echo_cli_complete echo echo-cli
"""

_ZSH = _FUNCTION + """\
_echo_cli_complete() {
  if (( CURRENT > 2 )) && [[ ${words[1]:t} == echo && " @words@ " != *" ${words[2]} "* ]]; then
    _default
    return
  fi
  eval "$(_TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _ECHO_CLI_COMPLETE=complete_zsh command echo-cli 2>/dev/null)"
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _echo_cli_complete echo echo-cli
"""

_FISH = """\
function echo
    if test (count $argv) -eq 1; and contains -- $argv[1] @options@
        command echo-cli $argv
        return
    end
    if test (count $argv) -gt 1; and contains -- $argv[1] @commands@
        @asked@=1 command echo-cli $argv
        set -l code $status
        test $code -eq @no@; or return $code
    end
    builtin echo $argv
end
function __echo_cli_complete
    set -l line (commandline -cp)
    set -l words (commandline -opc)
    if test (count $words) -gt 1; and test $words[1] = echo; and not contains -- $words[2] @words@
        return 1
    end
    env _ECHO_CLI_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=$argv[1] _TYPER_COMPLETE_ARGS="$line" \\
        echo-cli 2>/dev/null
end
for name in echo echo-cli
    complete --command $name --no-files --condition "__echo_cli_complete is-args" \\
        --arguments "(__echo_cli_complete get-args)"
end
"""

_SNIPPETS = {
    Shell.BASH: (_BASH, 'eval "$(echo-cli shell-init bash)"', "~/.bashrc"),
    Shell.ZSH: (_ZSH, 'eval "$(echo-cli shell-init zsh)"', "~/.zshrc"),
    Shell.FISH: (_FISH, "echo-cli shell-init fish | source", "~/.config/fish/config.fish"),
}


def snippet(shell: Shell) -> str:
    """The lines for the start-up file of `shell`."""
    text, line, file = _SNIPPETS[shell]
    commands = [command for command in COMMANDS if command != ALWAYS_ECHOED]
    between = " " if shell is Shell.FISH else "|"
    words = {"options": between.join(OPTIONS).replace("|", "|1:"),
             "commands": between.join(commands).replace("|", "|*:"),
             "words": " ".join((*commands, *OPTIONS)), "asked": ASKED, "no": str(NOT_OURS)}
    for name, value in words.items():
        text = text.replace(f"@{name}@", value)
    return f"# Makes {shell}'s echo reach echo-cli. In {file}:  {line}\n{text}"


def shell_init(
    shell: Annotated[Shell | None, typer.Argument(
        metavar="SHELL", help="bash, zsh or fish; by default the shell that runs this.", show_default=False)] = None,
    debug: Debug = False,
) -> None:
    """Print the function that makes a shell's echo reach this tool.

    In bash, zsh and fish, echo is built in and would print our commands. The printed function sends a call here if its
    first word is a command and the rest are that command's arguments and name a storyboard, trace, film or folder, or
    an option; it leaves every other echo alone, and `echo train` always. It adds completion. Put this line into the
    shell's start-up file:

    \b
    bash, zsh:  eval "$(echo-cli shell-init)"
    fish:       echo-cli shell-init fish | source
    """
    print(snippet(shell or _current()), end="")


def _current() -> Shell:
    import shellingham

    try:
        name = shellingham.detect_shell()[0]
    except shellingham.ShellDetectionFailure:
        name = os.path.basename(os.environ.get("SHELL", ""))
    if name not in tuple(Shell):
        raise UsageError(f"no snippet for {f'the shell {name!r}' if name else 'this shell'}; there are "
                         f"{', '.join(Shell)}",
                         hint="Name one, as in `echo-cli shell-init bash`. The command `echo-cli` works in any shell.")
    return Shell(name)
