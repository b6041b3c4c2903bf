# Sourced by the demos: what they say, and the commands that they show.

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
run() { # a command that is shown, without the signs of progress that a terminal gets
    printf '\033[36m$ %s\033[0m\n' "$*"
    "$@" 2>&1 | cat
}
