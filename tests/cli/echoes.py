"""Two hundred and more ordinary uses of echo in Makefiles, installers, CI files and by hand: none of them is ours.

One call a line, its words as a shell would split them. The folder that they run in holds files and folders whose names
are everyday words, some of them the names of our commands.
"""

import shlex

FOLDERS = ("train", "batch", "films", "models", "bench")
FILES = {"notes.txt": "buy milk\n", "results": "0.93\n", "story.yaml": "version: 1\n", "Makefile": "all:\n"}

_EVERYDAY = r"""
hi
hello world
Hello, World!
-n hi
-e a\tb
-E a\tb
-n
-ne x\ny
-en done\n
-nE a
-e \x41\c rest
-- generate
--
-
-h
-v
-x
--nonsense
--help me
--version 1.2
--version of the tool
--show-completion of zsh
a "" " b  c"
"" generate
"   "
"é 🎬"
"generate "
Generate
GENERATE
Train
generated
trained
validated
modelsets
batches
benchmark
$HOME *
1
0
3.14
-1
-5
y
yes
no
OK
done
DONE
PASS
FAIL
"PATH=/usr/bin:/bin"
"deb http://deb.debian.org/debian stable main"
"127.0.0.1 localhost"
"export PATH=$PATH:/opt/bin"
"{\"key\": \"value\"}"
"{}"
"[]"
"<html></html>"
"#!/bin/sh"
"# a comment"
"::set-output name=version::1.2"
"::group::build"
"::endgroup::"
"##[section]Starting"
"name=value"
"user:password"
"a,b,c"
"a;b"
"a|b"
"a&b"
"2 + 2"
"scale=2; 10/3"
"SELECT 1;"
"quit"
"exit 0"
"Usage: $0 FILE"
"Error: no such file"
"warning: deprecated"
"[INFO] started"
"[1/3] compiling"
"100%"
"==> Installing"
"*** finished ***"
"-----"
"====="
"..."
"\\033[1mbold\\033[0m"
-e "\\033[31mred\\033[0m"
-e "a\\nb\\nc"
"C:\\temp\\new"
"tab\there"
"%s %d"
'single "double" inside'
"it's"
"$(date)"
"`date`"
story.yaml
notes.txt
films
results
./films
*.yaml
make all
built in 3 s
"""

_NAMES = r"""
train
batch
bench
models
doctor
generate
validate
inspect-cache
shell-init
train finished
train started
train --help
train --out run
train -o run
train story.yaml
train films
train --preset cpu --out films
train test split
train loss: 0.31
train batch films
train 3 of 10
"train finished"
batch done
batch 1 of 3
batch 12 finished
batch size 32
batch size: 32
batch notes.txt
batch notes.txt results
batch -n 3
batch --- start ---
batch Makefile story.yaml
batch story.yaml is ready
batch --size-of-step 3
batch ok
batch "" done
batch complete!
bench
bench finished
bench results
bench notes.txt
bench -o results
bench press 80 kg
bench films
bench batch films
bench: 12 ms
bench --time 3
bench memory
bench memory done
bench speed up
models
models list
models ready
models trained
models are in films
models films
models films notes.txt
models convert
models convert notes.txt
models check ok
models check tiny
models get tiny
models info tiny
models /data/models
models: 3
models -l
models --all
doctor who
doctor
doctor no
doctor strange notes.txt
doctor films
doctor -v
doctor --who
doctor Makefile
generate a report
generate docs
generate notes.txt
generate code from schema.json
generate schema.json types.ts
generate story.yaml and wait
generate -q
generate -o x
generate --output x
generate -n 5
generate story.yaml --dry
generate story.yaml other.yaml
generate ---
generate password
generate 3 keys
validate
validate ok
validate input
validate notes.txt
validate -n
validate ---
validate story.yaml ok
validate story.yaml ...
validate config.json ... done
validate schema
validate form "fields"
validate results --fast-path
inspect-cache
inspect-cache hit
inspect-cache miss rate 3%
inspect-cache notes.txt
inspect-cache -l
inspect-cache films notes.txt
import
import numpy as np
import os, sys
import notes.txt
import finished
export FOO=bar
export PATH=/opt/bin:/usr/bin
export -n FOO
export notes.txt
export of films done
shell-init done
shell-init bash
shell-init zsh ok
shell-init -l
"""

CALLS = [["two\nlines"], [], *(shlex.split(line) for line in (_EVERYDAY + _NAMES).splitlines() if line)]
