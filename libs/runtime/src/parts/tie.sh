# Runs "$@", and ends it when whoever holds the other end of file descriptor 3 is gone (child.ts).
#
# TERM goes to the whole process group and is meant for the program: this shell only notes it (its `wait` returns
# early), the watcher ignores it. This shell waits for both, so that none of them is left as a zombie to whoever adopts
# orphans. Exits with the program's code.
stopped=
trap 'stopped=1' HUP INT TERM
"$@" 3<&- &
program=$!
# A signal that came before the program was there is meant for it, too.
[ -z "$stopped" ] || kill -TERM $program
(
  trap '' HUP INT TERM
  PATH=/usr/bin:/bin
  exec </dev/null >/dev/null 2>&1
  read -r _ <&3
  kill -TERM $program
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
    sleep 0.1
    kill -0 $program || break
  done
  kill -KILL 0
) &
watcher=$!
exec 3<&- </dev/null >/dev/null 2>&1
wait $program
code=$?
while kill -0 $program; do
  wait $program
  code=$?
done
kill -KILL $watcher
wait $watcher
exit $code
