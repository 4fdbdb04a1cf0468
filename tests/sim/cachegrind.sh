#!/usr/bin/env bash
# The cache replay against valgrind's cachegrind, on the same addresses. cachegrind.sh REPLAY_TRACE
# The program's own stack, plan and list of open units take a way here and there, so cachegrind must count no fewer misses
# than the replay, and no more than the replay of caches with one way less, but for those lines themselves.
set -euo pipefail
program=$1
command -v valgrind >/dev/null || { echo "skipped: valgrind is not installed (Debian, Ubuntu: valgrind)"; exit 77; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
slack=128  # lines of the program itself, brought in now and again; 8 to 101 were seen, of 800 to 21,000
failed=0

misses() {  # mode case: data misses of the first level, and of the last
  LD_BIND_NOW=1 valgrind --tool=cachegrind --cache-sim=yes --I1=32768,8,64 "--D1=$d1,$ways1,64" "--LL=$ll,$ways,64" \
    --cachegrind-out-file="$scratch/out" "$program" "$1" "$2" >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; exit 1; }
  awk '/^events:/ { for (i = 2; i <= NF; i++) column[$i] = i }
       /^summary:/ { print $column["D1mr"] + $column["D1mw"], $column["DLmr"] + $column["DLmw"] }' "$scratch/out"
}

compare() {  # what counted least most
  if [ "$2" -lt $(($3 - slack)) ] || [ "$2" -gt $(($4 + slack)) ]; then
    echo "FAILED: $1: cachegrind counts $2 misses, the replay $3, with a way less $4"
    failed=1
  else
    echo "$1: cachegrind counts $2 misses, the replay $3, with a way less $4"
  fi
}

for caches in "32768 8 131072 16" "16384 16 65536 8"; do
  read -r d1 ways1 ll ways <<<"$caches"
  for case in unfused row_fused row_fused+skip sign_split resident; do
    read -r touched1 touched2 < <(misses touch "$case")
    read -r idle1 idle2 < <(misses idle "$case")
    read -r least1 least2 < <("$program" predict "$case" "$d1" "$ways1" "$ll" "$ways")
    read -r most1 most2 < <("$program" predict "$case" $((d1 / ways1 * (ways1 - 1))) $((ways1 - 1)) $((ll / ways * (ways - 1))) $((ways - 1)))
    compare "$case, D1 of $d1 bytes" $((touched1 - idle1)) "$least1" "$most1"
    compare "$case, LL of $ll bytes" $((touched2 - idle2)) "$least2" "$most2"
  done
done
exit "$failed"
