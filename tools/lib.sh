# Shared by tools/setup, tools/run and tools/test: quiet steps with a log behind them, and builds. Sourced, never run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LOG=$ROOT/build/setup.log

say() { printf '%s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Begins the log anew, unless a calling script has begun it already.
open_log() {
  mkdir -p "$ROOT/build"
  [ "${MOBULA_TOOLS_LOG_OPEN:-}" = 1 ] || : > "$LOG"
  export MOBULA_TOOLS_LOG_OPEN=1
}

# logged WHAT COMMAND...: runs quietly; a failure shows the last lines, says where the rest is, and ends the script.
logged() {
  local what=$1
  shift
  printf '\n=== %s: %s\n' "$what" "$*" >> "$LOG"
  if ! "$@" >> "$LOG" 2>&1 < /dev/null; then
    printf '\n%s failed. The last lines of %s:\n\n' "$what" "$LOG" >&2
    tail -n 30 "$LOG" >&2
    exit 1
  fi
}

# configure NAME OPTION...: the Meson build directory build/NAME with these options; free when it has them already.
configure() {
  local name=$1 dir=$ROOT/build/$1
  shift
  [ -f "$dir/build.ninja" ] && [ "$(cat "$dir/.options" 2> /dev/null)" = "$*" ] && return
  if [ -f "$dir/build.ninja" ]; then
    logged "configuring build/$name" meson configure "$dir" "$@"
  else
    rm -rf "$dir"
    logged "configuring build/$name" meson setup "$dir" "$ROOT" "$@"
  fi
  printf '%s' "$*" > "$dir/.options"
}

# compile NAME [TARGET...]: builds, and counts along on a terminal.
compile() {
  local name=$1 counter=
  shift
  printf '\n' >> "$LOG"
  if [ -t 2 ]; then
    # Ends with the shell it counts for, whichever way that ends.
    while kill -0 $$ 2> /dev/null && sleep 0.5; do
      printf '\r\033[K      %s' "$(tail -n 1 "$LOG" | grep -aoE '^\[[0-9]+/[0-9]+\]')" >&2
    done &
    counter=$!
  fi
  NINJA_STATUS='[%f/%t] ' logged "building build/$name" ninja -C "$ROOT/build/$name" "$@"
  if [ -n "$counter" ]; then
    kill "$counter"
    wait "$counter" 2> /dev/null || true  # 143: it was ended
    printf '\r\033[K' >&2
  fi
}
