"""`shell-init`: the lines a shell reads so that its own `echo` passes our commands on, and completes them."""

import os
from enum import StrEnum
from typing import Annotated

import typer

from echo_cli.cli.options import Debug
from echo_cli.commands import COMMANDS, OPTIONS
from echo_cli.errors import UsageError


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


# `@ours@` stands for the words that are ours, `@words@` for the same between spaces.
_FUNCTION = """\
echo() {
  case "${1-}" in
    @ours@) command echo-cli "$@" ;;
    *) builtin echo "$@" ;;
  esac
}
"""

# The tool is asked only where it has something to say: completing after any other `echo` must stay instant.
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
    switch "$argv[1]"
        case @words@
            command echo-cli $argv
        case '*'
            builtin echo $argv
    end
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
    """What `shell` should read at its start."""
    text, line, file = _SNIPPETS[shell]
    ours = (*COMMANDS, *OPTIONS)
    return f"# echo-cli for {shell}. In {file}:  {line}\n" + text.replace("@ours@", "|".join(ours)).replace(
        "@words@", " ".join(ours))


def shell_init(
    shell: Annotated[Shell | None, typer.Argument(
        metavar="SHELL", help="bash, zsh or fish; the one you are in when left out.", show_default=False)] = None,
    debug: Debug = False,
) -> None:
    """Print what makes a shell's echo reach this tool.

    In bash, zsh and fish, echo is built in and would print our commands. The printed function sends them here, leaves
    every other echo alone, and adds completion. Put this line into the shell's start file:

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
                         f"{', '.join(Shell)}", hint="Name one: echo-cli shell-init bash. echo-cli works in any shell.")
    return Shell(name)
