"""The commands by name, where each lives and what it does in a line. Imports nothing, so that `echo` stays quick."""

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("echo_cli.cli.init:init", "Write a first storyboard."),
    "generate": ("echo_cli.cli.generate:generate", "Render the film of a storyboard."),
    "batch": ("echo_cli.cli.batch:batch", "Render the films of many storyboards."),
    "validate": ("echo_cli.cli.validate:validate", "Check storyboards and show their timeline, without a model."),
    "inspect-cache": ("echo_cli.cli.inspect_cache:inspect_cache", "Show what the memory held, block by block."),
    "open": ("echo_cli.cli.open_:open_", "Show a film and its report in the browser."),
    "scenes": ("echo_cli.cli.scenes:scenes", "Show, merge and prune files of scenes."),
    "verify": ("echo_cli.cli.verify:verify", "Check a film against its manifest and its signature."),
    "import": ("echo_cli.cli.import_:import_", "Convert files of other tools to storyboards."),
    "export": ("echo_cli.cli.export:export", "Write a film's timeline for other tools."),
    "models": ("echo_cli.cli.models:models", "List, describe, check, convert and download models."),
    "train": ("echo_cli.cli.train:train", "Train the embedded model from nothing, reproducibly."),
    "bench": ("echo_cli.cli.bench.commands:bench", "Measure memory and speed, side by side."),
    "doctor": ("echo_cli.cli.doctor:doctor", "Show what this machine can run, and what is missing."),
    "shell-init": ("echo_cli.cli.shell_init:shell_init", "Print a function that makes echo reach this tool."),
}

# First words that are not commands, yet ours when the tool is called as `echo`.
OPTIONS = ("--help", "--version", "--install-completion", "--show-completion")

ALWAYS_ECHOED = "train"  # an everyday word, and a command that would run for hours

# How a shell's own `echo` asks the tool whether a call is meant for it: a variable set for the tool alone, and the exit
# code that says no.
ASKED = "_ECHO_CLI_ASKED"
NOT_OURS = 113
