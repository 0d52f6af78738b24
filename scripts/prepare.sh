# Sourced by run and test: makes the virtual environment of the project, once, and says so on stderr.
# Wants: $project (the folder of the project), and $extra (which dependencies: "" or "[dev]").

say() { printf '%s\n' "$*" >&2; }

# A list as PATH is, without its relative and empty parts: they name whatever folder this was started in, and
# whoever owns that would run as the caller.
absolute_parts() {
  kept= rest=$1:
  while [ -n "$rest" ]; do
    case $rest in /*) kept=$kept${kept:+:}${rest%%:*} ;; esac
    rest=${rest#*:}
  done
  printf '%s' "$kept"
}

PATH=$(absolute_parts "$PATH")
export PATH="${PATH:-/usr/sbin:/usr/bin:/sbin:/bin}"
[ -z "${PYTHONPATH-}" ] || export PYTHONPATH="$(absolute_parts "$PYTHONPATH")"
case ${PYTHONHOME-} in /*) ;; *) unset PYTHONHOME ;; esac
case ${PYTHONPYCACHEPREFIX-} in /*) ;; *) unset PYTHONPYCACHEPREFIX ;; esac
# A program that is named by a path is meant from here.
python=${PYTHON:-python3}
case $python in /*) ;; */*) python=$PWD/$python ;; esac

# Debian packages: installed when root, named in one line otherwise.
want_packages() {
  missing=
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" != 0 ]; then
    say "needed and not installed; as root: apt-get install$missing"
    exit 2
  fi
  say "installing$missing"
  export DEBIAN_FRONTEND=noninteractive
  # The lists of a fresh machine are empty, and old ones name packages that are gone.
  # shellcheck disable=SC2086 # one word a package
  { apt-get install -y -qq --no-install-recommends $missing || {
      apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; }; } >"$project/.apt.log" 2>&1 </dev/null || {
    tail -n 5 "$project/.apt.log" >&2
    say "cannot install$missing: see $project/.apt.log"
    exit 2
  }
}

# What making the environment takes and is not here.
venv_packages() {
  command -v "$python" >/dev/null 2>&1 || { echo python3 python3-venv; return 0; }
  "$python" -I -c 'import ensurepip' 2>/dev/null || echo python3-venv
}

# Python is isolated (-I) throughout: no folder and no variable of the caller's adds to what it imports.
# The program writes no compiled modules itself: a run changes nothing.
compile_all() { "$venv/bin/python" -I -m compileall -q "$project/vdscheck" "$project/checks" >&2 || true; }

compile_what_is_new() {
  [ -n "$(find "$project/vdscheck" "$project/checks" -name '*.py' -newer "$venv/stamp" -print -quit)" ] || return 0
  [ -w "$venv/stamp" ] || return 0
  compile_all
  touch "$venv/stamp"
}

make_venv() {
  # pip starts Pythons of its own, which are not: they find an empty environment, in a folder of ours.
  ( cd "$project"; unset PYTHONPATH PYTHONHOME PYTHONSTARTUP; _make_venv )
}

_make_venv() {
  command -v "$python" >/dev/null 2>&1 || want_packages python3
  "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    say "$("$python" -V) is too old: 3.11 or newer is needed (Debian 12 has it)"
    exit 2
  }
  venv=$project/.venv
  stamp=$("$python" -I -c 'import sys; print(sys.version, sys.base_prefix)' | cat - "$project/pyproject.toml" | sha256sum)$extra
  # Already prepared, also with more than is asked for.
  case "$(cat "$venv/stamp" 2>/dev/null)" in "$stamp" | "${stamp}[dev]") compile_what_is_new; return 0 ;; esac
  "$python" -I -c 'import ensurepip' 2>/dev/null || want_packages python3-venv
  exec 9>"$project/.venv.lock"
  flock 9
  case "$(cat "$venv/stamp" 2>/dev/null)" in "$stamp" | "${stamp}[dev]") exec 9>&-; return 0 ;; esac
  say "preparing $venv (once)"
  [ ! -e "$venv/stamp" ] || [ "$(cut -c1-64 "$venv/stamp")" = "${stamp%% *}" ] || rm -rf "$venv"
  "$python" -I -m venv "$venv" >&2
  "$venv/bin/python" -I -m pip install --quiet --disable-pip-version-check --editable "$project$extra" >&2 || {
    say "pip could not install what $project/pyproject.toml names (no network?)"
    exit 2
  }
  compile_all
  printf '%s' "$stamp" >"$venv/stamp"
  exec 9>&-
}
